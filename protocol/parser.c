/* parser.c: selects the protocol that a connection speaks. */
#include "protocol/parser.h"

void parser_init(struct parser *parser, enum protocol protocol, uint32_t item_size_max)
{
    parser->protocol = protocol;
    if (protocol == PROTOCOL_BINARY)
        parser->binary = (struct binary_parser){.item_size_max = item_size_max};
    else
        parser->text = (struct text_parser){.item_size_max = item_size_max};
}

void parser_lock(struct parser *parser, uint64_t allowed)
{
    if (parser->protocol == PROTOCOL_BINARY)
        parser->binary.allowed = allowed;
    else
        parser->text.guard = allowed ? TEXT_GUARD_CLOSED : TEXT_GUARD_NONE;
}

enum parse_status parser_next_other(struct parser *parser, const char *data, size_t len,
                                    struct request *request, size_t *consumed, size_t *need)
{
    if (parser->protocol == PROTOCOL_AUTO && len > 0) {
        bool binary = (unsigned char)data[0] == BINARY_MAGIC;
        parser_init(parser, binary ? PROTOCOL_BINARY : PROTOCOL_TEXT, parser->text.item_size_max);
    }
    if (parser->protocol == PROTOCOL_BINARY)
        return binary_parse(&parser->binary, data, len, request, consumed, need);
    return text_parse(&parser->text, data, len, request, consumed, need);
}
