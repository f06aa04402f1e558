/* counter.h: counters with one writer. */
#ifndef CACHECASK_STORAGE_BASE_COUNTER_H
#define CACHECASK_STORAGE_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

/* One thread counts and any may read, so no locked instruction is needed. */
static inline void count_up(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

#endif
