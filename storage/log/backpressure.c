/* backpressure.c: see the header. */
#include "storage/log/backpressure.h"

#define DRAIN_MAX_US UINT64_C(1000000)

void backpressure_init(struct backpressure *backpressure, int sync_interval_ms)
{
    uint64_t interval_us = sync_interval_ms > 0 ? (uint64_t)sync_interval_ms * 1000 : UINT64_MAX;
    backpressure->enabled = sync_interval_ms >= 0;
    backpressure->window_us = interval_us;
    backpressure->drain_us = interval_us < DRAIN_MAX_US ? interval_us : DRAIN_MAX_US;
    atomic_init(&backpressure->limit_bytes,
                BACKPRESSURE_LIMIT_MIN); /* until the disk has shown what it can */
    atomic_init(&backpressure->covered_us, 0);
    atomic_init(&backpressure->first_us, 0);
}

/* Against begin_sync this is safe by its order alone. Either the sync sees that this is written,
 * and then the time that stands here for it may be one too many, until the next sync; or we see
 * that its look has begun, and the time stands. */
void backpressure_note_write(struct backpressure *backpressure, uint64_t now_us)
{
    if (atomic_load(&backpressure->first_us) == 0)
        atomic_store(&backpressure->first_us, now_us);
}

void backpressure_begin_sync(struct backpressure *backpressure)
{
    uint64_t first_us = atomic_load(&backpressure->first_us);
    if (first_us == 0)
        return;
    if (atomic_load(&backpressure->covered_us) == 0)
        atomic_store(&backpressure->covered_us, first_us);
    atomic_store(&backpressure->first_us, 0);
}

static uint64_t limit_of(const struct backpressure *backpressure)
{
    return atomic_load_explicit(&backpressure->limit_bytes, memory_order_relaxed);
}

bool backpressure_wants_sync(const struct backpressure *backpressure, uint64_t waiting_bytes)
{
    return backpressure->enabled && waiting_bytes > limit_of(backpressure) / 2;
}

uint64_t backpressure_due_us(const struct backpressure *backpressure, uint64_t now_us)
{
    uint64_t first_us = atomic_load(&backpressure->first_us);
    return (first_us ? first_us : now_us) + backpressure->window_us / 2;
}

/* How old the oldest write is that is not synced. */
static uint64_t age_us(const struct backpressure *backpressure, uint64_t now_us)
{
    uint64_t first_us = atomic_load(&backpressure->first_us); /* in this order: it may move over */
    uint64_t covered_us = atomic_load(&backpressure->covered_us);
    uint64_t oldest_us = covered_us ? covered_us : first_us;
    return oldest_us && oldest_us < now_us ? now_us - oldest_us : 0;
}

enum backpressure_hold backpressure_look(const struct backpressure *backpressure,
                                         uint64_t waiting_bytes, enum backpressure_hold held,
                                         uint64_t now_us)
{
    if (!backpressure->enabled || waiting_bytes == 0)
        return BACKPRESSURE_NONE;
    uint64_t most_us = backpressure->window_us;
    if (held == BACKPRESSURE_AGE)
        most_us = most_us / 8 * 5;
    if (age_us(backpressure, now_us) > most_us)
        return BACKPRESSURE_AGE;
    return waiting_bytes > limit_of(backpressure) ? BACKPRESSURE_BYTES : BACKPRESSURE_NONE;
}

static void learn_speed(struct backpressure *backpressure, uint64_t bytes, uint64_t took_us)
{
    uint64_t limit = limit_of(backpressure);
    if (bytes < limit / 4)
        return; /* of little, the time tells of the disk's latency, not of its speed */
    double drained = (double)bytes / (double)took_us * (double)backpressure->drain_us;
    /* Less at once, more in steps: a sync is fast, too, when the kernel has written most of it by
     * itself before. */
    uint64_t next = limit + limit / 4;
    if (drained < (double)next)
        next = (uint64_t)drained;
    if (next < BACKPRESSURE_LIMIT_MIN)
        next = BACKPRESSURE_LIMIT_MIN;
    if (next > BACKPRESSURE_LIMIT_MAX)
        next = BACKPRESSURE_LIMIT_MAX;
    atomic_store_explicit(&backpressure->limit_bytes, next, memory_order_relaxed);
}

void backpressure_end_sync(struct backpressure *backpressure, uint64_t bytes, uint64_t begin_us,
                           uint64_t end_us)
{
    atomic_store(&backpressure->covered_us, 0);
    learn_speed(backpressure, bytes, end_us > begin_us ? end_us - begin_us : 1);
}

bool backpressure_is_slow(const struct backpressure *backpressure, uint64_t sync_us)
{
    return sync_us > backpressure->window_us / 2;
}
