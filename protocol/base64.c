/* base64.c: four digits for three bytes, by hand. */
#include "protocol/base64.h"

size_t base64_encode(char *out, const char *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t used = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = 0;
        for (size_t k = i; k < i + 3; k++)
            bits = bits << 8 | (k < len ? (unsigned char)data[k] : 0);
        for (int shift = 18; shift >= 0; shift -= 6)
            out[used++] = digits[bits >> shift & 63];
    }
    for (size_t i = 0; i < (3 - len % 3) % 3; i++)
        out[used - 1 - i] = '=';
    return used;
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '/')
        return c == '+' ? 62 : 63;
    return -1;
}

/* Reads the next group of four: its 24 bits, and how many of the four are digits and not padding.
 * Moves *at past it. False: there are not four. */
static bool next_group(struct bytes word, size_t *at, uint32_t *bits, size_t *digits)
{
    size_t count = 0;
    *bits = 0;
    *digits = 0;
    for (; *at < word.len && count < 4; ++*at) {
        int digit = digit_of(word.data[*at]);
        if (digit < 0 && word.data[*at] != '=')
            continue;
        *bits = *bits << 6 | (digit < 0 ? 0 : (uint32_t)digit);
        *digits += digit >= 0 && *digits == count; /* no digit counts after padding */
        count++;
    }
    return count == 4;
}

static bool has_more(struct bytes word, size_t at)
{
    while (at < word.len && digit_of(word.data[at]) < 0 && word.data[at] != '=')
        at++;
    return at < word.len;
}

size_t base64_decode(char *out, size_t room, struct bytes word)
{
    size_t used = 0;
    size_t digits = 4;
    for (size_t at = 0; has_more(word, at);) {
        uint32_t bits;
        if (digits < 4 || !next_group(word, &at, &bits, &digits) || digits < 2)
            return 0;
        for (size_t i = 0; i + 1 < digits; i++) {
            if (used == room)
                return 0;
            out[used++] = (char)(bits >> (16 - 8 * i));
        }
    }
    return used;
}
