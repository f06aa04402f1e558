/* codec_line.h: replies that are lines. Private to the codecs. */
#ifndef CACHECASK_BENCH_CODEC_LINE_H
#define CACHECASK_BENCH_CODEC_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bench/codec.h"

struct line {
    const char *at;
    const char *end; /* without \r\n */
    const char *next;
};

/* Finds the line that begins at `at`. False: its end has not come yet. */
static inline bool line_read(struct line *line, const char *at, size_t len)
{
    const char *newline = memchr(at, '\n', len);

    if (!newline)
        return false;
    line->at = at;
    line->end = newline > at && newline[-1] == '\r' ? newline - 1 : newline;
    line->next = newline + 1;
    return true;
}

static inline bool line_starts_with(const char *at, const char *end, const char *word)
{
    size_t len = strlen(word);

    return (size_t)(end - at) >= len && memcmp(at, word, len) == 0;
}

static inline bool line_is(const char *at, const char *end, const char *word)
{
    return (size_t)(end - at) == strlen(word) && line_starts_with(at, end, word);
}

/* Any of memcached's three. */
static inline bool line_is_error(const char *at, const char *end)
{
    return line_starts_with(at, end, "ERROR") || line_starts_with(at, end, "CLIENT_ERROR") ||
           line_starts_with(at, end, "SERVER_ERROR");
}

/* Reads digits, if there are any, and returns where they end. NULL: the number has more than 32
 * bits. */
static inline const char *line_number(const char *at, const char *end, uint32_t *number)
{
    uint64_t value = 0;

    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > UINT32_MAX)
            return NULL;
    }
    *number = (uint32_t)value;
    return at;
}

/* Sets *reply to the line, of that kind, and returns how many bytes since `from` it takes, as a
 * decoder does. */
static inline size_t line_reply(const struct line *line, enum reply_kind kind, const char *from,
                                struct reply *reply)
{
    reply->kind = kind;
    reply->text = line->at;
    reply->text_len = (size_t)(line->end - line->at);
    return kind == REPLY_BAD ? 0 : (size_t)(line->next - from);
}

#endif
