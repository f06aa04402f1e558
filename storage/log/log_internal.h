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

/* log.c: puts a segment at the end of the log, and makes it the active one. With the lock held. */
void log_link_segment(struct log *log, struct segment *segment);
void log_activate(struct log *log, struct segment *segment);

/* log_space.c */

#define DISK_BLOCK 4096

/* What `bytes` of a file take on disk, as far as file systems are alike. */
static inline uint64_t log_on_disk(uint64_t bytes)
{
    return (bytes + DISK_BLOCK - 1) & ~(uint64_t)(DISK_BLOCK - 1);
}

/* Bytes of the segment's hint file. By the one thread that writes it. */
void log_set_hint_bytes(struct log *log, struct segment *segment, uint32_t bytes);

/* Of the next segment that is made; with the lock held. */
uint32_t log_next_size(const struct log *log);

/* The table of segments by segment index: address space for all, memory as used. False: there is
 * none. */
bool log_new_segment_table(struct log *log);
void log_free_segment_table(struct log *log);

/* Gives a segment its index. False: all are taken. With log->lock held, or at the start. */
bool log_give_index(struct log *log, struct segment *segment);

/* log_write.c */

/* Makes a buffer that is all zero ready for use. False: no memory; it is freed all the same. */
bool log_init_buffer(struct log_buffer *buffer);
void log_free_buffer(struct log_buffer *buffer);

/* Copies the values that lie outside, for those who brought them are about to let them go. One that
 * finds no memory is left out: what is read of it later is a damaged record, and it was never
 * acknowledged. */
void log_keep_outside(struct log_buffer *buffer);

/* Writes a buffer's extents to their segments. False with errno. With write_lock held. */
bool log_write_buffer(struct log *log, struct log_buffer *buffer);

/* Counts a buffer that has been written, adds its records to the hint files, tells how far the log
 * is written, and empties the buffer. With write_lock held. */
void log_note_written(struct log *log, struct log_buffer *buffer);

/* log_repair.c */

/* After a failed write: makes new files of all that is not synced, and writes `buffer` to them.
 * False: that failed too, or the disk has dropped something, which the syncer sees to; the log
 * refuses appends from now on (log->failed) and keeps the buffer. With write_lock held. */
bool log_repair(struct log *log, struct log_buffer *buffer);

/* The same for the buffer that was kept, if there is one, which is written then; and what the disk
 * has dropped of older ones is written anew, or counted as lost (rescue.c). By the syncer, or when
 * it has ended; takes write_lock. */
bool log_repair_stuck(struct log *log);

/* The first segment that may hold unsynced bytes (segment NULL), or the one behind `segment`, whose
 * pin is given back. The one that is answered is pinned: the cleaner may take it out of the log
 * meanwhile. NULL: that was the last. */
struct segment *log_next_unsynced(struct log *log, struct segment *segment);

/* log_backpressure.c */

/* Bytes that were answered since the start and would be lost with the power. */
uint64_t log_waiting_bytes(const struct log *log);

/* By the syncer: lets writers go on once the disk has caught up, or has failed, of which they are
 * told; and reports when nobody has waited for a while. */
void log_release_writers(struct log *log);
void log_end_episode(struct log *log);

/* After a write: wakes the syncer before its time, if it has much to do; and holds writers, if it
 * has too much. */
void log_apply_backpressure(struct log *log);

/* log_sync.c */

/* Syncs all that is written, oldest first, so that what a power loss leaves is a prefix (L2):
 * log_report_last_sync says what there is to do, before the syncer is waited for; log_sync_last
 * does it when the syncer has ended, and says now and then how far it is. False: it could not be
 * done, and that is reported. */
void log_report_last_sync(struct log *log);
bool log_sync_last(struct log *log);

/* The syncer's thread; `context` is the log. */
void *log_run_syncer(void *context);

/* log_space.c, more of it */

/* With log->lock held: whether one more segment may be made now: within the limit, or beyond it
 * because there is none for cleaning, or for a deletion that waits. */
bool log_may_allocate(const struct log *log);

/* Sets the sums that log_disk_bytes answers from the segments themselves. At the start. */
void log_count_sizes(struct log *log);

/* log_segments.c */

/* Makes the first segment, a smaller one than usual when the disk is full. Answers as
 * segment_create. */
enum store_status log_create_segment(struct log *log, uint64_t id, struct segment **out);

/* The allocator's thread; `context` is the log. */
void *log_run_allocator(void *context);

#endif
