/* log_disk.h: the side of the log that faces the disk, for log.c: writing, repairing, allocating ahead (log_disk.c), and
 * syncing (log_sync.c). */
#ifndef CACHECASK_STORAGE_LOG_LOG_DISK_H
#define CACHECASK_STORAGE_LOG_LOG_DISK_H

#include "storage/log/log.h"

/* The table of segments by slot: address space for all, memory as used. False: there is none. */
bool log_new_slots(struct log *log);
void log_free_slots(struct log *log);

/* Gives a segment its slot. False: all are taken. With log->lock held, or at the start. */
bool log_give_slot(struct log *log, struct segment *segment);

/* Makes a buffer that is all zero ready for use. False: no memory; it is freed all the same. */
bool log_init_buffer(struct log_buffer *buffer);
void log_free_buffer(struct log_buffer *buffer);

/* Copies the values that lie outside, for those who brought them are about to let them go. One that finds no memory is left
 * out: what is read of it later is a damaged record, and it was never acknowledged. */
void log_keep_outside(struct log_buffer *buffer);

/* Writes a buffer's extents to their segments. False with errno. With write_lock held. */
bool log_write_buffer(struct log *log, struct log_buffer *buffer);

/* Counts a buffer that has been written, adds its records to the hint files, tells how far the log is written, and empties the
 * buffer. With write_lock held. */
void log_note_written(struct log *log, struct log_buffer *buffer);

/* After a failed write: makes new files of all that is not synced, and writes `buffer` to them. False: that failed too, or the disk
 * has dropped something, which the syncer sees to; the log refuses appends from now on (log->failed) and keeps the buffer. With write_lock held. */
bool log_repair(struct log *log, struct log_buffer *buffer);

/* The same for the buffer that was kept, if there is one, which is written then; and what the disk has dropped of older ones is
 * written anew, or counted as lost (rescue.c). By the syncer, or when it has ended; takes write_lock. */
bool log_repair_stuck(struct log *log);

/* The first segment that may hold unsynced bytes (segment NULL), or the one behind `segment`, whose pin is given back. The
 * one that is answered is pinned: the cleaner may take it out of the log meanwhile. NULL: that was the last. */
struct segment *log_next_unsynced(struct log *log, struct segment *segment);

/* After a write: wakes the syncer before its time, if it has much to do; and holds writers, if it has too much. */
void log_apply_backpressure(struct log *log);

/* Syncs all that is written, oldest first, so that what a power loss leaves is a prefix (L2): log_report_last_sync says what there is
 * to do, before the syncer is waited for; log_sync_last does it when the syncer has ended, and says now and then how far it is.
 * False: it could not be done, and that is told. */
void log_report_last_sync(struct log *log);
bool log_sync_last(struct log *log);

/* The syncer's thread; `context` is the log. */
void *log_run_syncer(void *context);

/* With log->lock held: whether one more segment may be made now: within the limit, or beyond it because there is none for cleaning,
 * or for a deletion that waits. */
bool log_may_allocate(const struct log *log);

/* Sets the sums that log_disk_bytes answers from the segments themselves. At the start. */
void log_count_sizes(struct log *log);

/* Makes the first segment, a smaller one than usual when the disk is full. Answers as segment_create. */
enum store_status log_create_segment(struct log *log, uint64_t id, struct segment **out);

/* False: no threads are to be had. */
bool log_start_threads(struct log *log);
bool log_stop_threads(struct log *log); /* as log_stop */

#endif
