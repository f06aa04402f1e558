/* list.h: goes through all keys that live: the inside of the listing in store.h. See list.c. */
#ifndef CACHECASK_STORAGE_LIST_H
#define CACHECASK_STORAGE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

#define LIST_GROUP_MAX (UINT64_C(64) << 20) /* bytes of copies at a time */

/* What is remembered of an entry until its key is read. */
struct list_copy {
    uint64_t tag;
    uint64_t order; /* by its place then, in RAM before on disk; the last 16 bits are the shard */
};

/* So that a listing keeps out of the way. */
struct list_pace {
    uint64_t since_us; /* it has worked */
    uint32_t moves;
};

struct store_list {
    struct store *store;
    uint32_t shard; /* the next one to be copied */
    struct list_copy *copies;
    size_t count, capacity;
    size_t next;   /* the copy whose turn it is */
    bool overflow; /* there were more copies to be made than the capacity */
    uint64_t unreadable;
    struct list_pace pace;
};

/* Sorts copies by their order, from `bit` of it down. */
void list_sort(struct list_copy *copies, size_t count, uint64_t bit, struct list_pace *pace);

#endif
