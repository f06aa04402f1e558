/* clean_segment.h: takes one segment back. See clean_decide.c for what is carried on. */
#ifndef CACHECASK_STORAGE_CLEAN_CLEAN_SEGMENT_H
#define CACHECASK_STORAGE_CLEAN_CLEAN_SEGMENT_H

#include "storage/store_internal.h"

struct clean_order {
    bool oldest;               /* nothing lies before the segment */
    bool unread;               /* nothing is alive or to be carried: its file may even be gone */
    bool evict;                /* what is not rescued is forgotten; only the oldest segment */
    uint64_t rescue;           /* bytes of visited values that may be moved when evicting */
    _Atomic uint64_t *evicted; /* counts the values that are evicted */
    bool urgent;               /* somebody waits: no pauses */
};

enum clean_result {
    CLEAN_DONE,    /* or found damaged, and kept until it is the oldest */
    CLEAN_FAILED,  /* the disk failed: errno */
    CLEAN_NO_ROOM, /* there was no room for the copies */
    CLEAN_STOPPED, /* the store is closing, or its log refuses writes */
};

/* Moves what is alive, carries what must be, and removes the sealed, synced and hinted segment. */
enum clean_result clean_segment(struct store *store, struct segment *segment,
                                const struct clean_order *order);

/* A value that was moved by a job, whose copy the disk has dropped before it was synced, is read
 * from where it was before, and written to `out` as the copy that `hinted` tells of. Answers its
 * size; 0: it was not moved, or that fails. Any thread without locks. */
size_t clean_recall(struct store *store, const struct segment *segment,
                    const struct hint_entry *hinted, char *out);

/* Frees what is kept for that. */
void clean_release(struct store *store);

/* Counts the marks of the segment, which cleaning it would have to carry (segment->mask_bytes). */
enum clean_result clean_recount(struct store *store, struct segment *segment);

#endif
