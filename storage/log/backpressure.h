/* backpressure.h: how much of the log may wait for the disk before writers wait for it, too.
 *
 * A write is answered when the kernel has it; the syncer brings it to the disk later. If clients
 * write faster than the disk, the backlog would grow without bound: a power loss would take more
 * than the window that `--sync` promises (L5), and finally the kernel, which bounds its dirty
 * pages, would block each write, and with it the thread that serves the reads. So the log holds its
 * writers before that, and only them:
 *
 * - when the oldest unsynced write is older than the window W. The syncer begins when it is half
 *   that old, so a disk whose syncs take no longer than the other half holds nobody;
 * - when more bytes wait than the disk takes in a window (of a second at most), by the speed of its
 *   last syncs. At half of that the syncer begins at once, so it is always busy while writers come.
 *
 * Age counts from two times: that of the oldest write which the running sync covers, and that of
 * the first write since it began. When the sync ends, only the second counts.
 *
 * Consider a disk whose syncs take S > W / 2, one after the other. A write that comes as one begins
 * is on disk when the next one ends, after 2 S, so writers run until W and are held until then. If
 * they were released at the end of the first, what was written meanwhile would be S old, and they
 * would run for W - S in each S: most of the time while S is little more than W / 2, and hardly at
 * all near W. Therefore those held for age stay so while the oldest write is older than 5/8 W. With
 * S above that they are still held during the second sync; when it ends all is on disk, and they
 * have the whole window again, W in each W / 2 + 2 S. So the share of time in which writes are
 * accepted falls from 1 to 0.6, 0.4 at S = W, 0.15 at 3 W, and never to nothing.
 *
 * Nothing here waits or locks. Times are passed in, in microseconds of any monotonic clock. Writers
 * call backpressure_note_write, one at a time; the syncer begin_sync and end_sync; any thread the
 * others.
 */
#ifndef CACHECASK_STORAGE_LOG_BACKPRESSURE_H
#define CACHECASK_STORAGE_LOG_BACKPRESSURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes that may wait: no fewer, for any disk takes as many; no more, for any kernel's sake. */
#define BACKPRESSURE_LIMIT_MIN (UINT64_C(16) << 20)
#define BACKPRESSURE_LIMIT_MAX (UINT64_C(256) << 20)

struct backpressure {
    bool enabled;
    uint64_t window_us;           /* how old an unsynced write may be; UINT64_MAX: any age */
    uint64_t drain_us;            /* within this time the disk should take all that waits */
    _Atomic uint64_t limit_bytes; /* that may wait */
    _Atomic uint64_t covered_us;  /* the oldest write that the running sync covers; 0: none */
    _Atomic uint64_t first_us;    /* the first write since it began; 0: none */
};

enum backpressure_hold { BACKPRESSURE_NONE, BACKPRESSURE_AGE, BACKPRESSURE_BYTES };

/* `sync_interval_ms`: below 0 nobody is ever held; 0: replies wait anyway, and only bytes count. */
void backpressure_init(struct backpressure *pressure, int sync_interval_ms);

/* Something was written: to be called after it counts as written, and before it is answered. */
void backpressure_note_write(struct backpressure *pressure, uint64_t now_us);

/* Whether a sync should begin, with so many bytes waiting. */
bool backpressure_wants_sync(const struct backpressure *pressure, uint64_t waiting_bytes);

/* When the next sync should begin at the latest; may be past. With a window only. */
uint64_t backpressure_due_us(const struct backpressure *pressure, uint64_t now_us);

/* Why writers should be held, with so many bytes waiting; `held`: why they were until now. */
enum backpressure_hold backpressure_look(const struct backpressure *pressure,
                                         uint64_t waiting_bytes, enum backpressure_hold held,
                                         uint64_t now_us);

/* A sync begins. To be called before the look at what is written: all of that is covered. */
void backpressure_begin_sync(struct backpressure *pressure);

/* It has brought `bytes` to the disk. The writes of a failed one become the next one's. */
void backpressure_end_sync(struct backpressure *pressure, uint64_t bytes, uint64_t begin_us,
                           uint64_t end_us);

/* Whether a sync that takes so long is too slow for the window, however little is written. */
bool backpressure_is_slow(const struct backpressure *pressure, uint64_t sync_us);

#endif
