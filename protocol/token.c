/* token.c: numbers, read by hand. */
#include "protocol/token.h"

/* 19 digits always fit into 64 bits; only what is longer needs to be watched for overflow. */
#define DIGITS_SAFE 19

static bool read_digits(const char *data, size_t len, uint64_t *out)
{
    uint64_t number = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)(unsigned char)data[i] - '0';
        if (digit > 9)
            return false;
        if (i < DIGITS_SAFE)
            number = number * 10 + digit;
        else if (__builtin_mul_overflow(number, 10, &number) ||
                 __builtin_add_overflow(number, digit, &number))
            return false;
    }
    if (len == 0)
        return false;
    *out = number;
    return true;
}

bool token_uint64(struct bytes token, uint64_t *out)
{
    return read_digits(token.data, token.len, out);
}

bool token_uint32(struct bytes token, uint32_t *out)
{
    uint64_t number;
    if (!token_uint64(token, &number) || number > UINT32_MAX)
        return false;
    *out = (uint32_t)number;
    return true;
}

bool token_int64(struct bytes token, int64_t *out)
{
    bool negative = token.len > 0 && token.data[0] == '-';
    if (negative)
        token = (struct bytes){token.data + 1, token.len - 1};
    uint64_t number;
    if (!token_uint64(token, &number) || number > (uint64_t)INT64_MAX + negative)
        return false;
    *out = negative ? (int64_t)(0 - number) : (int64_t)number;
    return true;
}

bool token_exptime(struct bytes token, int64_t *out)
{
    int64_t exptime;
    if (!token_int64(token, &exptime) || exptime < INT32_MIN || exptime > INT32_MAX)
        return false;
    *out = exptime;
    return true;
}
