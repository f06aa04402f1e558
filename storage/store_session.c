/* store_session.c: sessions, their batches, and when their answers may be sent. */
#include <stdlib.h>
#include <string.h>

#include "storage/store_internal.h"

struct store_session *store_session_new(struct store *store, void (*wake)(void *context),
                                        void *context, int wake_fd)
{
    struct store_session *session = aligned_alloc(64, sizeof *session);
    if (!session)
        return NULL;
    memset(session, 0, sizeof *session);
    session->store = store;
    session->link.wake = wake;
    session->link.context = context;
    if (wake_fd >= 0 && store->options.files == &file_system_os && !store->options.no_uring)
        session->ring = ring_new(wake_fd);
    pthread_mutex_init(&session->done_lock, NULL);
    sessions_add(&store->sessions, &session->link);
    return session;
}

void store_session_free(struct store_session *session)
{
    struct store *store = session->store;
    assert(atomic_load(&session->link.reclaim_epoch) == 0);
    cache_writer_close(&store->cache, &session->writer);

    pthread_mutex_lock(&store->sessions.lock);
    sessions_remove(&store->sessions, &session->link);
    store_sum_counters(&store->past, &session->counters);
    pthread_mutex_unlock(&store->sessions.lock);

    pthread_mutex_destroy(&session->done_lock);
    if (session->ring)
        ring_free(session->ring);
    free(session);
}

void store_enter(struct store_session *session, uint32_t now_s)
{
    assert(atomic_load_explicit(&session->link.reclaim_epoch, memory_order_relaxed) == 0);
    session->now_s = now_s;
    atomic_store(&session->link.reclaim_epoch,
                 atomic_load(&session->store->sessions.reclaim_epoch));
    /* Once more, in the one order of all such operations: either the evictor sees our epoch, or we
     * see that it has retired a page, and with it that no entry points there any more. The locks of
     * shards would say the same, but who looks an entry up may do without. */
    (void)atomic_load(&session->store->sessions.reclaim_epoch);
    store_look_at_log(session);
    session->lost_values =
        atomic_load_explicit(&session->store->log.lost_values, memory_order_relaxed);
    count_up(&session->link.batches, 1);
}

void store_leave(struct store_session *session)
{
    atomic_store_explicit(&session->link.reclaim_epoch, 0, memory_order_release);
}

uint64_t store_answer_lsn(struct store_session *session)
{
    uint64_t lsn = session->answer_lsn;
    if (lsn > session->commit_lsn)
        session->commit_lsn = lsn;
    session->answer_lsn = 0;
    return lsn;
}

uint64_t store_commit_lsn(struct store_session *session)
{
    store_answer_lsn(session);
    return session->commit_lsn;
}

enum store_status store_commit(struct store_session *session)
{
    return log_commit(&session->store->log, store_commit_lsn(session));
}

/* Whether the syncer has come past it; else asks it to. */
static enum store_status await_sync(struct log *log, uint64_t lsn)
{
    log_request_sync(log, lsn);
    if (atomic_load(&log->failed)) /* what a start has found is read from a full disk, too */
        return lsn <= log->start_lsn ? STORE_OK : STORE_READ_ONLY;
    return log_synced_lsn(log) >= lsn ? STORE_OK : STORE_WAIT_SYNC;
}

enum store_status store_durable(struct store_session *session, uint64_t lsn)
{
    struct log *log = &session->store->log;
    bool always = log->options.sync_interval_ms == STORE_SYNC_ALWAYS;
    enum store_status status = STORE_OK;
    if (store_durable_lsn(session->store) < lsn)
        status = always ? await_sync(log, lsn) : STORE_READ_ONLY;
    if (status == STORE_OK && always && log_may_have_lost(log, lsn, session->lost_values))
        return STORE_READ_ONLY;
    return status;
}
