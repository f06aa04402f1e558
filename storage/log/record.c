/* record.c: the bytes of a record.
 *
 *     offset  size  field
 *          0     4  header checksum: low half of XXH3-64 of bytes 4 to 31
 *          4     4  body checksum: low half of XXH3-64 of key and value
 *          8     8  CAS unique
 *         16     4  expiry: absolute seconds, 0 for never
 *         20     4  client flags
 *         24     4  value length
 *         28     1  key length
 *         29     1  type
 *         30     2  state bits
 *         32     …  key, value, zeros up to a multiple of 8
 *
 * A DELETE or TOUCH with RECORD_STATE_HASHED has 8 bytes of the key's hash instead of the key, and
 * zeros as a value. All numbers are little-endian.
 *
 * Both checksums are seeded by the segment's secret seed and the record's offset in it, so no value
 * can pose as a record (R1). The header has its own (R2), so damage of a body costs one record.
 * XXH3: https://xxhash.com
 */
#define XXH_INLINE_ALL
#include "storage/log/record.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the log is little-endian, and so must be the machine"
#endif

struct header {
    uint32_t header_check;
    uint32_t body_check;
    uint64_t cas;
    uint32_t expire_s;
    uint32_t client_flags;
    uint32_t value_len;
    uint8_t key_len;
    uint8_t type;
    uint16_t state;
};

_Static_assert(sizeof(struct header) == RECORD_HEADER_SIZE, "the header is 32 bytes on disk");

static uint64_t seed_at(uint64_t seed, uint64_t offset)
{
    return seed ^ (offset * UINT64_C(0x9E3779B97F4A7C15));
}

static uint32_t header_check(const struct header *header, uint64_t seed)
{
    return (uint32_t)XXH3_64bits_withSeed(&header->body_check, sizeof *header - 4, seed);
}

static bool header_sane(const struct header *header)
{
    bool hashed = header->state & RECORD_STATE_HASHED;
    switch (header->type) {
    case RECORD_PUT: return header->key_len > 0;
    case RECORD_DELETE:
    case RECORD_TOUCH:
        return hashed ? header->key_len == RECORD_HASH_LEN
                      : header->key_len > 0 && header->value_len == 0;
    case RECORD_FLUSH: return header->key_len == 0 && header->value_len == 0;
    default: return false;
    }
}

/* Writes the header for a body with this checksum. */
static void write_header(char *out, const struct record *record, uint64_t body_check,
                         uint64_t local)
{
    struct header header = {
        .body_check = (uint32_t)body_check,
        .cas = record->cas,
        .expire_s = record->expire_s,
        .client_flags = record->client_flags,
        .value_len = record->value_len,
        .key_len = record->key_len,
        .type = record->type,
        .state = record->state,
    };
    assert(header_sane(&header));
    header.header_check = header_check(&header, local);
    memcpy(out, &header, sizeof header);
}

void record_seal(char *out, const struct record *record, uint64_t seed, uint64_t offset)
{
    size_t body = record->key_len + (size_t)record->value_len;
    uint64_t local = seed_at(seed, offset);
    assert(offset % RECORD_ALIGN == 0);
    write_header(out, record, XXH3_64bits_withSeed(out + RECORD_HEADER_SIZE, body, local), local);
    size_t end = RECORD_HEADER_SIZE + body;
    memset(out + end, 0, record_size(record->key_len, record->value_len) - end);
}

void record_seal_parts(char *out, const struct record *record, uint64_t seed, uint64_t offset,
                       const struct record_part parts[RECORD_PARTS])
{
    XXH3_state_t state;
    uint64_t local = seed_at(seed, offset);
    assert(offset % RECORD_ALIGN == 0);
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, local);
    XXH3_64bits_update(&state, out + RECORD_HEADER_SIZE, record->key_len);
    for (int i = 0; i < RECORD_PARTS; i++)
        XXH3_64bits_update(&state, parts[i].data, parts[i].len);
    write_header(out, record, XXH3_64bits_digest(&state), local);
}

enum record_status record_decode(const char *data, size_t len, uint64_t seed, uint64_t offset,
                                 struct record *record)
{
    struct header header;
    if (len < sizeof header)
        return RECORD_BAD_HEADER;
    memcpy(&header, data, sizeof header);
    uint64_t local = seed_at(seed, offset);
    if (header.header_check != header_check(&header, local) || !header_sane(&header))
        return RECORD_BAD_HEADER;
    *record = (struct record){
        .cas = header.cas,
        .expire_s = header.expire_s,
        .client_flags = header.client_flags,
        .value_len = header.value_len,
        .state = header.state,
        .key_len = header.key_len,
        .type = header.type,
        .key = data + RECORD_HEADER_SIZE,
        .value = data + RECORD_HEADER_SIZE + header.key_len,
    };
    size_t body = header.key_len + (size_t)header.value_len;
    if (len - sizeof header < body)
        return RECORD_CUT;
    if (header.body_check != (uint32_t)XXH3_64bits_withSeed(record->key, body, local))
        return RECORD_BAD_BODY;
    return RECORD_OK;
}

enum record_status record_check_body(const char header[RECORD_HEADER_SIZE], uint64_t seed,
                                     uint64_t offset, record_read *read, void *context)
{
    struct header decoded;
    XXH3_state_t state;
    memcpy(&decoded, header, sizeof decoded);
    uint64_t end = sizeof decoded + decoded.key_len + (uint64_t)decoded.value_len;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, seed_at(seed, offset));
    for (uint64_t at = sizeof decoded; at < end;) {
        const char *data;
        size_t len = read(context, at, end - at, &data);
        if (len == 0)
            return RECORD_CUT;
        XXH3_64bits_update(&state, data, len);
        at += len;
    }
    return decoded.body_check == (uint32_t)XXH3_64bits_digest(&state) ? RECORD_OK : RECORD_BAD_BODY;
}
