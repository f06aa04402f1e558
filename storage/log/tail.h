/* tail.h: where the log ends, when the last of it may not be on disk as it was written. See
 * tail.c. */
#ifndef CACHECASK_STORAGE_LOG_TAIL_H
#define CACHECASK_STORAGE_LOG_TAIL_H

#include "storage/log/load.h"
#include "storage/log/segment_files.h"
#include "storage/status.h"

/* Finds the end of the log, of loads in its order whose segment, hint, end and previous_lost are
 * set, and sets their `end` to it. boot_id is the machine's, 0 when unknown. *cut: a hole has ended
 * the log that no start has found before. Changes nothing on disk. STORE_OK, STORE_IO (errno). */
enum store_status tail_find(struct segment_files *table, struct load *loads, size_t count,
                            uint64_t boot_id, bool *cut);

#endif
