/* parser.h: one connection's parser, for any protocol. Text, the common case, costs one branch. */
#ifndef CACHECASK_PROTOCOL_PARSER_H
#define CACHECASK_PROTOCOL_PARSER_H

#include "protocol/binary.h"
#include "protocol/text.h"

/* The state between two calls. A copy is a way back to this point. */
struct parser {
    enum protocol protocol; /* PROTOCOL_AUTO: the first byte has not arrived yet */
    union {
        struct text_parser text; /* PROTOCOL_AUTO, too */
        struct binary_parser binary;
    };
};

/* Starts a connection's parser. With PROTOCOL_AUTO the client's first byte decides. */
void parser_init(struct parser *parser, enum protocol protocol, uint32_t item_size_max);

/* Sets what a client of the binary protocol may ask for until it has authenticated itself: OP_BIT
 * of each operation, or 0 for everything. In text it is a password. Not with PROTOCOL_AUTO. */
void parser_lock(struct parser *parser, uint64_t allowed);

/* The rest of parser_next: the binary protocol, or none chosen yet. */
enum parse_status parser_next_other(struct parser *parser, const char *data, size_t len,
                                    struct request *request, size_t *consumed, size_t *need);

/* The next request: see text_parse. */
static inline enum parse_status parser_next(struct parser *parser, const char *data, size_t len,
                                            struct request *request, size_t *consumed, size_t *need)
{
    if (__builtin_expect(parser->protocol == PROTOCOL_TEXT, 1))
        return text_parse(&parser->text, data, len, request, consumed, need);
    return parser_next_other(parser, data, len, request, consumed, need);
}

/* How many bytes at the front of the data belong to something that was refused. */
static inline uint64_t parser_swallows(const struct parser *parser)
{
    return parser->protocol == PROTOCOL_BINARY ? parser->binary.swallow : parser->text.swallow;
}

/* True when the next request is a further key of a line that has been parsed in part. */
static inline bool parser_is_in_line(const struct parser *parser)
{
    return parser->protocol != PROTOCOL_BINARY && parser->text.in_get;
}

/* Room for the longest head or tail. */
#define REPLY_HEAD_MAX (TEXT_REPLY_MAX > BINARY_REPLY_MAX ? TEXT_REPLY_MAX : BINARY_REPLY_MAX)

/* The parts of an answer before and after its value: see text_reply_head. */
static inline size_t reply_head(const struct request *request, const struct reply *reply, char *out)
{
    if (__builtin_expect(request->protocol == PROTOCOL_TEXT, 1))
        return text_reply_head(request, reply, out);
    return binary_reply_head(request, reply, out);
}

static inline size_t reply_tail(const struct request *request, const struct reply *reply, char *out)
{
    return request->protocol == PROTOCOL_TEXT ? text_reply_tail(request, reply, out) : 0;
}

#endif
