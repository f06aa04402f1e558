/* text.h: memcached's text protocol, classic and meta commands (protocol.txt of its distribution).
 *
 * Pure: bytes in, struct request out; struct reply in, bytes out. No allocation, no I/O.
 */
#ifndef CACHECASK_PROTOCOL_TEXT_H
#define CACHECASK_PROTOCOL_TEXT_H

#include "protocol/parse.h"
#include "protocol/request.h"

/* The longest line of a get: some 66,000 of the longest keys. It fits in a buffer of 16 MiB. */
#define TEXT_GET_LINE_MAX ((16 << 20) - 1)

/* Tells whether the client must show a password first (-Y). */
enum text_guard {
    TEXT_GUARD_NONE,
    TEXT_GUARD_CLOSED, /* only a password is accepted */
    TEXT_GUARD_ASKED,  /* OP_AUTHENTICATE must be run, which sets one of the others */
};

/* The state between two calls, at first zero but for the item size. A copy is a way back. */
struct text_parser {
    uint64_t swallow;       /* bytes of a refused value still to be dropped */
    int64_t get_exptime;    /* of a gat line: its expiry */
    uint32_t item_size_max; /* -I, in bytes, including ITEM_OVERHEAD */
    uint32_t get_flags;     /* of a get line: request flags of its keys */
    uint32_t line_seen;     /* bytes of a long line that contain no line end */
    bool in_get;            /* the next bytes are further keys of a get line */
    uint8_t guard;          /* of enum text_guard */
};

/* Parses one request from data[0..len), and overwrites *request, whose views point into data. With
 * PARSE_PARTIAL `*need` is the number of bytes after *consumed that the next call needs, if it is
 * known (a data block announces its length), else 0. */
enum parse_status text_parse(struct text_parser *parser, const char *data, size_t len,
                             struct request *request, size_t *consumed, size_t *need);

/* Room for the longest head or tail: that of a meta command with a key of KEY_LEN_MAX bytes in
 * base64, an opaque and all other flags takes some 460 bytes. */
#define TEXT_REPLY_MAX 512

/* Writes the part of an answer before its value, or all of it if there is no value, to out, which
 * has room for TEXT_REPLY_MAX bytes. Returns the bytes written. REQUEST_NOREPLY hides everything.
 * REPLY_TEXT writes nothing: the caller sends reply->text itself. */
size_t text_reply_head(const struct request *request, const struct reply *reply, char *out);

/* Writes the part after the value: its line end, and END after the last key of a multiget. */
size_t text_reply_tail(const struct request *request, const struct reply *reply, char *out);

#endif
