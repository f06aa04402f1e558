/* backpressure.c: see the header. */
#include "storage/log/backpressure.h"

#define DRAIN_MAX_US UINT64_C(1000000)

void backpressure_init(struct backpressure *pressure, int sync_interval_ms)
{
    uint64_t interval_us = sync_interval_ms > 0 ? (uint64_t)sync_interval_ms * 1000 : UINT64_MAX;
    *pressure = (struct backpressure){
        .enabled = sync_interval_ms >= 0,
        .window_us = interval_us,
        .drain_us = interval_us < DRAIN_MAX_US ? interval_us : DRAIN_MAX_US,
        .limit_bytes = BACKPRESSURE_LIMIT_MIN, /* until the disk has shown its speed */
    };
}

/* Against begin_sync this is safe by its order alone. Either the sync sees that this is written,
 * and the time that is set here may be superfluous until the next sync; or we see that the sync has
 * begun, and the time counts. */
void backpressure_note_write(struct backpressure *pressure, uint64_t now_us)
{
    if (atomic_load(&pressure->first_us) == 0)
        atomic_store(&pressure->first_us, now_us);
}

void backpressure_begin_sync(struct backpressure *pressure)
{
    uint64_t first_us = atomic_load(&pressure->first_us);
    if (first_us == 0)
        return;
    if (atomic_load(&pressure->covered_us) == 0)
        atomic_store(&pressure->covered_us, first_us);
    atomic_store(&pressure->first_us, 0);
}

static uint64_t limit_of(const struct backpressure *pressure)
{
    return atomic_load_explicit(&pressure->limit_bytes, memory_order_relaxed);
}

bool backpressure_wants_sync(const struct backpressure *pressure, uint64_t waiting_bytes)
{
    return pressure->enabled && waiting_bytes > limit_of(pressure) / 2;
}

uint64_t backpressure_due_us(const struct backpressure *pressure, uint64_t now_us)
{
    uint64_t first_us = atomic_load(&pressure->first_us);
    return (first_us ? first_us : now_us) + pressure->window_us / 2;
}

/* How old the oldest write is that is not synced. */
static uint64_t age_us(const struct backpressure *pressure, uint64_t now_us)
{
    uint64_t first_us = atomic_load(&pressure->first_us); /* in this order: it may move over */
    uint64_t covered_us = atomic_load(&pressure->covered_us);
    uint64_t oldest_us = covered_us ? covered_us : first_us;
    return oldest_us && oldest_us < now_us ? now_us - oldest_us : 0;
}

enum backpressure_hold backpressure_look(const struct backpressure *pressure,
                                         uint64_t waiting_bytes, enum backpressure_hold held,
                                         uint64_t now_us)
{
    if (!pressure->enabled || waiting_bytes == 0)
        return BACKPRESSURE_NONE;
    uint64_t most_us = pressure->window_us;
    if (held == BACKPRESSURE_AGE)
        most_us = most_us / 8 * 5;
    if (age_us(pressure, now_us) > most_us)
        return BACKPRESSURE_AGE;
    return waiting_bytes > limit_of(pressure) ? BACKPRESSURE_BYTES : BACKPRESSURE_NONE;
}

static void learn_speed(struct backpressure *pressure, uint64_t bytes, uint64_t took_us)
{
    uint64_t limit = limit_of(pressure);
    if (bytes < limit / 4)
        return; /* for a few bytes, the time measures the latency of the disk, not its speed */
    double drained = (double)bytes / (double)took_us * (double)pressure->drain_us;
    /* Less at once, more in steps: a sync of what the kernel has written already is fast too. */
    uint64_t next = limit + limit / 4;
    if (drained < (double)next)
        next = (uint64_t)drained;
    if (next < BACKPRESSURE_LIMIT_MIN)
        next = BACKPRESSURE_LIMIT_MIN;
    if (next > BACKPRESSURE_LIMIT_MAX)
        next = BACKPRESSURE_LIMIT_MAX;
    atomic_store_explicit(&pressure->limit_bytes, next, memory_order_relaxed);
}

void backpressure_end_sync(struct backpressure *pressure, uint64_t bytes, uint64_t begin_us,
                           uint64_t end_us)
{
    atomic_store(&pressure->covered_us, 0);
    learn_speed(pressure, bytes, end_us > begin_us ? end_us - begin_us : 1);
}

bool backpressure_is_slow(const struct backpressure *pressure, uint64_t sync_us)
{
    return sync_us > pressure->window_us / 2;
}
