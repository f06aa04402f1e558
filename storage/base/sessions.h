/* sessions.h: the sessions of a store: who is inside a batch and since when, and how all are woken.
 *
 * What has left the index may still be read by a session inside a batch. Each batch copies the
 * reclaim_epoch when it begins; each retired thing ends the epoch and gets its number, and is free
 * once every running batch began in a later one (storage/README.md, "The reclaim epoch").
 */
#ifndef CACHECASK_STORAGE_BASE_SESSIONS_H
#define CACHECASK_STORAGE_BASE_SESSIONS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* A session's part of it. */
struct session_link {
    _Alignas(64) _Atomic uint64_t reclaim_epoch; /* of the batch it is in; 0: none */
    _Atomic uint64_t batches;                    /* ever entered */
    struct session_link *next;
    void (*wake)(void *context); /* NULL: it is not woken */
    void *context;
};

struct sessions {
    pthread_mutex_t lock; /* of the list; also taken by those who sum up what sessions count */
    struct session_link *first;
    _Alignas(64) _Atomic uint64_t reclaim_epoch; /* counts up with each thing that is retired */
};

void sessions_init(struct sessions *sessions);
void sessions_release(struct sessions *sessions);
void sessions_add(struct sessions *sessions, struct session_link *link);

/* With the lock held. */
void sessions_remove(struct sessions *sessions, struct session_link *link);

/* Wakes all sessions: room was made, or the log is synced. Any thread. */
void sessions_wake_all(struct sessions *sessions);

/* Batches that all sessions have entered: changes while clients are served. */
uint64_t sessions_batches(struct sessions *sessions);

/* The oldest epoch in which a running batch began; UINT64_MAX: none runs. */
uint64_t sessions_oldest_reader(void *sessions);

/* Ends the epoch and returns its number. */
uint64_t sessions_retire(void *sessions);

#endif
