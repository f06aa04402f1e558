/* watch.h: `watch`: shows operators what happens in the server. See watch.c. */
#ifndef CACHECASK_SRC_OBSERVE_WATCH_H
#define CACHECASK_SRC_OBSERVE_WATCH_H

#include <stdatomic.h>

#include "src/base/output.h"
#include "src/base/waker.h"
#include "src/observe/observed.h"

#define WATCH_WATCHERS_MAX 20

enum watch_event {
    WATCH_FETCHERS = 1 << 0,
    WATCH_MUTATIONS = 1 << 1,
    WATCH_EVICTIONS = 1 << 2,
    WATCH_CONNEVENTS = 1 << 3,
    WATCH_DELETIONS = 1 << 4,
    WATCH_SYSEVENTS = 1 << 5,
    WATCH_RAWCMDS = 1 << 6,
    WATCH_DETAIL = 1 << 7, /* nobody watches this: `stats detail` is on */
};

struct clock;
struct prefixes;
struct watch;
struct store_evicted;

/* The thread is made when it is first needed. *observed is kept up to date: the events that
 * somebody wants. `detail`: `stats detail` counts from the start. NULL: no memory. */
struct watch *watch_new(uint32_t workers, uint32_t worker_kib, uint32_t watcher_kib,
                        _Atomic uint32_t *observed, bool detail);

/* Passes nothing on any more: before the workers are freed. */
void watch_stop(struct watch *watch);
void watch_free(struct watch *watch);

/* The watchers: connections of workers. */

enum watch_added {
    WATCH_ADDED, /* `waker` is called when watch_take may have something */
    WATCH_TOO_MANY,
    WATCH_FAILED,
};

enum watch_added watch_add(struct watch *watch, uint32_t events, struct waker waker,
                           uint32_t *watcher);
void watch_remove(struct watch *watch, uint32_t watcher);

/* Lines for a watcher, in *piece. False: there are none now. Never waits. */
bool watch_take(struct watch *watch, uint32_t watcher, struct piece *piece);

/* Turns the counters of `stats detail` on or off. */
void watch_set_detail(struct watch *watch, bool on);

struct watch_stats {
    uint64_t worker_dropped, worker_written, watcher_skipped, watcher_sent, watchers;
};

void watch_get_stats(struct watch *watch, struct watch_stats *stats);

/* What a thread needs to write lines; no other thread uses it. */
struct watch_writer {
    struct watch *watch;
    struct prefixes *prefixes;
    const _Atomic uint32_t *observed; /* that of watch_new */
    uint32_t log;                     /* that of the thread: its number, or that of all workers */
};

/* The hot path asks this and calls nothing else while it is false. */
static inline bool watch_wants(const struct watch_writer *writer)
{
    return __builtin_expect(atomic_load_explicit(writer->observed, memory_order_relaxed) != 0, 0);
}

/* A line of the thread whose log has this number. */
void watch_write(struct watch *watch, uint32_t log, uint32_t events, const char *text, size_t len);

/* Each request is passed to one of these once it has been run. They write a line, or count for
 * `stats detail`, if somebody wants it. (watch_lines.c) */
void watch_got(const struct watch_writer *writer, const struct observed_request *observed,
               bool found, size_t value_len);
void watch_stored(const struct watch_writer *writer, const struct observed_request *observed,
                  enum reply_status status, uint32_t now_s);
void watch_deleted(const struct watch_writer *writer, const struct observed_request *observed,
                   bool found);
void watch_ran(const struct watch_writer *writer, const struct observed_request *observed);

/* A connection of this address has come, or gone for this reason. */
void watch_opened(const struct watch_writer *writer, int fd, const char *address);
void watch_closed(const struct watch_writer *writer, int fd, const char *address,
                  const char *reason);

/* The server as a whole did something: its name and a number. */
void watch_system(const struct watch_writer *writer, const char *type, const char *name,
                  uint64_t number);

/* For the cleaner: both take a struct watch_evictions. */
struct watch_evictions {
    struct watch_writer writer;
    const struct clock *clock;
};

bool watch_wants_evicted(void *evictions);
void watch_evicted(void *evictions, const struct store_evicted *evicted);

/* The events that words name: "fetchers mutations …"; none is fetchers. 0: a word is no event. */
uint32_t watch_parse(struct bytes words);

#endif
