/* clock.h: the time of the server: seconds of the wall clock that never go back while it runs. */
#ifndef CACHECASK_SRC_BASE_CLOCK_H
#define CACHECASK_SRC_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t offset_ns; /* wall clock minus monotonic clock, at the start */
    uint64_t started_us;
};

void clock_init(struct clock *clock);

/* Seconds since 1970: the wall clock at the start, moved on by the monotonic one. */
uint32_t clock_now_s(const struct clock *clock);

/* For measuring how long something takes. May be called in a signal handler. */
uint64_t clock_monotonic_us(void);

/* Seconds since clock_init, at least 1: monitors divide by it. */
uint32_t clock_uptime_s(const struct clock *clock);

/* The last second that can be represented, in 2106. */
#define CLOCK_LAST_S (UINT32_MAX - 1)

/* From a time as clients write it: 0 is none; up to 30 days it is relative, above that absolute.
 * Returns absolute seconds: 0 for none, 1 for what is over, CLOCK_LAST_S for any later time. */
uint32_t clock_deadline(int64_t exptime, uint32_t now_s);

/* The same for an expiry: 0 is never, and so is a time that cannot be represented. */
uint32_t clock_expiry(int64_t exptime, uint32_t now_s);

#endif
