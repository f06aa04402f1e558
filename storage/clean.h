/* clean.h: takes one segment back. See clean.c for what is carried on. The cleaner's own. */
#ifndef CACHECASK_STORAGE_CLEAN_H
#define CACHECASK_STORAGE_CLEAN_H

#include "storage/store_internal.h"

struct clean_order {
    bool oldest;     /* nothing lies before the segment */
    bool evict;      /* what is not rescued is forgotten; only the oldest segment */
    uint64_t rescue; /* bytes of visited values that may be moved when evicting */
    bool urgent;     /* somebody waits: no pauses */
};

/* Moves what lives, carries what must not be forgotten, and removes the segment, which is sealed, synced and hinted. True:
 * something was taken back, or the segment was found damaged and is kept. False: it did not work now. */
bool clean_segment(struct store *store, struct segment *segment, const struct clean_order *order);

/* Removes a segment in which nothing lives and nothing is to be carried. */
bool clean_unread(struct store *store, struct segment *segment, bool oldest);

#endif
