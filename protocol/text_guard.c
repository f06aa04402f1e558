/* text_guard.c: the stream of a client that has not yet shown a password.
 *
 * The only command is `set <key> <flags> <exptime> <length>` with `user password` as its data
 * block. Nothing is stored, so key, flags and time may be anything, and `noreply` does not hide the
 * answer. Every other line is refused together with the data block that it announces: a value must
 * not be taken for a password. Nothing after the password is parsed until the server has checked it
 * (OP_AUTHENTICATE), because the meaning of these bytes depends on the result.
 */
#include "protocol/text_input.h"

#include <string.h>

/* A longer block is not a password, and the parser does not wait for it. */
#define TOKEN_LEN_MAX 1024

/* Reads the length of the data block. False: the line announces none. */
static bool read_len(struct text_input *in, struct bytes name, uint64_t *len)
{
    int words = text_words_before_length(name);
    for (int i = 0; i < words; i++)
        text_word(in);
    return words >= 0 && token_uint64(text_word(in), len) && *len <= BLOCK_LEN_MAX;
}

static enum parse_status parse_password(struct text_input *in, uint64_t len)
{
    if (len > TOKEN_LEN_MAX)
        return text_refuse_block(in, REPLY_BAD_PASSWORD_FORM, len);
    enum parse_status status = text_take_block(in, OP_AUTHENTICATE, len);
    if (in->request->op == OP_AUTHENTICATE)
        in->parser->guard = TEXT_GUARD_ASKED;
    return status;
}

enum parse_status text_parse_guarded(struct text_input *in)
{
    size_t len = (size_t)(in->data_end - in->line);
    const char *newline = len > 0 ? memchr(in->line, '\n', len) : NULL;
    if (in->parser->guard == TEXT_GUARD_ASKED || (newline == NULL && len <= LINE_LEN_MAX))
        return PARSE_PARTIAL;
    if (newline == NULL)
        return text_close(in, REPLY_NONE);
    text_end_line(in, newline);
    struct bytes name = text_word(in);
    uint64_t block_len;
    if (!read_len(in, name, &block_len))
        return text_refuse(in, REPLY_UNAUTHENTICATED);
    if (!token_is(name, "set", 3))
        return text_refuse_block(in, REPLY_UNAUTHENTICATED, block_len);
    return parse_password(in, block_len);
}
