/* codec.h: how a protocol puts requests and replies into bytes.
 *
 * One codec a protocol. An encoder writes all of a request up to its value; the engine writes the
 * value itself, piece by piece, as it may be larger than any buffer, and then `value_end`. A
 * decoder reads one event at a time and never the bytes of a value. Both are pure.
 *
 * A get is answered by the values of those keys that are there, in the order asked, and then DONE.
 * Or, where replies do not name their keys: by a VALUE or ABSENT for each key, and no DONE. */
#ifndef CACHECASK_BENCH_CODEC_H
#define CACHECASK_BENCH_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/workload.h"

enum request_kind {
    REQUEST_GET,
    REQUEST_SET,
    REQUEST_INCR,
    REQUEST_TOUCH,
    REQUEST_DELETE,
    REQUEST_KINDS
};

struct request {
    enum request_kind kind;
    uint32_t key_count;   /* more than 1 for REQUEST_GET only */
    const uint64_t *keys; /* their numbers */
};

enum reply_kind {
    REPLY_PARTIAL,    /* more bytes are needed */
    REPLY_VALUE,      /* value_len bytes of a value and then value_end follow */
    REPLY_ABSENT,     /* in the place of a value: the key whose turn it is is not there */
    REPLY_DONE,       /* the request is answered: END, STORED, a number, … */
    REPLY_MISSING,    /* answered: the key is not there */
    REPLY_NOT_STORED, /* answered: a set was refused */
    REPLY_ERROR,      /* answered: ERROR, CLIENT_ERROR, SERVER_ERROR */
    REPLY_BAD         /* no reply of this protocol: the stream is out of step */
};

struct reply {
    enum reply_kind kind;
    const char *text; /* VALUE: the key; ERROR, NOT_STORED and BAD: the line without its end */
    size_t text_len;  /* VALUE: 0 when it does not name its key: it is that of the next one */
    uint32_t value_len;
};

struct codec {
    const char *name;

    /* What encode may write at most for a request of that many keys. */
    size_t (*bound)(uint32_t key_count);

    /* Writes the request to `out`, up to its value, and returns the end. */
    char *(*encode)(const struct workload *workload, const struct request *request, char *out);

    /* Reads one event from the `len` bytes at `at`, which answer a request of that kind. Sets
     * *reply and returns how many bytes it took: none when it is PARTIAL or BAD. */
    size_t (*decode)(enum request_kind kind, const char *at, size_t len, struct reply *reply);

    const char *value_end;
    size_t value_end_len;
};

/* memcached's classic text protocol, its meta commands, its binary protocol; Redis's. */
extern const struct codec codec_text;
extern const struct codec codec_meta;
extern const struct codec codec_binary;
extern const struct codec codec_redis;

/* The codec of that name, or NULL. */
const struct codec *codec_named(const char *name);

/* The name of a kind, as in "get". */
const char *request_kind_name(enum request_kind kind);

#endif
