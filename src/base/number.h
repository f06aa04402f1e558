/* number.h: the numbers that incr and decr work on, as text. */
#ifndef CACHECASK_SRC_BASE_NUMBER_H
#define CACHECASK_SRC_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_DIGITS_MAX 20
#define NUMBER_LEN_MAX    1024 /* with blanks and zeros; anything longer is no number */

/* Like memcached: blanks around the number, a plus sign and leading zeros are accepted. */
static inline bool number_parse(const char *text, size_t len, uint64_t *out)
{
    size_t at = 0;
    uint64_t number = 0;
    while (at < len && (text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r')))
        at++;
    at += at < len && text[at] == '+';
    size_t first = at;
    for (; at < len && text[at] >= '0' && text[at] <= '9'; at++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[at] - '0'), &number))
            return false;
    *out = number;
    return at > first && (at == len || text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r'));
}

/* Writes the digits of a number; returns how many. */
static inline size_t number_format(char out[NUMBER_DIGITS_MAX], uint64_t number)
{
    char digits[NUMBER_DIGITS_MAX];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    for (size_t i = 0; i < count; i++)
        out[i] = digits[count - 1 - i];
    return count;
}

#endif
