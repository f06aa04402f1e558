/* pace.h: how background work that no client waits for keeps out of the way of clients. */
#ifndef CACHECASK_STORAGE_CLEAN_PACE_H
#define CACHECASK_STORAGE_CLEAN_PACE_H

#include <stdint.h>

struct store;

struct pace {
    /* While clients are active: so many times as long as it worked, it rests */
    uint32_t rest_factor;
    uint64_t since_us;  /* it has worked */
    uint64_t active_us; /* when clients were seen last */
    uint64_t batches;   /* of all sessions, at the last look */
};

/* Called often, and without a lock: rests if it is time to. */
void pace_rest(struct pace *pace, struct store *store);

#endif
