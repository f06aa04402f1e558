/* backpressure.c: see the header. */
#include "storage/backpressure.h"

#define DRAIN_MAX_US UINT64_C(1000000)

void backpressure_init(struct backpressure *backpressure, int sync_interval_ms, uint64_t now_us)
{
    uint64_t interval_us = sync_interval_ms > 0 ? (uint64_t)sync_interval_ms * 1000 : UINT64_MAX;
    backpressure->enabled = sync_interval_ms >= 0;
    backpressure->window_us = interval_us;
    backpressure->drain_us = interval_us < DRAIN_MAX_US ? interval_us : DRAIN_MAX_US;
    atomic_init(&backpressure->limit_bytes,
                BACKPRESSURE_LIMIT_MIN); /* until the disk has shown what it can */
    atomic_init(&backpressure->safe_us, now_us);
}

static uint64_t limit_of(const struct backpressure *backpressure)
{
    return atomic_load_explicit(&backpressure->limit_bytes, memory_order_relaxed);
}

bool backpressure_wants_sync(const struct backpressure *backpressure, uint64_t waiting_bytes)
{
    return backpressure->enabled && waiting_bytes > limit_of(backpressure) / 2;
}

bool backpressure_is_behind(const struct backpressure *backpressure, uint64_t waiting_bytes,
                            uint64_t now_us)
{
    if (!backpressure->enabled || waiting_bytes == 0)
        return false;
    uint64_t safe_us = atomic_load_explicit(&backpressure->safe_us, memory_order_relaxed);
    return waiting_bytes > limit_of(backpressure) ||
           (now_us > safe_us && now_us - safe_us > backpressure->window_us);
}

void backpressure_note_sync(struct backpressure *backpressure, uint64_t bytes, uint64_t begin_us,
                            uint64_t end_us)
{
    uint64_t limit = limit_of(backpressure);
    atomic_store_explicit(&backpressure->safe_us, begin_us, memory_order_relaxed);
    if (bytes < limit / 4)
        return; /* of little, the time tells of the disk's latency, not of its speed */
    uint64_t took_us = end_us > begin_us ? end_us - begin_us : 1;
    double drained = (double)bytes / (double)took_us * (double)backpressure->drain_us;
    /* Less at once, more in steps: a sync is fast, too, when the kernel has written most of it by itself before. */
    uint64_t next = limit + limit / 4;
    if (drained < (double)next)
        next = (uint64_t)drained;
    if (next < BACKPRESSURE_LIMIT_MIN)
        next = BACKPRESSURE_LIMIT_MIN;
    if (next > BACKPRESSURE_LIMIT_MAX)
        next = BACKPRESSURE_LIMIT_MAX;
    atomic_store_explicit(&backpressure->limit_bytes, next, memory_order_relaxed);
}
