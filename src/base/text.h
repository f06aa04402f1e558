/* text.h: a text that grows at its end, until there is no memory for it. */
#ifndef CACHECASK_SRC_BASE_TEXT_H
#define CACHECASK_SRC_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* All zero is an empty text. `data` belongs to the caller, who frees it. */
struct text {
    char *data;
    size_t len, capacity;
    bool failed; /* there was no memory, and something is missing */
};

/* Makes room for `len` more bytes. Returns where they go, for the caller to write there and add to
 * text->len; or NULL, and text->failed is set. */
char *text_reserve(struct text *text, size_t len);

__attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...);

#endif
