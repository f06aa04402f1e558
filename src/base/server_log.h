/* server_log.h: what the running server says to its operator, on standard error. See server_log.c. */
#ifndef CACHECASK_SRC_BASE_SERVER_LOG_H
#define CACHECASK_SRC_BASE_SERVER_LOG_H

#include <stddef.h>

/* From which verbosity on something is said (-v, -vv, -vvv; `verbosity N`). Warnings and errors are always said. */
enum server_log_level {
    SERVER_LOG_EVENTS = 1,   /* what is unusual: a client refused, a wrong password, a reload */
    SERVER_LOG_COMMANDS = 2, /* connections that come and go, commands and their replies */
    SERVER_LOG_STATES = 3,   /* what a connection waits for */
};

#define SERVER_LOG_LINE_MAX    4096 /* of a line, its end included: what a pipe takes in one piece */
#define SERVER_LOG_ESCAPED_MAX 264  /* room for what server_log_escape writes */

/* Finds out how to write to standard error without ever waiting for who reads it: at the start, before root is given up, and
 * again when standard error is another one. Before the first time lines are written all the same. */
void server_log_open(void);

/* Writes one line; the end of the line is added. Never waits: a line that finds no room is dropped, and when there is some again a
 * line says how many were. Any thread. */
__attribute__((format(printf, 1, 2))) void server_log(const char *format, ...);

/* The same for a signal handler, as it stands: `line` has its end. */
void server_log_write(const char *line);

/* Says how many lines were dropped, if some were and there is room. To be called now and then. */
void server_log_catch_up(void);

/* Writes what a client has sent as printable ASCII to out, zero-terminated: all else, and the backslash, as \xNN. What is
 * too long ends in "...". Returns out. */
const char *server_log_escape(char out[SERVER_LOG_ESCAPED_MAX], const char *bytes, size_t len);

#endif
