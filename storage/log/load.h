/* load.h: one segment on its way into the index, while the store starts. */
#ifndef CACHECASK_STORAGE_LOG_LOAD_H
#define CACHECASK_STORAGE_LOG_LOAD_H

#include <stdbool.h>

#include "storage/log/hint.h"
#include "storage/log/segment.h"

struct load {
    struct segment *segment;
    uint64_t end;       /* bytes of it that are log, or may be; 0: no part of the log any more */
    bool previous_lost; /* the file of the segment before it is there, and has no valid header */
    bool hinted;        /* it has a hint file; that was finished after its sync */
    bool scanned; /* `entries` held what is in the segment before the load; only of the last one */
    struct hint hint; /* before the load: what the hint file says of itself, if there is one */
    struct hint_entry *entries; /* hint.count of them, while they are needed */
    uint32_t *parts; /* when they are sorted: where each part begins, and the last one ends */
};

#endif
