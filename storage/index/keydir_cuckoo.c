/* keydir_cuckoo.c: room for an entry whose two buckets are full. */
#include "storage/index/keydir_internal.h"

#define SEARCH_MAX 256 /* buckets looked at for a free place */

/* Puts an entry into bucket `where`, one of its two. */
static void settle(struct keydir_shard *shard, const struct keydir_entry *entry, uint32_t where,
                   uint32_t i)
{
    struct candidates candidates = candidates_of(shard, entry->tag);
    assert(where == candidates.home || where == candidates.other);
    put(shard, bucket_at(shard, where), i, entry);
    if (where != candidates.home)
        count_displaced(bucket_at(shard, candidates.home), entry->tag, 1);
}

/* A bucket of the search for a free place, into which the entry at parent's `index` may move. */
struct step {
    uint32_t bucket;
    int16_t parent;
    uint16_t index;
};

/* Moves entries along the path to steps[at], which has a free place; leaves one at its start. */
static void shift_along(struct keydir_shard *shard, const struct step *steps, int at, uint32_t hole,
                        const struct keydir_entry *entry)
{
    while (steps[at].parent >= 0) {
        int parent = steps[at].parent;
        struct keydir_entry moved = lift(shard, steps[parent].bucket, steps[at].index);
        settle(shard, &moved, steps[at].bucket, hole);
        hole = steps[at].index;
        at = parent;
    }
    settle(shard, entry, steps[at].bucket, hole);
}

/* Whether the path to steps[at] goes through `bucket`: moving along a loop would lose the way. */
static bool on_path(const struct step *steps, int at, uint32_t bucket)
{
    for (; at >= 0; at = steps[at].parent)
        if (steps[at].bucket == bucket)
            return true;
    return false;
}

/* Buckets are looked at some steps after their fetch began. */
bool keydir_insert_by_moving(struct keydir_shard *shard, const struct keydir_entry *entry,
                             struct candidates candidates)
{
    struct step steps[SEARCH_MAX];
    int count = 2;
    steps[0] = (struct step){.bucket = candidates.home, .parent = -1};
    steps[1] = (struct step){.bucket = candidates.other, .parent = -1};
    for (int at = 0; at < count; at++) {
        const struct keydir_bucket *bucket = bucket_at(shard, steps[at].bucket);
        int hole = free_index(bucket);
        if (hole >= 0) {
            shift_along(shard, steps, at, (uint32_t)hole, entry);
            return true;
        }
        for (uint16_t i = 0; i < KEYDIR_ENTRIES && count < SEARCH_MAX; i++) {
            struct candidates theirs = candidates_of(shard, bucket->words[i]);
            uint32_t to = theirs.home == steps[at].bucket ? theirs.other : theirs.home;
            if (on_path(steps, at, to))
                continue;
            __builtin_prefetch(bucket_at(shard, to));
            steps[count++] = (struct step){.bucket = to, .parent = (int16_t)at, .index = i};
        }
    }
    return false;
}
