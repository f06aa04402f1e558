/* watch.c: lines on their way to the clients that watch.
 *
 *     worker ──▶ its log ──┐                     ┌──▶ buffer ──▶ connection's worker ──▶ client
 *     worker ──▶ its log ──┼──▶ this thread ─────┤
 *     cleaner ─▶ its log ──┘                     └──▶ buffer ──▶ …
 *
 * A worker writes a line to its log and goes on: it never waits for a watcher. Every few
 * milliseconds the thread brings the lines of all logs into order (watch_log.c), and copies each to
 * the watchers that want it. A watcher's buffer is bounded: if its client does not read, lines are
 * skipped, and the next line says how many. The worker of its connection takes the whole buffer and
 * sends it like any other output.
 *
 * While nobody watches, `observed` is 0, nothing is written, and the thread sleeps.
 */
#include "src/observe/watch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/observe/watch_log.h"

#define PREFIX_MAX    80 /* ts=… gid=…, or skipped=… */
#define PAUSE_MIN_NS  1000000
#define PAUSE_MAX_NS  32000000
#define LINES_AT_ONCE 256 /* with the lock, which a worker may wait for */

struct watcher {
    bool used;
    bool woken; /* its worker, which has not taken anything yet */
    uint32_t events;
    uint64_t first_gid; /* lines before it came are not for it */
    uint64_t skipped;   /* since the last line */
    struct waker waker; /* of the thread that has its connection */
    char *buffer;       /* NULL: until the next line */
    size_t len;
};

struct watch {
    _Atomic uint32_t *observed;
    struct watch_log *logs;
    uint32_t log_count;
    _Atomic uint64_t next_gid;
    size_t buffer_size;
    pthread_t thread;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    bool started, stopping, detail;
    struct watcher watchers[WATCH_WATCHERS_MAX];
    uint32_t watcher_count;
    uint64_t sent, skipped;
};

static uint64_t wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void watch_write(struct watch *watch, uint32_t log, uint32_t events, const char *text, size_t len)
{
    watch_log_add(&watch->logs[log], &watch->next_gid, wall_us(), events, text, len);
}

/* The thread. With the lock, but for its pauses. */

static void append(struct watcher *watcher, const char *text, size_t len)
{
    memcpy(watcher->buffer + watcher->len, text, len);
    watcher->len += len;
}

/* False: there is no room. */
static bool give_line(const struct watch *watch, struct watcher *watcher,
                      const struct watch_line *line)
{
    char text[2 * PREFIX_MAX];
    int len = 0;
    if (!watcher->buffer)
        watcher->buffer = malloc(watch->buffer_size);
    if (!watcher->buffer || watch->buffer_size - watcher->len < line->len + sizeof text)
        return false;
    if (watcher->skipped)
        len = snprintf(text, sizeof text, "skipped=%" PRIu64 "\n", watcher->skipped);
    len += snprintf(text + len, sizeof text - (size_t)len,
                    "ts=%" PRIu64 ".%06" PRIu64 " gid=%" PRIu64 " ", line->us / 1000000,
                    line->us % 1000000, line->gid);
    append(watcher, text, (size_t)len);
    append(watcher, line->text, line->len);
    append(watcher, "\n", 1);
    watcher->skipped = 0;
    return true;
}

static void pass_line(struct watch *watch, const struct watch_line *line)
{
    for (uint32_t i = 0; i < WATCH_WATCHERS_MAX; i++) {
        struct watcher *watcher = &watch->watchers[i];
        if (!watcher->used || !(watcher->events & line->events) || line->gid < watcher->first_gid)
            continue;
        if (give_line(watch, watcher, line)) {
            watch->sent++;
        } else {
            watcher->skipped++;
            watch->skipped++;
        }
    }
}

static uint32_t pass_lines(struct watch *watch)
{
    uint64_t bound = watch_log_bound(watch->logs, watch->log_count, &watch->next_gid);
    uint32_t passed = 0, from;
    const struct watch_line *line;
    while (passed < LINES_AT_ONCE &&
           (line = watch_log_first(watch->logs, watch->log_count, bound, &from))) {
        pass_line(watch, line);
        watch_log_next(&watch->logs[from], line);
        passed++;
    }
    return passed;
}

static void wake_workers(struct watch *watch)
{
    for (uint32_t i = 0; i < WATCH_WATCHERS_MAX; i++) {
        struct watcher *watcher = &watch->watchers[i];
        if (!watcher->used || !watcher->len || watcher->woken)
            continue;
        watcher->woken = true;
        waker_wake(&watcher->waker);
    }
}

static void pause_unlocked(struct watch *watch, long pause_ns)
{
    const struct timespec pause = {.tv_nsec = pause_ns};
    pthread_mutex_unlock(&watch->lock);
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&watch->lock);
}

