/* pace.c: background work runs at full speed while no session enters a batch; while clients are
 * active it works in short bursts and rests between them. A low priority alone would not do: on
 * busy processors it still gets its milliseconds, and those who wait for its locks wait longer.
 */
#include "storage/clean/pace.h"

#include "storage/base/monotonic.h"
#include "storage/store_internal.h"

#define BURST_US    200   /* worked at a time */
#define REST_MAX_US 20000 /* rested at a time */
#define ACTIVE_US   10000 /* how long clients count as active after a batch */

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
        thread_sleep_us(rest_us < REST_MAX_US ? rest_us : REST_MAX_US);
        now_us = monotonic_us();
    }
    pace->since_us = now_us;
}
