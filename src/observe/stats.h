/* stats.h: what `stats` answers: memcached's names, order and meaning, and our own under `stats store`. */
#ifndef CACHECASK_SRC_OBSERVE_STATS_H
#define CACHECASK_SRC_OBSERVE_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;

/* Counted by one worker, read by any. */
struct counters {
#define COUNTER(name) _Atomic uint64_t name;
#include "src/observe/counters.def"
#undef COUNTER
};

/* One writer, so no locked instruction is needed. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

/* The answer to `stats ARGS` in *text, which the caller frees. False: it is no group that we know (ERROR), or no memory. */
bool stats_answer(struct server *server, const char *args, size_t args_len, char **text,
                  size_t *len);

#endif
