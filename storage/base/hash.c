#define XXH_INLINE_ALL
#include "storage/base/hash.h"

#include <xxhash.h>

struct key_hash hash_key(const char *key, size_t len, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(key, len, seed);
    return (struct key_hash){.tag = hash.low64, .shard_bits = (uint32_t)hash.high64 & 0xffff};
}
