/* text_store.c: set, add, replace, append, prepend, cas: a line and its data block are one request.
 *
 * A line with a readable length announces a block, which is dropped if anything else in the line is
 * wrong: if it were run as commands, a value could speak for its client. A line without a readable
 * length announces no block, and its error is sent even to a client that wants no reply, because
 * client and server may be out of step.
 */
#include "protocol/text_input.h"

/* Like memcached: reads 64 bits and keeps the lower 32. */
static bool read_client_flags(struct bytes word, uint32_t *out)
{
    uint64_t flags;
    if (!token_uint64(token_without_plus(word), &flags))
        return false;
    *out = (uint32_t)flags;
    return true;
}

/* Like memcached: reads 64 bits and keeps the lower 32, as a signed number. */
static bool read_exptime(struct bytes word, int64_t *out)
{
    int64_t exptime;
    if (!token_int64(token_without_plus(word), &exptime))
        return false;
    *out = (int32_t)(uint32_t)exptime;
    return true;
}

enum parse_status text_parse_store(struct text_input *in, enum request_op op)
{
    struct request *request = in->request;
    request->key = text_word(in);
    uint32_t noreply = text_noreply(in);
    bool numbers_ok = read_client_flags(text_word(in), &request->client_flags);
    numbers_ok &= read_exptime(text_word(in), &request->exptime);
    uint64_t len;
    if (!token_uint64(text_word(in), &len) || len > BLOCK_LEN_MAX)
        return text_refuse(in, REPLY_BAD_FORMAT);
    if (op == OP_CAS)
        numbers_ok &= token_uint64(text_word(in), &request->cas);
    request->flags |= noreply;
    if (!numbers_ok || !text_key_ok(request->key))
        return text_refuse_block(in, REPLY_BAD_FORMAT, len);
    return text_parse_block(in, op, len);
}

enum parse_status text_refuse_block(struct text_input *in, enum reply_status error, uint64_t len)
{
    in->parser->swallow = len + 2;
    return text_refuse(in, error);
}

enum parse_status text_parse_block(struct text_input *in, enum request_op op, uint64_t len)
{
    if (in->request->key.len + len + ITEM_OVERHEAD <= in->parser->item_size_max)
        return text_take_block(in, op, len);
    in->parser->swallow = len + 2;
    in->request->flags |= REQUEST_TOO_LARGE;
    return text_accept(in, op);
}

enum parse_status text_take_block(struct text_input *in, enum request_op op, uint64_t len)
{
    const char *block = in->next;
    if ((uint64_t)(in->data_end - block) < len + 2) {
        in->need = (size_t)(block - in->line) + len + 2;
        return PARSE_PARTIAL;
    }
    in->next = block + len + 2;
    if (block[len] != '\r' || block[len + 1] != '\n')
        return text_refuse(in, REPLY_BAD_CHUNK);
    in->request->value = (struct bytes){block, len};
    return text_accept(in, op);
}
