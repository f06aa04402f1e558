/* rescue.h: what a disk has dropped of a segment that was not synced yet: written anew, or known to
 * be lost. See rescue.c. */
#ifndef CACHECASK_STORAGE_LOG_RESCUE_H
#define CACHECASK_STORAGE_LOG_RESCUE_H

#include "storage/log/log.h"

/* A copy of a segment that is looked through. */
struct rescue {
    struct log *log;
    struct segment *segment;
    struct hint_list list; /* of its records, once they are needed */
    bool exact;            /* all of its records, and with their true sizes */
    uint64_t restored;
    bool has_marks, has_gaps;
};

/* Looks through the copy of the segment's first `end` bytes, in the file `fd`, and writes anew what
 * is no valid record there. False with errno; if not `may_ask`, for who asks must hold no lock,
 * damage alone is a failure. rescue_end has to follow. */
bool rescue_copy(struct rescue *rescue, struct log *log, struct segment *segment, int fd,
                 uint32_t end, bool may_ask);

/* Whether the copy is the segment's file now: then what is lost in it is taken out of the keydir
 * and counted. */
void rescue_end(struct rescue *rescue, bool in_place);

#endif
