#define _GNU_SOURCE
#include "storage/base/thread.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "storage/base/monotonic.h"

#define NICE_LOW 10

void thread_begin(const char *name, enum thread_priority priority)
{
    pthread_setname_np(pthread_self(), name);
    if (priority == THREAD_LOW)
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE_LOW);
}

void thread_sleep_us(uint64_t us)
{
    const struct timespec pause = {.tv_nsec = (long)us * 1000};
    nanosleep(&pause, NULL);
}

void thread_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool thread_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, uint32_t ms)
{
    struct timespec until = monotonic_in_ms((int)ms);
    return pthread_cond_timedwait(cond, lock, &until) == 0;
}

void thread_init(struct thread *thread)
{
    *thread = (struct thread){0};
    pthread_mutex_init(&thread->lock, NULL);
    thread_cond_init(&thread->wake);
}

void thread_release(struct thread *thread)
{
    pthread_mutex_destroy(&thread->lock);
    pthread_cond_destroy(&thread->wake);
}

bool thread_start(struct thread *thread, void *(*run)(void *context), void *context)
{
    thread->started = pthread_create(&thread->id, NULL, run, context) == 0;
    return thread->started;
}

void thread_stop(struct thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    atomic_store(&thread->stopping, true);
    pthread_cond_signal(&thread->wake);
    pthread_mutex_unlock(&thread->lock);

    if (thread->started)
        pthread_join(thread->id, NULL);
    thread->started = false;
}

void thread_signal(struct thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    thread->signalled = true;
    pthread_cond_signal(&thread->wake);
    pthread_mutex_unlock(&thread->lock);
}

/* `signalled`: whether a signal that came before counts. */
static bool wait_ms(struct thread *thread, uint32_t ms, bool signalled)
{
    struct timespec until = monotonic_in_ms((int)ms);
    int result = 0;
    pthread_mutex_lock(&thread->lock);
    thread->signalled &= signalled;
    while (!thread_is_stopping(thread) && !thread->signalled && result != ETIMEDOUT)
        result = pthread_cond_timedwait(&thread->wake, &thread->lock, &until);
    thread->signalled = false;
    pthread_mutex_unlock(&thread->lock);
    return !thread_is_stopping(thread);
}

bool thread_wait_ms(struct thread *thread, uint32_t ms)
{
    return wait_ms(thread, ms, true);
}

bool thread_wait_anew_ms(struct thread *thread, uint32_t ms)
{
    return wait_ms(thread, ms, false);
}
