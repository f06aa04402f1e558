/* binary.h: memcached's binary protocol (protocol-binary.txt of the memcached distribution).
 *
 * Pure: bytes in, struct request out; struct reply in, bytes out. No allocation, no I/O.
 */
#ifndef CACHECASK_PROTOCOL_BINARY_H
#define CACHECASK_PROTOCOL_BINARY_H

#include "protocol/parse.h"
#include "protocol/request.h"

/* The first byte of every request, and of every answer; no text command begins with either. */
#define BINARY_MAGIC       0x80
#define BINARY_MAGIC_REPLY 0x81

#define BINARY_HEADER_LEN  24

/* The most that a client may send to authenticate itself: the server keeps it for a stranger. */
#define BINARY_SASL_MAX    (64 << 10)

/* The state between two calls, at first zero but for the item size. A copy is a way back. */
struct binary_parser {
    uint64_t swallow;       /* bytes of a refused body still to be dropped */
    uint64_t allowed;       /* OP_BIT of what is accepted before authentication; 0: everything */
    uint32_t item_size_max; /* -I, in bytes, including ITEM_OVERHEAD */
};

/* Parses one request from data[0..len), with the meaning of text_parse. */
enum parse_status binary_parse(struct binary_parser *parser, const char *data, size_t len,
                               struct request *request, size_t *consumed, size_t *need);

/* Room for the longest head: the header, flags and a key of KEY_LEN_MAX bytes need 278 bytes. */
#define BINARY_REPLY_MAX 384

/* Writes the answer up to its value, which ends the packet, to out, which has room for
 * BINARY_REPLY_MAX bytes. Returns the bytes written: 0 if a quiet request gets no answer. */
size_t binary_reply_head(const struct request *request, const struct reply *reply, char *out);

/* One packet of an answer of several (stat): header and key; value_len bytes follow. Returns the
 * bytes written, at most BINARY_REPLY_MAX. */
size_t binary_reply_part(const struct request *request, struct bytes key, size_t value_len,
                         char *out);

#endif
