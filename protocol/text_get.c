/* text_get.c: get, gets, gat, gats: one request per key.
 *
 * The line is complete before its first key is returned (text.c), and stays in memory until the
 * last one is. All keys are checked first, because an invalid one makes an error the only answer,
 * as in memcached. Between two calls the parser stands before the next key.
 */
#include <assert.h>
#include <string.h>

#include "protocol/text_input.h"

static enum parse_status give_key(struct text_input *in, struct bytes key, bool more)
{
    struct text_parser *parser = in->parser;
    struct request *request = in->request;
    parser->in_get = more;
    request->op = OP_GET;
    request->key = key;
    request->flags = parser->get_flags | (more ? REQUEST_MORE : 0);
    request->exptime = parser->get_exptime;
    return PARSE_REQUEST;
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && *at == ' ')
        at++;
    return at;
}

static bool line_keys_ok(const char *at, const char *end)
{
    struct bytes key = token_next(&at, end);
    do {
        if (!text_key_ok(key))
            return false;
        key = token_next(&at, end);
    } while (key.len > 0);
    return true;
}

static bool is_one_key(struct bytes words)
{
    return words.len == 0 || memchr(words.data, ' ', words.len) == NULL;
}

/* The keys of a complete line, from in->at on. */
static enum parse_status parse_keys(struct text_input *in)
{
    const char *at = skip_blanks(in->at, in->line_end);
    struct bytes words = {at, (size_t)(in->line_end - at)};
    if (is_one_key(words)) {
        if (!text_key_ok(words))
            return text_refuse(in, REPLY_BAD_FORMAT);
        in->done = in->next;
        return give_key(in, words, false);
    }
    if (!line_keys_ok(at, in->line_end))
        return text_refuse(in, REPLY_BAD_FORMAT);
    in->line = at;
    return text_parse_get_key(in);
}

static enum parse_status parse_touching(struct text_input *in)
{
    struct bytes word = text_word(in);
    if (in->at == in->line_end)
        return text_refuse(in, REPLY_BAD_FORMAT);
    if (!token_exptime(word, &in->parser->get_exptime))
        return text_refuse(in, REPLY_BAD_EXPTIME);
    return parse_keys(in);
}

enum parse_status text_parse_get(struct text_input *in, uint32_t flags)
{
    in->parser->get_flags = flags;
    in->parser->get_exptime = 0;
    return flags & REQUEST_TOUCH ? parse_touching(in) : parse_keys(in);
}

static const char *find_key_end(const char *at, const char *end)
{
    while (at < end && *at != ' ' && *at != '\n')
        at++;
    assert(at < end); /* the rest of the line is in memory */
    return *at == '\n' && at[-1] == '\r' ? at - 1 : at;
}

enum parse_status text_parse_get_key(struct text_input *in)
{
    const char *end = in->data_end;
    const char *at = skip_blanks(in->line, end);
    const char *stop = find_key_end(at, end);
    struct bytes key = {at, (size_t)(stop - at)};
    const char *next = skip_blanks(stop, end);
    assert(next < end && text_key_ok(key));
    bool ends_with_cr = *next == '\r' && next + 1 < end && next[1] == '\n';
    bool last = *next == '\n' || ends_with_cr;
    in->done = last ? next + ends_with_cr + 1 : next;
    return give_key(in, key, !last);
}
