/* cleaner.h: takes disk and index back: moves what to keep, evicts the rest, removes segments. */
#ifndef CACHECASK_STORAGE_CLEAN_CLEANER_H
#define CACHECASK_STORAGE_CLEAN_CLEANER_H

#include "storage/base/thread.h"
#include "storage/report.h"
#include "storage/status.h"

struct store;

struct cleaner {
    struct thread thread;
    bool manual; /* see store_open_manual: there is no thread */

    /* While the log ends there, nothing can be taken back, and writes without room are refused. */
    _Atomic uint64_t refuses_at_lsn;
    /* A store: by so many bytes its values may grow, until the log has come so far. */
    _Atomic uint64_t growth, grow_until_lsn;
    _Atomic bool grow_wanted;   /* somebody waits for that */
    _Atomic bool index_wanted;  /* somebody waits for room in the keydir */
    _Atomic bool index_refuses; /* a store: and there will be none */
    _Atomic bool refused;       /* somebody was, since the last look */

    _Atomic int last_action, last_reason; /* enum clean_action and clean_reason, for statistics */
    _Atomic uint64_t segments, moved_bytes, backlog_bytes, read_errors;
    _Atomic uint64_t evicted_items, evicted_unfetched, expired_items, expired_unfetched;
    _Atomic uint64_t evicted_disk_limit, evicted_disk_full, evicted_index; /* of evicted_items */
    /* The cleaner's own: */
    uint64_t reap_after_us; /* not before this time is what has expired looked for */
    struct report_episode refusals,
        full_disk;             /* somebody was refused; it evicted for a full disk */
    uint64_t reported_evicted; /* values evicted for a full disk before that began */
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

/* For a key without room in the index: STORE_WAIT_SPACE, and a wake follows; or STORE_FULL. */
enum store_status cleaner_want_index(struct store *store);

/* Whether the values of the store may grow by `size` bytes: STORE_OK; STORE_WAIT_SPACE: it is
 * looked into, and a wake follows; STORE_FULL. */
enum store_status cleaner_may_grow(struct store *store, uint64_t size);

/* One step: chooses what to do and tries it. False: there is nothing to do now. For the cleaner's
 * thread, or in a manual store whoever opened it. */
bool cleaner_step(struct store *store);

#endif
