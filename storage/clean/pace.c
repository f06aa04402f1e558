/* pace.c: background work runs at full speed while no session enters a batch. While clients are
 * active it works in short bursts and rests between them. A low priority alone would not keep it
 * out of their way: where all processors are busy a scheduler lets it have its milliseconds all the
 * same; and it makes matters worse for who waits for a lock that it holds.
 */
#define _GNU_SOURCE
#include "storage/clean/pace.h"

#include <stdbool.h>
#include <time.h>

#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

#define BURST_US    200   /* worked at a time */
#define REST_MAX_US 20000 /* rested at a time */
#define ACTIVE_US   10000 /* how long clients count as active after a batch */

static void sleep_us(uint64_t us)
{
    const struct timespec pause = {.tv_nsec = (long)us * 1000};
    nanosleep(&pause, NULL);
}

/* Whether a client has been served a short time ago. */
static bool clients_are_active(struct pace *pace, struct store *store, uint64_t now_us)
{
    uint64_t batches = sessions_batches(&store->sessions);
    if (batches != pace->batches)
        pace->active_us = now_us;
    pace->batches = batches;
    return now_us - pace->active_us < ACTIVE_US;
}

void pace_rest(struct pace *pace, struct store *store)
{
    uint64_t now_us = monotonic_us();
    uint64_t worked_us = now_us - pace->since_us;
    if (worked_us < BURST_US)
        return;
    if (clients_are_active(pace, store, now_us)) {
        uint64_t rest_us = worked_us * pace->rest_factor;
        sleep_us(rest_us < REST_MAX_US ? rest_us : REST_MAX_US);
        now_us = monotonic_us();
    }
    pace->since_us = now_us;
}
