/* text.c: the framing of the text protocol.
 *
 * The stream is a sequence of lines, some of which announce a data block. This file cuts it up:
 *
 *     swallow > 0     a refused data block: dropped
 *     guard           a password is missing: text_guard.c
 *     in_get          keys of a get line: text_get.c
 *     otherwise       a line; complete: text_command.c
 *                             not yet: wait_for_line
 *
 * `\n` ends a line; a `\r` before it belongs to the end. Of an incomplete line or block the state
 * has only how much of a long line has been searched for its end (line_seen). When more bytes have
 * arrived the parser starts again at the beginning of the line; the block is not read.
 */
#include "protocol/text.h"

#include <string.h>

#include "protocol/text_input.h"

static bool starts_with(struct text_input *in, const char *word, size_t word_len)
{
    return (size_t)(in->data_end - in->at) >= word_len && memcmp(in->at, word, word_len) == 0;
}

/* A line has no end yet after `len` bytes. If that is more than LINE_LEN_MAX and not a get, the
 * connection is closed without an answer, as in memcached. */
static enum parse_status wait_for_line(struct text_input *in, size_t len)
{
    if (len <= LINE_LEN_MAX)
        return PARSE_PARTIAL;
    while (in->at - in->line <= LEADING_BLANKS_MAX && *in->at == ' ')
        in->at++;
    bool blanks_ok = in->at - in->line <= LEADING_BLANKS_MAX;
    if (!blanks_ok || !(starts_with(in, "get ", 4) || starts_with(in, "gets ", 5)))
        return text_close(in, REPLY_NONE);
    if (len > TEXT_GET_LINE_MAX)
        return text_close(in, REPLY_LINE_TOO_LONG);
    in->parser->line_seen = (uint32_t)len;
    return PARSE_PARTIAL;
}

static enum parse_status parse_next(struct text_input *in)
{
    if (in->parser->guard)
        return text_parse_guarded(in);
    if (in->parser->in_get)
        return text_parse_get_key(in);
    size_t len = (size_t)(in->data_end - in->line);
    size_t seen = in->parser->line_seen;
    const char *newline = len > seen ? memchr(in->line + seen, '\n', len - seen) : NULL;
    if (newline == NULL)
        return wait_for_line(in, len);
    in->parser->line_seen = 0;
    text_end_line(in, newline);
    return text_parse_line(in);
}

enum parse_status text_parse(struct text_parser *parser, const char *data, size_t len,
                             struct request *request, size_t *consumed, size_t *need)
{
    size_t dropped = parser->swallow > 0 ? parse_drop(&parser->swallow, len) : 0;
    const char *line = data + dropped;
    struct text_input in = {
        .parser = parser,
        .request = request,
        .line = line,
        .at = line,
        .data_end = data + len,
        .done = line,
    };
    memset(request, 0, REQUEST_COMMON_SIZE);
    enum parse_status status = parse_next(&in);
    *consumed = (size_t)(in.done - data);
    *need = in.need;
    return status;
}
