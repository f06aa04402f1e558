/* sealed.h: record headers whose checksums are right and whose fields may be anything.
 *
 * Bytes that a checksum guards are refused at once, and a fuzzer that does not know it never comes
 * further. So it is put right here, from docs/format.md and not by record_seal, which refuses to
 * write nonsense.
 */
#ifndef CACHECASK_TESTS_FUZZ_SEALED_H
#define CACHECASK_TESTS_FUZZ_SEALED_H

#define XXH_INLINE_ALL
#include <stdbool.h>
#include <xxhash.h>

#include "storage/log/record.h"
#include "tests/fuzz/fuzz.h"

/* The fields of a header that say how long its record is. */
static inline uint32_t sealed_value_len(const char *header)
{
    uint32_t value_len;
    memcpy(&value_len, header + 24, sizeof value_len);
    return value_len;
}

static inline size_t sealed_body(const char *header)
{
    return (uint8_t)header[28] + (size_t)sealed_value_len(header);
}

/* True if docs/format.md knows a record of this type with such a key and value. */
static inline bool sealed_is_sane(const char *header)
{
    bool has_key = header[28] != 0, hashed = header[30] & RECORD_STATE_HASHED;
    switch (header[29]) {
    case RECORD_PUT: return has_key;
    case RECORD_DELETE:
    case RECORD_TOUCH:
        return hashed ? (uint8_t)header[28] == RECORD_HASH_LEN
                      : has_key && sealed_value_len(header) == 0;
    case RECORD_FLUSH: return sealed_body(header) == 0;
    default: return false;
    }
}

/* Puts the checksum of a body right, as far as its bytes are there. */
static inline void seal_body(char *data, size_t len, uint64_t seed, uint64_t offset)
{
    size_t body = sealed_body(data);
    uint64_t local = seed ^ (offset * UINT64_C(0x9E3779B97F4A7C15));
    if (len - RECORD_HEADER_SIZE < body)
        return;
    uint32_t check = (uint32_t)XXH3_64bits_withSeed(data + RECORD_HEADER_SIZE, body, local);
    memcpy(data + 4, &check, sizeof check);
}

/* That of the header, after that of the body, which it covers. */
static inline void seal_header(char *data, uint64_t seed, uint64_t offset)
{
    uint64_t local = seed ^ (offset * UINT64_C(0x9E3779B97F4A7C15));
    uint32_t check = (uint32_t)XXH3_64bits_withSeed(data + 4, RECORD_HEADER_SIZE - 4, local);
    memcpy(data, &check, sizeof check);
}

#endif
