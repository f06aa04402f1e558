/* watch_log.h: the lines that one thread has for those who watch. See watch_log.c. */
#ifndef CACHECASK_SRC_OBSERVE_WATCH_LOG_H
#define CACHECASK_SRC_OBSERVE_WATCH_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCH_LINE_MAX 1024 /* bytes of a line's text */

struct watch_log {
    char *data;
    uint32_t size;                         /* a power of two */
    _Alignas(64) _Atomic uint64_t written; /* bytes, ever; the writer's */
    _Atomic uint64_t pending; /* no line below this number will come any more; see watch_log_add */
    _Atomic uint64_t lines, dropped;
    _Alignas(64) _Atomic uint64_t read; /* bytes, ever; the reader's */
};

/* A line, as it lies in the log. */
struct watch_line {
    uint64_t gid;
    uint64_t us;     /* wall clock */
    uint32_t events; /* who wants it */
    uint32_t len;
    char text[];
};

/* `size` is rounded up to a power of two. False: no memory. */
bool watch_log_init(struct watch_log *log, uint32_t size);
void watch_log_release(struct watch_log *log);

/* Adds a line; one thread at a time. Its number is the next of `next_gid`, which all logs share.
 * Never waits: a line that finds no room is dropped and counted. */
void watch_log_add(struct watch_log *log, _Atomic uint64_t *next_gid, uint64_t us, uint32_t events,
                   const char *text, size_t len);

/* All lines with a number below the result are in the logs now. */
uint64_t watch_log_bound(const struct watch_log *logs, uint32_t count,
                         const _Atomic uint64_t *next_gid);

/* The next line of all logs, in *from, if its number is below `bound`; else NULL. It stays until
 * watch_log_next. For one reader. */
const struct watch_line *watch_log_first(const struct watch_log *logs, uint32_t count,
                                         uint64_t bound, uint32_t *from);
void watch_log_next(struct watch_log *log, const struct watch_line *line);

#endif
