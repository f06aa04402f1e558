/* reply.h: the server's answer, in no particular protocol.
 *
 * command.c fills a struct reply; the protocol's writer turns it into bytes. It writes the parts
 * before the value (head) and after it (tail), so that a large value is sent from where it is.
 */
#ifndef CACHECASK_PROTOCOL_REPLY_H
#define CACHECASK_PROTOCOL_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply_status {
    REPLY_NONE,  /* nothing at all */
    REPLY_VALUE, /* a hit of a get: flags, cas, value */
    REPLY_MISS,  /* a miss of a get */
    REPLY_STORED,
    REPLY_NOT_STORED,
    REPLY_EXISTS,
    REPLY_NOT_FOUND,
    REPLY_DELETED,
    REPLY_TOUCHED,
    REPLY_NUMBER, /* of incr and decr */
    REPLY_OK,
    REPLY_VERSION,        /* text: the version */
    REPLY_TEXT,           /* text: the answer as it goes out, line ends included */
    REPLY_ERROR,          /* ERROR */
    REPLY_BAD_FORMAT,     /* CLIENT_ERROR bad command line format */
    REPLY_BAD_DELETE,     /* CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply] */
    REPLY_BAD_CHUNK,      /* CLIENT_ERROR bad data chunk */
    REPLY_BAD_DELTA,      /* CLIENT_ERROR invalid numeric delta argument */
    REPLY_BAD_EXPTIME,    /* CLIENT_ERROR invalid exptime argument */
    REPLY_NON_NUMERIC,    /* CLIENT_ERROR cannot increment or decrement non-numeric value */
    REPLY_FLUSH_DISABLED, /* CLIENT_ERROR flush_all not allowed */
    REPLY_MEMLIMIT_TOO_SMALL, /* MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m */
    REPLY_SHUTDOWN_DISABLED,  /* SERVER_ERROR: shutdown not enabled */
    REPLY_TOO_LARGE,          /* SERVER_ERROR object too large for cache */
    REPLY_NO_MEMORY,          /* SERVER_ERROR out of memory storing object */
    REPLY_READ_ONLY,          /* SERVER_ERROR the disk refuses writes */
    REPLY_UNREADABLE,         /* SERVER_ERROR cannot read the value from disk */
    REPLY_READ_NO_MEMORY,     /* SERVER_ERROR out of memory reading the value */
    REPLY_CONTENDED,          /* SERVER_ERROR the item keeps changing, try again */
    REPLY_LINE_TOO_LONG,      /* CLIENT_ERROR line too long, of a get; the connection closes */

    REPLY_UNAUTHENTICATED,   /* CLIENT_ERROR unauthenticated */
    REPLY_WRONG_PASSWORD,    /* CLIENT_ERROR authentication failure */
    REPLY_BAD_PASSWORD_FORM, /* CLIENT_ERROR bad authentication token format */

    /* Of the binary protocol only: their value is defined by the SASL mechanism. */
    REPLY_SASL_DONE,
    REPLY_SASL_CONTINUE, /* the client must send more */
    REPLY_SASL_FAILED,

    /* Errors of a meta command. */
    REPLY_BAD_TOKEN,           /* CLIENT_ERROR bad token in command line format */
    REPLY_BAD_KEY,             /* CLIENT_ERROR error decoding key */
    REPLY_INVALID_FLAG,        /* CLIENT_ERROR invalid flag */
    REPLY_DUPLICATE_FLAG,      /* CLIENT_ERROR duplicate flag */
    REPLY_BAD_FLAG,            /* CLIENT_ERROR invalid or duplicate flag */
    REPLY_TOO_MANY_FLAGS,      /* CLIENT_ERROR options flags are too long */
    REPLY_OPAQUE_TOO_LONG,     /* CLIENT_ERROR opaque token too long */
    REPLY_BAD_SET_MODE,        /* CLIENT_ERROR invalid mode for ms M token */
    REPLY_BAD_ARITHMETIC_MODE, /* CLIENT_ERROR invalid mode for ma M token */
    REPLY_STATUS_COUNT,
};

/* The facts that flags of a meta command can ask for. */
struct reply_meta {
    size_t size;       /* s: bytes of the value (me: of the item) */
    int64_t ttl_s;     /* t: seconds to live before this command; -1: forever */
    int64_t new_ttl_s; /* t after a T */
    uint32_t idle_s;   /* l: seconds since its last access before this one */
    bool fetched;      /* h: a get has hit it before this one */
    bool won;          /* W: this client is to renew it */
    bool stale;        /* X: it was invalidated */
    bool win_sent;     /* Z: another client is to renew it */
};

struct reply {
    enum reply_status status;
    uint32_t client_flags;
    uint64_t cas;
    uint64_t number;
    const char *value; /* REPLY_VALUE, REPLY_SASL_DONE, REPLY_SASL_CONTINUE */
    size_t value_len;
    const char *text; /* REPLY_VERSION, REPLY_TEXT */
    size_t text_len;

    const struct reply_meta *meta; /* of a meta command that found an item, else NULL */
};

#endif
