/* token.h: words and numbers of a text line.
 *
 * Only the blank separates words, as in memcached: tabs and other control bytes are part of a word.
 * libc's readers of numbers need a terminator, know locales, and skip what a protocol must refuse.
 */
#ifndef CACHECASK_PROTOCOL_TOKEN_H
#define CACHECASK_PROTOCOL_TOKEN_H

#include <string.h>

#include "protocol/request.h"

/* The next word of [*at, end), with *at moved past it; an empty word when none is left. */
static inline struct bytes token_next(const char **at, const char *end)
{
    const char *start = *at;
    while (start < end && *start == ' ')
        start++;
    const char *stop = start;
    while (stop < end && *stop != ' ')
        stop++;
    *at = stop;
    return (struct bytes){start, (size_t)(stop - start)};
}

static inline bool token_is(struct bytes token, const char *word, size_t word_len)
{
    return token.len == word_len && memcmp(token.data, word, word_len) == 0;
}

/* True if these bytes can stand in a line as they are: none is a blank or a control byte. */
static inline bool token_is_plain(struct bytes token)
{
    for (size_t i = 0; i < token.len; i++)
        if ((unsigned char)token.data[i] <= ' ' || token.data[i] == 127)
            return false;
    return true;
}

/* The token without a leading plus. A plus is part of a number only where memcached reads it so: in
 * the flags and the expiry of storage commands, and in an operator's settings. */
static inline struct bytes token_without_plus(struct bytes token)
{
    size_t plus = token.len > 0 && *token.data == '+';
    return (struct bytes){token.data + plus, token.len - plus};
}

/* Each reads the whole token or refuses it: no blanks, no hexadecimal, no plus, no overflow. *out
 * is set on success only. Leading zeros are accepted, a minus only in signed numbers. */
bool token_uint64(struct bytes token, uint64_t *out);
bool token_uint32(struct bytes token, uint32_t *out);
bool token_int64(struct bytes token, int64_t *out);

/* Any expiry but that of a storage command: 32 bits with a sign, as in memcached. */
bool token_exptime(struct bytes token, int64_t *out);

#endif
