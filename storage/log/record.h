/* record.h: one entry of the log, its bytes and its checksums. See record.c for the format. */
#ifndef CACHECASK_STORAGE_LOG_RECORD_H
#define CACHECASK_STORAGE_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_HEADER_SIZE 32
#define RECORD_ALIGN       8
#define RECORD_PARTS       2 /* of a value that is not in one piece */
#define RECORD_HASH_LEN    8 /* of a key that is given by its hash */

enum record_type {
    RECORD_PUT = 1,    /* the key's state: value, flags, expiry, CAS unique */
    RECORD_DELETE = 2, /* the key is gone */
    RECORD_TOUCH = 3,  /* the key's newest PUT before this has this expiry */
    RECORD_FLUSH = 4, /* no key; expiry 0: all before this is gone; else: will be, at that second */
};

/* Bits of a record's state. */
enum record_state {
    RECORD_STATE_STALE = 1 << 0,      /* invalidated, but still served (meta protocol) */
    RECORD_STATE_WIN = 1 << 1,        /* a client was told to replace it (meta protocol) */
    RECORD_STATE_CAS_CHOSEN = 1 << 2, /* the CAS unique is the client's, not the store's */
    /* Of a DELETE or TOUCH whose key is lost (rescue.c): the key is its tag, and client_flags
     * choose its shard. The value, of any length, only fills the room of what was there before. */
    RECORD_STATE_HASHED = 1 << 3,
};

/* A record as a view: key and value point into somebody else's bytes. */
struct record {
    uint64_t cas;
    uint32_t expire_s; /* absolute, 0 for never */
    uint32_t client_flags;
    uint32_t value_len;
    uint16_t state;
    uint8_t key_len;
    uint8_t type; /* enum record_type */
    const char *key;
    const char *value;
};

enum record_status {
    RECORD_OK,
    RECORD_BAD_HEADER, /* the lengths cannot be trusted */
    RECORD_BAD_BODY,   /* header good, body not: it can be skipped */
    RECORD_CUT,        /* header good, but the body ends after the bytes at hand */
    RECORD_FAILED,     /* the read failed, or memory is out (segment.c) */
};

/* The bytes of a record with such a key and value, padding included. */
static inline uint64_t record_size(uint32_t key_len, uint64_t value_len)
{
    return (RECORD_HEADER_SIZE + key_len + value_len + RECORD_ALIGN - 1) &
           ~(uint64_t)(RECORD_ALIGN - 1);
}

/* Writes the header of a record at `out`, where key and value already follow it, and clears the
 * padding. `seed` is the segment's, `offset` the record's. Its key and value are not looked at. */
void record_seal(char *out, const struct record *record, uint64_t seed, uint64_t offset);

struct record_part {
    const char *data;
    size_t len;
};

/* The same for a value that is written from `parts`; the caller clears the padding. */
void record_seal_parts(char *out, const struct record *record, uint64_t seed, uint64_t offset,
                       const struct record_part parts[RECORD_PARTS]);

/* Reads and checks the record at data[0..len), from `offset` of a segment with `seed`. On RECORD_OK
 * *record views into data; on RECORD_BAD_BODY and RECORD_CUT its lengths are set, so that
 * record_size() leads to the next one. */
enum record_status record_decode(const char *data, size_t len, uint64_t seed, uint64_t offset,
                                 struct record *record);

/* Sets *data to up to `len` bytes of a record from byte `at` on, valid until the next call. Returns
 * how many; 0: it cannot. */
typedef size_t record_read(void *context, uint64_t at, uint64_t len, const char **data);

/* Checks the body of a record that is not in memory as a whole, with the header that record_decode
 * has found good. RECORD_OK, RECORD_BAD_BODY; RECORD_CUT: it could not be read. */
enum record_status record_check_body(const char header[RECORD_HEADER_SIZE], uint64_t seed,
                                     uint64_t offset, record_read *read, void *context);

#endif
