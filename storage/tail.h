/* tail.h: where the log ends, when the last of it may not be on disk as it was written. See tail.c. */
#ifndef CACHECASK_STORAGE_TAIL_H
#define CACHECASK_STORAGE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/segment.h"
#include "storage/status.h"

/* One segment, in the order of the log. */
struct tail_part {
    const struct segment *segment;
    bool hinted;        /* its hint file was finished after its sync */
    bool previous_lost; /* the file of the segment before it is there, and has no valid header */
    uint64_t
        end; /* in: bytes that may be log; out: those that are. 0: no part of the log any more */
};

/* Finds the end of the log. boot_id is the machine's, 0 when unknown. *cut: a hole has ended it that no start has found
 * before. Changes nothing on disk. STORE_OK, STORE_IO (errno). */
enum store_status tail_find(const struct file_system *files, struct tail_part *parts, size_t count,
                            uint64_t boot_id, bool *cut);

#endif
