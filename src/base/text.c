#include "src/base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

char *text_reserve(struct text *text, size_t len)
{
    if (text->capacity - text->len < len) {
        size_t capacity = (text->len + len) * 2;
        char *data = realloc(text->data, capacity);

        if (!data) {
            text->failed = true;
            return NULL;
        }
        text->data = data;
        text->capacity = capacity;
    }
    return text->data + text->len;
}

void text_add(struct text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);

    char *out = text_reserve(text, (size_t)len + 1);
    if (!out)
        return;

    va_start(arguments, format);
    vsnprintf(out, (size_t)len + 1, format, arguments);
    va_end(arguments);
    text->len += (size_t)len;
}
