/* journal.h: what the running server says to its operator, on standard error. See journal.c. */
#ifndef CACHECASK_SRC_JOURNAL_H
#define CACHECASK_SRC_JOURNAL_H

#include <stddef.h>

/* From which verbosity on something is said (-v, -vv, -vvv; `verbosity N`). Warnings and errors are always said. */
enum journal_level {
    JOURNAL_EVENTS = 1,   /* what is unusual: a client refused, a wrong password, a reload */
    JOURNAL_COMMANDS = 2, /* connections that come and go, commands and their replies */
    JOURNAL_STATES = 3,   /* what a connection waits for */
};

#define JOURNAL_LINE_MAX    4096 /* of a line, its end included: what a pipe takes in one piece */
#define JOURNAL_ESCAPED_MAX 264  /* room for what journal_escape writes */

/* Writes one line; the end of the line is added. Any thread. */
__attribute__((format(printf, 1, 2))) void journal(const char *format, ...);

/* Writes what a client has sent as printable ASCII to out, zero-terminated: all else, and the backslash, as \xNN. What is
 * too long ends in "...". Returns out. */
const char *journal_escape(char out[JOURNAL_ESCAPED_MAX], const char *bytes, size_t len);

#endif
