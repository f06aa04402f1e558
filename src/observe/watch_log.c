/* watch_log.c: a ring of lines between one thread that writes and one that reads, without a lock.
 *
 * Each thread that writes has a log of its own, and the reader brings the lines of all logs into
 * the order of their numbers. A number is taken before its line is in the log: so a writer first
 * notes in `pending` a number that is not higher, and clears it when the line is in. The reader
 * reads the next number, and then what is pending: all lines below both have arrived.
 *
 *     writer:  pending = next_gid;  gid = next_gid++;
 *              write the line;  written += …;  pending = none
 *     reader:  bound = next_gid;  bound = min(bound, every pending);  look at every `written`
 *
 * Lines begin at multiples of 8. One that does not fit before the ring's end is put at its
 * beginning; a gap (events 0) fills the rest.
 */
#include "src/observe/watch_log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE_PENDING UINT64_MAX
#define SIZE_MIN     (4 * (WATCH_LINE_MAX + sizeof(struct watch_line)))

bool watch_log_init(struct watch_log *log, uint32_t size)
{
    memset(log, 0, sizeof *log);
    log->size = 4096;
    while (log->size < size || log->size < SIZE_MIN)
        log->size *= 2;
    atomic_store(&log->pending, NONE_PENDING);
    log->data = malloc(log->size);
    return log->data != NULL;
}

void watch_log_release(struct watch_log *log)
{
    free(log->data);
}

static uint32_t space_of(size_t len)
{
    return (uint32_t)(sizeof(struct watch_line) + len + 7) & ~UINT32_C(7);
}

static struct watch_line *line_at(const struct watch_log *log, uint64_t position)
{
    return (struct watch_line *)(log->data + (position & (log->size - 1)));
}

static uint32_t until_end(const struct watch_log *log, uint64_t position)
{
    return log->size - (uint32_t)(position & (log->size - 1));
}

/* The rest of the ring is less than a line, or is filled by a gap. */
static uint64_t skip_gap(const struct watch_log *log, uint64_t position)
{
    uint32_t rest = until_end(log, position);
    if (rest < sizeof(struct watch_line) || line_at(log, position)->events == 0)
        return position + rest;
    return position;
}

void watch_log_add(struct watch_log *log, _Atomic uint64_t *next_gid, uint64_t us, uint32_t events,
                   const char *text, size_t len)
{
    assert(events && len <= WATCH_LINE_MAX);
    uint64_t written = atomic_load_explicit(&log->written, memory_order_relaxed);
    uint32_t space = space_of(len);
    uint32_t rest = until_end(log, written);
    uint32_t gap = rest < space ? rest : 0;
    if (written + gap + space - atomic_load_explicit(&log->read, memory_order_acquire) >
        log->size) {
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
        return;
    }
    if (gap >= sizeof(struct watch_line))
        line_at(log, written)->events = 0;
    struct watch_line *line = line_at(log, written + gap);
    atomic_store(&log->pending, atomic_load(next_gid));
    line->gid = atomic_fetch_add(next_gid, 1);
    line->us = us;
    line->events = events;
    line->len = (uint32_t)len;
    memcpy(line->text, text, len);
    atomic_store(&log->written, written + gap + space);
    atomic_store(&log->pending, NONE_PENDING);
    atomic_fetch_add_explicit(&log->lines, 1, memory_order_relaxed);
}

uint64_t watch_log_bound(const struct watch_log *logs, uint32_t count,
                         const _Atomic uint64_t *next_gid)
{
    uint64_t bound = atomic_load(next_gid);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t pending = atomic_load(&logs[i].pending);
        bound = pending < bound ? pending : bound;
    }
    return bound;
}

static const struct watch_line *first_of(const struct watch_log *log)
{
    uint64_t read = atomic_load_explicit(&log->read, memory_order_relaxed);
    if (read == atomic_load(&log->written))
        return NULL;
    return line_at(log, skip_gap(log, read));
}

const struct watch_line *watch_log_first(const struct watch_log *logs, uint32_t count,
                                         uint64_t bound, uint32_t *from)
{
    const struct watch_line *first = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct watch_line *line = first_of(&logs[i]);
        if (!line || line->gid >= bound)
            continue;
        first = line;
        bound = line->gid;
        *from = i;
    }
    return first;
}

void watch_log_next(struct watch_log *log, const struct watch_line *line)
{
    uint64_t read = atomic_load_explicit(&log->read, memory_order_relaxed);
    atomic_store_explicit(&log->read, skip_gap(log, read) + space_of(line->len),
                          memory_order_release);
}
