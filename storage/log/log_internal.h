/* log_internal.h: what the files of the log share; others use log.h.
 *
 *     log_open ─▶ log ─▶ log_repair ─▶ rescue
 *         │        └──────────┴───────▶ log_write ─▶ log_backpressure
 *         ├─▶ log_sync ─▶ log_repair, log_backpressure
 *         └─▶ log_segments; all ─▶ log_space
 */
#ifndef CACHECASK_STORAGE_LOG_LOG_INTERNAL_H
#define CACHECASK_STORAGE_LOG_LOG_INTERNAL_H

#include "storage/log/log.h"

/* log.c: puts a segment at the end of the log; and makes it the active one. With the lock held. */
void log_link_segment(struct log *log, struct segment *segment);
void log_activate(struct log *log, struct segment *segment);

/* log_space.c */

#define DISK_BLOCK 4096

/* What `bytes` of a file take on disk, in most file systems. */
static inline uint64_t log_on_disk(uint64_t bytes)
{
    return (bytes + DISK_BLOCK - 1) & ~(uint64_t)(DISK_BLOCK - 1);
}

/* Sets the size of the segment's hint file. By the one thread that writes it. */
void log_set_hint_bytes(struct log *log, struct segment *segment, uint32_t bytes);

/* Sets the sums that log_disk_bytes returns from the segments themselves. At the start. */
void log_count_sizes(struct log *log);

/* The size of the next segment; and whether it may be made now: within the limit, or beyond it
 * because there is none for cleaning, or for a deletion that waits. With the lock held. */
uint32_t log_next_size(const struct log *log);
bool log_may_allocate(const struct log *log);

/* The table of segments: address space for all, memory as used. False: there is none. */
bool log_new_segment_table(struct log *log);
void log_free_segment_table(struct log *log);

/* Gives a segment its index. False: all are taken. With the lock held, or at the start. */
bool log_give_index(struct log *log, struct segment *segment);

/* log_write.c */

/* Makes a buffer that is all zero ready for use. False: no memory; it is freed all the same. */
bool log_init_buffer(struct log_buffer *buffer);
void log_free_buffer(struct log_buffer *buffer);

/* Copies the values that lie outside, whose owners are about to free them. One for which there is
 * no memory is left out: it becomes a damaged record, and was never acknowledged. */
void log_keep_outside(struct log_buffer *buffer);

/* Writes a buffer's extents to their segments. False with errno. With write_lock held. */
bool log_write_buffer(struct log *log, struct log_buffer *buffer);

/* Counts a buffer that has been written, adds its records to the hint files, advances written_lsn,
 * and empties the buffer. With write_lock held. */
void log_note_written(struct log *log, struct log_buffer *buffer);

/* log_repair.c */

/* After a failed write: makes new files of all that is not synced, and writes `buffer` to them.
 * False: that failed too, or the disk has dropped something, which is left to the syncer; the log
 * refuses appends from now on (log->failed) and keeps the buffer. With write_lock held. */
bool log_repair(struct log *log, struct log_buffer *buffer);

/* The same for the buffer that was kept, if any; and what the disk has dropped of older ones is
 * written again, or counted as lost (rescue.c). By the syncer or after it; takes write_lock. */
bool log_repair_stuck(struct log *log);

/* The first segment that may hold unsynced bytes (segment NULL), or the one after `segment`, which
 * is unpinned; NULL: that was the last. It is pinned, for the cleaner may remove it meanwhile. */
struct segment *log_next_unsynced(struct log *log, struct segment *segment);

/* rescue.c */

/* A copy of a segment that is checked. */
struct rescue {
    struct log *log;
    struct segment *segment;
    struct segment copy;   /* only its header and its descriptor */
    uint32_t end;          /* of what was copied */
    struct hint_list list; /* of its records, once they are needed */
    bool exact;            /* all of its records, and with their true sizes */
    uint64_t restored;
    bool has_marks, has_gaps;
};

/* Checks the copy of the segment's first `end` bytes, in the file `fd`, and writes again what is no
 * valid record there. False with errno; unless it `may_ask` the store, for which the caller must
 * hold no lock, damage alone is a failure. rescue_end has to follow. */
bool rescue_copy(struct rescue *rescue, struct log *log, struct segment *segment, int fd,
                 uint32_t end, bool may_ask);

/* If the copy is `in_place`, what is lost in it is taken out of the keydir and counted. */
void rescue_end(struct rescue *rescue, bool in_place);

/* log_backpressure.c */

/* Bytes that were answered since the start, and would be lost in a power failure now. */
uint64_t log_waiting_bytes(const struct log *log);

static inline bool log_is_sync_wanted(const struct log *log)
{
    return atomic_load(&log->sync_wanted_lsn) > log_synced_lsn(log);
}

/* By the syncer: releases writers if the disk has caught up or failed; reports that it keeps up. */
void log_release_writers(struct log *log);
void log_end_episode(struct log *log);

/* After a write: wakes the syncer early if much waits for it; if too much does, holds writers. */
void log_apply_backpressure(struct log *log);

/* log_sync.c */

/* When the log ends: log_report_last_sync reports how much is still to be synced, before the syncer
 * is joined; log_sync_last syncs it afterwards, and reports its progress. False: it could not be
 * done, and that is reported. */
void log_report_last_sync(struct log *log);
bool log_sync_last(struct log *log);

/* The syncer's thread; `context` is the log. */
void *log_run_syncer(void *context);

/* log_segments.c */

/* Makes the first segment, a smaller one if the disk is full. Returns as segment_create does. */
enum store_status log_create_segment(struct log *log, uint64_t id, struct segment **out);

/* The allocator's thread; `context` is the log. */
void *log_run_allocator(void *context);

#endif
