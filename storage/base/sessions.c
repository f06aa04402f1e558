#include "storage/base/sessions.h"

void sessions_init(struct sessions *sessions)
{
    pthread_mutex_init(&sessions->lock, NULL);
    sessions->first = NULL;
    atomic_store(&sessions->reclaim_epoch, 1);
}

void sessions_release(struct sessions *sessions)
{
    pthread_mutex_destroy(&sessions->lock);
}

void sessions_add(struct sessions *sessions, struct session_link *link)
{
    pthread_mutex_lock(&sessions->lock);
    link->next = sessions->first;
    sessions->first = link;
    pthread_mutex_unlock(&sessions->lock);
}

void sessions_remove(struct sessions *sessions, struct session_link *link)
{
    struct session_link **from = &sessions->first;
    while (*from != link)
        from = &(*from)->next;
    *from = link->next;
}

void sessions_wake_all(struct sessions *sessions)
{
    pthread_mutex_lock(&sessions->lock);
    for (struct session_link *link = sessions->first; link; link = link->next)
        if (link->wake)
            link->wake(link->context);
    pthread_mutex_unlock(&sessions->lock);
}

uint64_t sessions_batches(struct sessions *sessions)
{
    uint64_t batches = 0;
    pthread_mutex_lock(&sessions->lock);
    for (struct session_link *link = sessions->first; link; link = link->next)
        batches += atomic_load_explicit(&link->batches, memory_order_relaxed);
    pthread_mutex_unlock(&sessions->lock);
    return batches;
}

uint64_t sessions_oldest_reader(void *context)
{
    struct sessions *sessions = context;
    uint64_t oldest = UINT64_MAX;
    pthread_mutex_lock(&sessions->lock);
    for (struct session_link *link = sessions->first; link; link = link->next) {
        uint64_t epoch = atomic_load(&link->reclaim_epoch);
        if (epoch && epoch < oldest)
            oldest = epoch;
    }
    pthread_mutex_unlock(&sessions->lock);
    return oldest;
}

uint64_t sessions_retire(void *context)
{
    struct sessions *sessions = context;
    return atomic_fetch_add(&sessions->reclaim_epoch, 1);
}
