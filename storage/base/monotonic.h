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
    uint64_t at_ns = monotonic_ns() + (uint64_t)ms * NS_PER_MS;
    return (struct timespec){.tv_sec = (time_t)(at_ns / NS_PER_S),
                             .tv_nsec = (long)(at_ns % NS_PER_S)};
}

#endif
