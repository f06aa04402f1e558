/* codec_put.h: how encoders write. Private to the codecs. */
#ifndef CACHECASK_BENCH_CODEC_PUT_H
#define CACHECASK_BENCH_CODEC_PUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline char *put(char *out, const char *text, size_t len)
{
    memcpy(out, text, len);
    return out + len;
}

static inline char *put_number(char *out, uint64_t number)
{
    char digits[20];
    char *at = digits + sizeof digits;

    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(out, at, (size_t)(digits + sizeof digits - at));
}

#endif
