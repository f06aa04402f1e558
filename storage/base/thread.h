/* thread.h: the store's threads: names, timed waits, and threads that work when signalled. */
#ifndef CACHECASK_STORAGE_BASE_THREAD_H
#define CACHECASK_STORAGE_BASE_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum thread_priority {
    THREAD_NORMAL,
    THREAD_LOW, /* clients come first; a system that refuses this changes nothing that matters */
};

/* The first call of a new thread. `name` is what top(1) shows. */
void thread_begin(const char *name, enum thread_priority priority);

/* Less than a second. */
void thread_sleep_us(uint64_t us);

/* A condition for timed waits by the monotonic clock. */
void thread_cond_init(pthread_cond_t *cond);

/* Waits for the condition, at most so long. False: the time is over. */
bool thread_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, uint32_t ms);

/* A thread that works when it is signalled or when a tick has passed, until it is told to stop. */
struct thread {
    pthread_mutex_t lock; /* of what follows; taken last */
    pthread_cond_t wake;
    bool signalled;        /* since the last wait ended */
    _Atomic bool stopping; /* set under the lock */
    bool started;
    pthread_t id;
};

void thread_init(struct thread *thread);
void thread_release(struct thread *thread);

/* False: there is no room for another thread. */
bool thread_start(struct thread *thread, void *(*run)(void *context), void *context);

/* Tells it to stop, and waits for its end if it was started. */
void thread_stop(struct thread *thread);

/* There may be something to do. Any thread may call this. */
void thread_signal(struct thread *thread);

/* Waits for a signal, at most so long; a signal that came before counts. False: stop. */
bool thread_wait_ms(struct thread *thread, uint32_t ms);

/* The same, but only a signal that comes from now on ends the wait. */
bool thread_wait_anew_ms(struct thread *thread, uint32_t ms);

static inline bool thread_is_stopping(const struct thread *thread)
{
    return atomic_load(&thread->stopping);
}

#endif
