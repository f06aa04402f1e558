/* clock.h: the time of the server: seconds of the wall clock that never go back while it runs. */
#ifndef CACHECASK_SRC_CLOCK_H
#define CACHECASK_SRC_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t offset_ns; /* wall clock minus monotonic clock, at the start */
    uint64_t started_us;
};

void clock_init(struct clock *clock);

/* Seconds since 1970: the wall clock at the start, moved on by the monotonic one. */
uint32_t clock_now_s(const struct clock *clock);

/* Seconds since clock_init, at least 1: monitors divide by it. */
uint32_t clock_uptime_s(const struct clock *clock);

/* An expiry as clients write it: 0 never; up to 30 days relative; above that absolute; negative or past: already over (1).
 * Returns absolute seconds, 0 for never. */
uint32_t clock_expiry(int64_t exptime, uint32_t now_s);

#endif
