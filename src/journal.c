/* journal.c: one line, one write.
 *
 * A line reaches the file, pipe or terminal behind standard error with a single system call, so lines of several threads do
 * not mix. Bytes of clients are always escaped first: a key with a line end in it must not look like a line of ours.
 */
#define _GNU_SOURCE
#include "src/journal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void journal(const char *format, ...)
{
    char line[JOURNAL_LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (len < 0)
        return;
    size_t size = (size_t)len < sizeof line - 1 ? (size_t)len : sizeof line - 2;
    line[size] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, size + 1); /* there is nobody to tell it to */
    (void)ignored;
}

const char *journal_escape(char out[JOURNAL_ESCAPED_MAX], const char *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const size_t longest = 4, end = JOURNAL_ESCAPED_MAX - sizeof "...";
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (at + longest > end) {
            strcpy(out + at, "...");
            return out;
        }
        if (byte >= ' ' && byte < 0x7f && byte != '\\') {
            out[at++] = (char)byte;
            continue;
        }
        out[at++] = '\\';
        out[at++] = 'x';
        out[at++] = digits[byte >> 4];
        out[at++] = digits[byte & 15];
    }
    out[at] = '\0';
    return out;
}
