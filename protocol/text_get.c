/* text_get.c: get, gets, gat, gats: one request a key.
 *
 * When the whole line is at hand, all its keys are checked before the first is given: a bad one
 * gives its error and nothing else, as in memcached. Of a line that is too long to wait for, keys
 * are given as they come; the connection ends at a bad one, for some of the answers have gone out
 * already.
 *
 * Between two keys the parser stands in front of the next one: a key is only given when it is known
 * whether another follows. So a line end in that place is that of a line without any key.
 */
#include <string.h>

#include "protocol/text_input.h"

/* As many bytes may a client send behind a key without saying whether another follows. */
#define GAP_MAX LINE_LEN_MAX

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
    const char *at = in->at;
    while (at < in->line_end && *at == ' ')
        at++;
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
    if (!text_exptime(word, &in->parser->get_exptime))
        return text_refuse(in, REPLY_BAD_EXPTIME);
    return parse_keys(in);
}

enum parse_status text_parse_get(struct text_input *in, uint32_t flags)
{
    in->parser->get_flags = flags;
    in->parser->get_exptime = 0;
    return flags & REQUEST_TOUCH ? parse_touching(in) : parse_keys(in);
}

static enum parse_status close_with(struct text_input *in, enum reply_status error)
{
    in->next = in->data_end;
    text_refuse(in, error);
    return PARSE_CLOSE;
}

static bool is_line_end(const char *at, const char *end)
{
    return *at == '\n' || (*at == '\r' && at + 1 < end && at[1] == '\n');
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && *at == ' ')
        at++;
    return at;
}

/* Where the key that begins at `at` ends: at a blank or at the line's end; NULL if that is not to
 * be seen yet. */
static const char *find_key_end(const char *at, const char *end)
{
    while (at < end && *at != ' ' && *at != '\n')
        at++;
    return at < end ? at : NULL;
}

/* A lone \r at the end of the data is the beginning of a line end, or of a key. */
static bool is_undecided(const char *at, const char *end)
{
    return at == end || (*at == '\r' && at + 1 == end);
}

static enum parse_status parse_no_key(struct text_input *in, const char *at)
{
    in->parser->in_get = false;
    in->next = at + (*at == '\r') + 1;
    return text_refuse(in, REPLY_BAD_FORMAT);
}

/* Behind a key: gives it as soon as it is known whether it is the last. */
static enum parse_status parse_behind_key(struct text_input *in, struct bytes key, const char *stop)
{
    const char *at = skip_blanks(stop, in->data_end);
    if (is_undecided(at, in->data_end))
        return at - stop > GAP_MAX ? close_with(in, REPLY_LINE_TOO_LONG) : PARSE_PARTIAL;
    bool last = is_line_end(at, in->data_end);
    in->done = last ? at + (*at == '\r') + 1 : at;
    return give_key(in, key, !last);
}

enum parse_status text_parse_get_key(struct text_input *in)
{
    const char *end = in->data_end;
    const char *at = skip_blanks(in->line, end);
    in->done = at;
    if (is_undecided(at, end))
        return PARSE_PARTIAL;
    if (is_line_end(at, end))
        return parse_no_key(in, at);
    /* One byte more than a key, for the \r of a line end. */
    const char *window = end - at > KEY_LEN_MAX + 2 ? at + KEY_LEN_MAX + 2 : end;
    const char *stop = find_key_end(at, window);
    if (stop == NULL)
        return window == end ? PARSE_PARTIAL : close_with(in, REPLY_BAD_FORMAT);
    if (*stop == '\n' && stop[-1] == '\r')
        stop--;
    struct bytes key = {at, (size_t)(stop - at)};
    if (!text_key_ok(key))
        return close_with(in, REPLY_BAD_FORMAT);
    return parse_behind_key(in, key, stop);
}
