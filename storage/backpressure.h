/* backpressure.h: how much of the log may wait for the disk before writers wait for it, too.
 *
 * A write is answered when the kernel has it, and the syncer brings it to the disk behind that. Where clients write more than
 * the disk takes, what waits would grow without end: a loss of power would take more than the window that `--sync` promises
 * (L5), and in the end the kernel, which bounds its dirty pages, would make each write wait, and with it
 * the thread that serves the reads. So the log holds its writers first, and nobody else:
 *
 * - when the oldest write that is not synced is older than the window. The syncer begins each half window, so a disk that
 *   needs no more than the other half holds nobody;
 * - when more bytes wait than the disk takes in a window (of a second at most), by the speed of its last syncs. At half of that
 *   the syncer begins at once, so it has always work while writers come.
 *
 * Nothing here waits or locks, and times are passed in, in microseconds of any clock that never goes back. One thread calls
 * backpressure_note_sync, any may call the others.
 */
#ifndef CACHECASK_STORAGE_BACKPRESSURE_H
#define CACHECASK_STORAGE_BACKPRESSURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes that may wait: at least what no disk should mind, at most what no kernel should mind. */
#define BACKPRESSURE_LIMIT_MIN (UINT64_C(16) << 20)
#define BACKPRESSURE_LIMIT_MAX (UINT64_C(256) << 20)

struct backpressure {
    bool enabled;
    uint64_t
        window_us; /* how old a write may be that is not synced; UINT64_MAX: as old as it likes */
    uint64_t drain_us;            /* within this time the disk should take all that waits */
    _Atomic uint64_t limit_bytes; /* that may wait */
    _Atomic uint64_t safe_us;     /* what was written before this time is synced */
};

/* `sync_interval_ms` as in struct log_options: below 0 nobody is ever held; 0: replies wait for the disk anyway, and only bytes
 * count. */
void backpressure_init(struct backpressure *backpressure, int sync_interval_ms, uint64_t now_us);

/* Whether a sync should begin, with so many bytes waiting. */
bool backpressure_wants_sync(const struct backpressure *backpressure, uint64_t waiting_bytes);

/* Whether writers should be held, with so many bytes waiting. */
bool backpressure_is_behind(const struct backpressure *backpressure, uint64_t waiting_bytes,
                            uint64_t now_us);

/* All that was written before `begin_us`, `bytes` of it since the last time, was synced at `end_us`. */
void backpressure_note_sync(struct backpressure *backpressure, uint64_t bytes, uint64_t begin_us,
                            uint64_t end_us);

#endif
