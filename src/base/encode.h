/* encode.h: keys as words of a line: everything except letters, digits and -_.~ becomes %XX. */
#ifndef CACHECASK_SRC_BASE_ENCODE_H
#define CACHECASK_SRC_BASE_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

/* Writes up to 3 * len bytes; returns how many. */
static inline size_t encode_url(char *out, const char *key, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)key[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (plain) {
            out[used++] = (char)c;
            continue;
        }
        out[used++] = '%';
        out[used++] = hex[c >> 4];
        out[used++] = hex[c & 15];
    }
    return used;
}

#endif
