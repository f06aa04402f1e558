#include "src/base/clock.h"

#include <time.h>

#define RELATIVE_MAX_S (60 * 60 * 24 * 30)

static int64_t read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t clock_monotonic_us(void)
{
    return (uint64_t)read_ns(CLOCK_MONOTONIC) / 1000;
}

void clock_init(struct clock *clock)
{
    int64_t monotonic = read_ns(CLOCK_MONOTONIC);
    clock->offset_ns = read_ns(CLOCK_REALTIME) - monotonic;
    clock->started_us = (uint64_t)monotonic / 1000;
}

uint32_t clock_now_s(const struct clock *clock)
{
    return (uint32_t)((read_ns(CLOCK_MONOTONIC) + clock->offset_ns) / 1000000000);
}

uint32_t clock_uptime_s(const struct clock *clock)
{
    uint64_t us = clock_monotonic_us() - clock->started_us;
    return us < 1000000 ? 1 : (uint32_t)(us / 1000000);
}

uint32_t clock_deadline(int64_t exptime, uint32_t now_s)
{
    if (exptime == 0)
        return 0;
    if (exptime > 0 && exptime <= RELATIVE_MAX_S)
        exptime += now_s;
    if (exptime <= now_s) /* negative, or a time that is over */
        return 1;
    return exptime < CLOCK_LAST_S ? (uint32_t)exptime : CLOCK_LAST_S;
}

uint32_t clock_expiry(int64_t exptime, uint32_t now_s)
{
    uint32_t deadline_s = clock_deadline(exptime, now_s);
    return deadline_s < CLOCK_LAST_S ? deadline_s : 0;
}
