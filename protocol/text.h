/* text.h: memcached's text protocol, classic and meta commands (protocol.txt of the memcached
 * distribution).
 *
 * Pure: bytes in, struct request out; struct reply in, bytes out. No allocation, no I/O.
 */
#ifndef CACHECASK_PROTOCOL_TEXT_H
#define CACHECASK_PROTOCOL_TEXT_H

#include "protocol/parse.h"
#include "protocol/request.h"

/* A get of this many bytes is taken: some 66,000 of the longest keys. One that is longer fills a buffer of 16 MiB. */
#define TEXT_GET_LINE_MAX ((16 << 20) - 1)

/* Whether the client must show a password first (-Y). */
enum text_guard {
    TEXT_GUARD_NONE,
    TEXT_GUARD_CLOSED, /* only a password is taken */
    TEXT_GUARD_ASKED,  /* OP_AUTHENTICATE is to be run: who runs it sets one of the others */
};

/* The state between two calls: what a connection must remember. Copying it is a way to come back to
 * this point. */
struct text_parser {
    uint64_t swallow;       /* bytes of a refused value still to be dropped */
    int64_t get_exptime;    /* in a gat line: its expiry */
    uint32_t item_size_max; /* -I, in bytes */
    uint32_t get_flags;     /* in a get line: request flags of its keys */
    uint32_t line_seen;     /* bytes of a long line in which no line end was found */
    bool in_get;            /* the next bytes are keys of a get line, up to its end */
    uint8_t guard;          /* of enum text_guard */
};

/* Starts a connection's parser; no item is larger than item_size_max bytes (ITEM_OVERHEAD
 * included). */
void text_parser_init(struct text_parser *parser, uint32_t item_size_max);

/* Parses one request from data[0..len). `*need` is how long the data behind *consumed must grow
 * before another call can do more, as far as that is known (a data block announces its length),
 * else 0; it is above 0 with PARSE_PARTIAL only.
 *
 * A request's views point into data; *request is overwritten by every call, whatever the result. */
enum parse_status text_parse(struct text_parser *parser, const char *data, size_t len,
                             struct request *request, size_t *consumed, size_t *need);

/* Room for the longest head or tail: that of a meta command, with a key of KEY_LEN_MAX bytes in
 * base64, an opaque and all else that can be asked for, needs some 460 bytes. */
#define TEXT_REPLY_MAX 512

/* Writes what stands before the value (or the whole answer where there is none) to out, which has
 * room for TEXT_REPLY_MAX bytes. Returns the bytes written. REQUEST_NOREPLY hides everything.
 * REPLY_TEXT writes nothing: the caller sends reply->text itself. */
size_t text_reply_head(const struct request *request, const struct reply *reply, char *out);

/* Writes what stands behind the value: its line end, and END behind the last key of a multiget. */
size_t text_reply_tail(const struct request *request, const struct reply *reply, char *out);

#endif