static void *run_watch(void *context)
{
    struct watch *watch = context;
    long pause_ns = PAUSE_MIN_NS;
    pthread_setname_np(pthread_self(), "cc-watch");
    pthread_mutex_lock(&watch->lock);
    while (!watch->stopping) {
        if (watch->watcher_count == 0) {
            pthread_cond_wait(&watch->changed, &watch->lock);
            continue;
        }
        uint32_t passed = pass_lines(watch);
        wake_workers(watch);
        pause_ns = passed ? PAUSE_MIN_NS : pause_ns * 2;
        if (pause_ns > PAUSE_MAX_NS)
            pause_ns = PAUSE_MAX_NS;
        pause_unlocked(watch, passed == LINES_AT_ONCE ? 0 : pause_ns);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

/* The watchers. */

/* With the lock. */
static void update_observed(struct watch *watch)
{
    uint32_t events = watch->detail ? WATCH_DETAIL : 0;
    for (uint32_t i = 0; i < WATCH_WATCHERS_MAX; i++)
        if (watch->watchers[i].used)
            events |= watch->watchers[i].events;
    atomic_store(watch->observed, events);
}

/* With the lock. */
static enum watch_added start_watcher(struct watch *watch, struct watcher *watcher)
{
    watch->started = watch->started || pthread_create(&watch->thread, NULL, run_watch, watch) == 0;
    if (!watch->started)
        return WATCH_FAILED;
    watcher->used = true;
    watch->watcher_count++;
    update_observed(watch);
    pthread_cond_signal(&watch->changed);
    return WATCH_ADDED;
}

enum watch_added watch_add(struct watch *watch, uint32_t events, struct waker waker,
                           uint32_t *index)
{
    enum watch_added result = WATCH_TOO_MANY;
    uint32_t i = 0;
    pthread_mutex_lock(&watch->lock);
    while (i < WATCH_WATCHERS_MAX && watch->watchers[i].used)
        i++;
    if (i < WATCH_WATCHERS_MAX) {
        watch->watchers[i] = (struct watcher){
            .events = events, .waker = waker, .first_gid = atomic_load(&watch->next_gid)};
        result = watch->stopping ? WATCH_FAILED : start_watcher(watch, &watch->watchers[i]);
        *index = i;
    }
    pthread_mutex_unlock(&watch->lock);
    return result;
}

void watch_remove(struct watch *watch, uint32_t index)
{
    pthread_mutex_lock(&watch->lock);
    struct watcher *watcher = &watch->watchers[index];
    free(watcher->buffer);
    watcher->used = false;
    watch->watcher_count--;
    update_observed(watch);
    pthread_mutex_unlock(&watch->lock);
}

bool watch_take(struct watch *watch, uint32_t index, struct piece *piece)
{
    pthread_mutex_lock(&watch->lock);
    struct watcher *watcher = &watch->watchers[index];
    bool some = watcher->len > 0;
    if (some) {
        *piece = piece_of_heap(watcher->buffer, watcher->len);
        watcher->len = 0;
        watcher->buffer = NULL;
    }
    watcher->woken = false;
    pthread_mutex_unlock(&watch->lock);
    return some;
}

void watch_set_detail(struct watch *watch, bool on)
{
    pthread_mutex_lock(&watch->lock);
    watch->detail = on;
    update_observed(watch);
    pthread_mutex_unlock(&watch->lock);
}

void watch_get_stats(struct watch *watch, struct watch_stats *stats)
{
    *stats = (struct watch_stats){0};
    for (uint32_t i = 0; i < watch->log_count; i++) {
        stats->worker_written += atomic_load(&watch->logs[i].lines);
        stats->worker_dropped += atomic_load(&watch->logs[i].dropped);
    }
    pthread_mutex_lock(&watch->lock);
    stats->watcher_sent = watch->sent;
    stats->watcher_skipped = watch->skipped;
    stats->watchers = watch->watcher_count;
    pthread_mutex_unlock(&watch->lock);
}

/* The beginning and the end. */

struct watch *watch_new(uint32_t workers, uint32_t worker_kib, uint32_t watcher_kib,
                        _Atomic uint32_t *observed, bool detail)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->observed = observed;
    watch->detail = detail;
    watch->buffer_size = ((size_t)watcher_kib << 10) + WATCH_LINE_MAX + 2 * PREFIX_MAX;
    atomic_store(&watch->next_gid, 1);
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->changed, NULL);
    watch->logs = aligned_alloc(_Alignof(struct watch_log), (workers + 1) * sizeof *watch->logs);
    for (; watch->logs && watch->log_count < workers + 1; watch->log_count++)
        if (!watch_log_init(&watch->logs[watch->log_count], worker_kib << 10))
            break;
    if (watch->log_count < workers + 1) {
        watch_free(watch);
        return NULL;
    }
    update_observed(watch);
    return watch;
}

void watch_stop(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    if (watch->started)
        pthread_join(watch->thread, NULL);
}

void watch_free(struct watch *watch)
{
    if (!watch)
        return;
    for (uint32_t i = 0; i < watch->log_count; i++)
        watch_log_release(&watch->logs[i]);
    free(watch->logs);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}
