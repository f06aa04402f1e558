/* monotonic.h: the clock that never goes back, for waiting and for measuring. What the store holds
 * knows only `now_s`. The programs of bench/ use it too. */
#ifndef CACHECASK_STORAGE_BASE_MONOTONIC_H
#define CACHECASK_STORAGE_BASE_MONOTONIC_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline uint64_t monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static inline uint64_t monotonic_us(void)
{
    return monotonic_ns() / 1000;
}

/* The time `ms` from now, for pthread_cond_timedwait on a condition of this clock. */
static inline struct timespec monotonic_in_ms(int ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += ms % 1000 * 1000000L;
    if (at.tv_nsec >= 1000000000L) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000L;
    }
    return at;
}

#endif
