/* sealed.h: record headers whose checksums are right and whose fields may be anything.
 *
 * Bytes that a checksum guards are refused at once, and a fuzzer that does not know it never comes further. So it is put right
 * here, from docs/format.md and not by record_seal, which refuses to write nonsense.
 */
#ifndef CACHECASK_TESTS_FUZZ_SEALED_H
#define CACHECASK_TESTS_FUZZ_SEALED_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "storage/record.h"
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
