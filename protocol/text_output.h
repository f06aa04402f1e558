/* text_output.h: what the writers of text answers share. Private to protocol/. They are on the hot
 * path: numbers are written by hand, two digits at a time.
 */
#ifndef CACHECASK_PROTOCOL_TEXT_OUTPUT_H
#define CACHECASK_PROTOCOL_TEXT_OUTPUT_H

#include <string.h>

#include "protocol/text.h"

/* Writes `len` bytes; returns the end. */
static inline char *text_put(char *out, const char *data, size_t len)
{
    memcpy(out, data, len);
    return out + len;
}

static const char text_digit_pairs[] = "0001020304050607080910111213141516171819"
                                       "2021222324252627282930313233343536373839"
                                       "4041424344454647484950515253545556575859"
                                       "6061626364656667686970717273747576777879"
                                       "8081828384858687888990919293949596979899";

static const uint64_t text_powers_of_ten[] = {
    0,
    10,
    100,
    1000,
    10000,
    100000,
    1000000,
    10000000,
    100000000,
    1000000000,
    10000000000,
    100000000000,
    1000000000000,
    10000000000000,
    100000000000000,
    1000000000000000,
    10000000000000000,
    100000000000000000,
    1000000000000000000,
    10000000000000000000U,
};

/* 1233 / 4096 is a little more than log10(2), so this is right or one too high. */
static inline unsigned text_count_digits(uint64_t number)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(number | 1);
    unsigned digits = bits * 1233 >> 12;
    return digits + 1 - (number < text_powers_of_ten[digits]);
}

/* Writes the digits of a number; returns the end. */
static inline char *text_put_number(char *out, uint64_t number)
{
    if (number < 10) {
        *out = (char)('0' + number);
        return out + 1;
    }
    char *end = out + text_count_digits(number);
    char *at = end;
    for (; number >= 100; number /= 100)
        memcpy(at -= 2, text_digit_pairs + 2 * (number % 100), 2);
    if (number >= 10)
        memcpy(at - 2, text_digit_pairs + 2 * number, 2);
    else
        at[-1] = (char)('0' + number);
    return end;
}

/* True when the answer to a meta command has a form of its own (meta_reply.c): writes it, up to the
 * value, and sets *len. False when it is the line that its status has in all commands. */
bool meta_reply_head(const struct request *request, const struct reply *reply, char *out,
                     size_t *len);

#endif
