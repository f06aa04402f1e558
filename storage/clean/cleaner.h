/* cleaner.h: takes disk and index back: moves what is worth keeping, evicts what is not, and
 * removes segments. See cleaner.c, which chooses, and clean_segment.c, which takes one segment
 * back. */
#ifndef CACHECASK_STORAGE_CLEAN_CLEANER_H
#define CACHECASK_STORAGE_CLEAN_CLEANER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/thread.h"
#include "storage/status.h"

struct store;

struct cleaner {
    struct thread thread;
    bool manual; /* see store_open_manual: there is no thread */

    /* Nothing more can be taken back, and who finds no room is refused, while the log ends there.
     * UINT64_MAX: it is not so. */
    _Atomic uint64_t refuses_at_lsn;
    /* A store: by so many bytes its values may grow, until the log has come so far; then it is
     * looked into again. */
    _Atomic uint64_t growth, grow_until_lsn;
    _Atomic bool grow_wanted;   /* somebody waits for that */
    _Atomic bool index_wanted;  /* somebody waits for room in the keydir */
    _Atomic bool index_refuses; /* a store: and there will be none */
    _Atomic bool refused;       /* somebody was, since the last look */

    _Atomic int last_action, last_reason; /* enum clean_action and clean_reason, for statistics */
    _Atomic uint64_t segments, moved_bytes, backlog_bytes;
    _Atomic uint64_t evicted_items, evicted_unfetched, expired_items, expired_unfetched;
    _Atomic uint64_t evicted_disk_limit, evicted_disk_full, evicted_index; /* of evicted_items */
    /* The cleaner's own: */
    uint64_t reap_after_us; /* not before this time is what has expired looked for */
    /* When it last knew of somebody who was refused; 0: not lately, and reported so */
    uint64_t refused_us;
    uint64_t disk_full_us;     /* when it last evicted for a full disk; 0: not lately */
    uint64_t reported_evicted; /* values evicted for it before that began */
    bool dir_unsynced;         /* an unlink may not be durable yet (G5) */
    uint64_t allowance_us;     /* when the next bytes may be read, for the clean rate */
    /* What was moved, and where from, until the copies are synced (clean_segment.c). */
    pthread_mutex_t moves_lock;
    struct clean_moves *moves;
};

void cleaner_init(struct store *store);
void cleaner_release(struct store *store);
bool cleaner_start(struct store *store);

/* Whether room may still be made on disk; for the log. */
bool cleaner_may_help(void *store);

/* What becomes of a key for which the index has no room: STORE_WAIT_SPACE: it is looked into, and a
 * wake follows; STORE_FULL. */
enum store_status cleaner_want_index(struct store *store);

/* Whether the values of the store may grow by `size` bytes: STORE_OK; STORE_WAIT_SPACE: it is
 * looked into, and a wake follows; STORE_FULL. */
enum store_status cleaner_may_grow(struct store *store, uint64_t size);

/* One step: chooses what to do and tries it. False: there is nothing to do now. For the cleaner's
 * thread, or in a manual store whoever opened it. */
bool cleaner_step(struct store *store);

#endif
