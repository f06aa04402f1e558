/* counters.h: what each worker counts. */
#ifndef CACHECASK_SRC_OBSERVE_COUNTERS_H
#define CACHECASK_SRC_OBSERVE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* Counted by one worker, read by any thread. */
struct counters {
#define COUNTER(name) _Atomic uint64_t name;
#include "src/observe/counters.def"
#undef COUNTER
};

/* Only one thread writes, so no locked instruction is needed. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

/* Adds, or subtracts, all of `counters`. */
static inline void counters_add(struct counters *sum, const struct counters *counters)
{
#define COUNTER(name) sum->name += atomic_load_explicit(&counters->name, memory_order_relaxed);
#include "src/observe/counters.def"
#undef COUNTER
}

static inline void counters_subtract(struct counters *sum, const struct counters *counters)
{
#define COUNTER(name) sum->name -= atomic_load_explicit(&counters->name, memory_order_relaxed);
#include "src/observe/counters.def"
#undef COUNTER
}

#endif
