/* server_log.h: messages of the running server, on standard error. See server_log.c. */
#ifndef CACHECASK_SRC_BASE_SERVER_LOG_H
#define CACHECASK_SRC_BASE_SERVER_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The verbosity (-v, -vv, -vvv; `verbosity N`) that messages need, except warnings and errors. */
enum server_log_level {
    SERVER_LOG_EVENTS = 1,   /* what is unusual: a client refused, a wrong password, a reload */
    SERVER_LOG_COMMANDS = 2, /* connections that come and go, commands and their replies */
    SERVER_LOG_STATES = 3,   /* what a connection waits for */
};

#define SERVER_LOG_LINE_MAX    4096 /* with its end: a pipe takes so much in one piece */
#define SERVER_LOG_ESCAPED_MAX 264  /* room for what server_log_escape writes */

/* Finds out how to write to standard error without ever waiting for its reader. To be called at the
 * start, before root is given up, and again when standard error has been replaced. Lines before the
 * first call are written all the same. */
void server_log_open(void);

/* Writes one line, and adds its end. Never waits: a line that finds no room is dropped, and counted
 * in a line that does. Any thread. */
__attribute__((format(printf, 1, 2))) void server_log(const char *format, ...);

/* The same in a signal handler, for a constant line that has its end. */
void server_log_write(const char *line);

/* Logs how many lines were dropped, if there is room. To be called now and then. */
void server_log_catch_up(void);

/* Writes bytes of a client to out as printable ASCII, zero-terminated; others, and the backslash,
 * as \xNN. If they are too long it ends in "...". Returns out. */
const char *server_log_escape(char out[SERVER_LOG_ESCAPED_MAX], const char *bytes, size_t len);

/* True at most once a minute: what was last logged at *last_s may be logged again. Any thread. */
bool server_log_may_repeat(_Atomic uint32_t *last_s, uint32_t now_s);

#endif
