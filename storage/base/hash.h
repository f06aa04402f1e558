/* hash.h: from a key to its shard and tag: XXH3-128 (xxhash.com), seeded by the store's secret. */
#ifndef CACHECASK_STORAGE_BASE_HASH_H
#define CACHECASK_STORAGE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct key_hash {
    uint64_t tag;
    uint32_t shard_bits; /* the low ones choose the shard; 16 are kept in hint files */
};

struct key_hash hash_key(const char *key, size_t len, uint64_t seed);

#endif
