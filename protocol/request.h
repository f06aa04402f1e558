/* request.h: a client's request, in no particular protocol.
 *
 * A parser turns bytes into requests; command.c carries them out. A request is a view: key, value
 * and args point into the bytes that were parsed, and are valid as long as these.
 *
 * A multiget becomes one request per key; all but the last have REQUEST_MORE. So a multiget and a
 * pipeline of gets are the same work from here on.
 */
#ifndef CACHECASK_PROTOCOL_REQUEST_H
#define CACHECASK_PROTOCOL_REQUEST_H

#include "protocol/reply.h"

#define KEY_LEN_MAX 250

enum protocol {
    PROTOCOL_TEXT,
    PROTOCOL_BINARY,
    PROTOCOL_AUTO, /* of a connection: its first byte will decide */
};

/* The size that -I limits is that of value and key, and this much for an item's header. */
#define ITEM_OVERHEAD 56

struct bytes {
    const char *data;
    size_t len;
};

/* Shape: K carries a key, V carries a value, A carries the rest of its line in args. */
enum request_op {
    OP_INVALID,   /* not a command that can be run: `error` is the whole answer */
    OP_GET,       /* K; with REQUEST_TOUCH also sets the expiry (gat, gats) */
    OP_SET,       /* KV */
    OP_ADD,       /* KV */
    OP_REPLACE,   /* KV */
    OP_APPEND,    /* KV */
    OP_PREPEND,   /* KV */
    OP_CAS,       /* KV, cas */
    OP_INCR,      /* K, delta */
    OP_DECR,      /* K, delta */
    OP_TOUCH,     /* K, exptime */
    OP_DELETE,    /* K */
    OP_FLUSH_ALL, /* exptime: the delay, 0 for at once */
    OP_VERSION,
    OP_VERBOSITY, /* delta: the level */
    OP_STATS,     /* A */
    OP_QUIT,
    OP_SHUTDOWN,        /* A */
    OP_CACHE_MEMLIMIT,  /* delta: MiB */
    OP_CACHE_DISKLIMIT, /* delta: MiB; ours */
    OP_WATCH,           /* A */
    OP_LRU,             /* A */
    OP_LRU_CRAWLER,     /* A */
    OP_SLABS,           /* A */
    OP_REFRESH_CERTS,

    OP_AUTHENTICATE, /* value: `user password`, of a guarded stream only */

    /* Of the binary protocol only. */
    OP_NOOP,
    OP_SASL_LIST,
    OP_SASL_AUTH, /* args: the mechanism; V: the client's first message */
    OP_SASL_STEP, /* the same, with the next one */

    /* The meta commands, all with REQUEST_META; what else they carry: see struct request. */
    OP_META_GET,        /* K */
    OP_META_SET,        /* KV */
    OP_META_DELETE,     /* K */
    OP_META_ARITHMETIC, /* K */
    OP_META_DEBUG,      /* K */
    OP_META_NOOP,
    OP_COUNT, /* not an operation: their number */
};

/* An operation in a set of them. */
#define OP_BIT(op) (UINT64_C(1) << (op))

enum request_flag {
    REQUEST_NOREPLY = 1 << 0,   /* the client wants no answer */
    REQUEST_CAS = 1 << 1,       /* the answer shows the CAS unique (gets, gats) */
    REQUEST_TOUCH = 1 << 2,     /* a get that sets the expiry (gat, gats) */
    REQUEST_MORE = 1 << 3,      /* another key of the same multiget follows */
    REQUEST_TOO_LARGE = 1 << 4, /* over the item limit: the parser drops the value */
    REQUEST_META = 1 << 8,      /* a meta command: the answer has its form */

    /* Of the binary protocol only; far up, so that the others can grow. */
    REQUEST_QUIET = 1 << 24,    /* success is not answered, nor is the miss of a get */
    REQUEST_SHOW_KEY = 1 << 25, /* the answer of a get repeats the key */
    REQUEST_CREATE = 1 << 26,   /* incr, decr: a counter that is missing begins with `initial` */
};

/* A flag of a meta command as a bit of meta_flags: a letter. */
#define META_FLAG(letter) (UINT64_C(1) << ((letter)&63))

struct request {
    enum request_op op;
    uint32_t flags;          /* of enum request_flag */
    enum reply_status error; /* OP_INVALID: what to answer */
    enum protocol protocol;  /* whose answer is wanted: PROTOCOL_TEXT or PROTOCOL_BINARY */
    struct bytes key;
    struct bytes value; /* without its final \r\n */
    struct bytes args;  /* the words after the command's name, without blanks around them */
    uint32_t client_flags;
    int64_t exptime; /* as the client wrote it: relative, absolute or negative */
    uint64_t cas;    /* OP_CAS; of others, if it is not 0: only if the item's is the same */
    uint64_t delta;
    uint64_t initial; /* of a missing counter: J, or REQUEST_CREATE's; its expiry is exptime */

    /* Repeated in a binary answer. */
    struct {
        uint32_t opaque; /* as its bytes came */
        uint8_t opcode;
    } binary;

    /* Of the meta commands; not set in others. T, F, C and D are exptime, client_flags, cas and
     * delta; args are the flags, in the order in which they are answered. */
    uint64_t meta_flags;        /* META_FLAG of each flag that was given */
    uint64_t new_cas;           /* E */
    int64_t vivify_exptime;     /* N, or a T after it */
    int64_t recache_s;          /* R */
    char mode;                  /* M; where it was not given, the usual one */
    char key_room[KEY_LEN_MAX]; /* the key, when it came in base64 */
};

/* The part of a request that all commands have, and every parser sets. */
#define REQUEST_COMMON_SIZE offsetof(struct request, meta_flags)

#endif
