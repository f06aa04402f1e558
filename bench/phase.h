/* phase.h: runs one phase of requests over all threads and connections. */
#ifndef CACHECASK_BENCH_PHASE_H
#define CACHECASK_BENCH_PHASE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/endpoint.h"
#include "bench/command_line.h"
#include "bench/tally.h"

struct phase {
    const char *name; /* "load", "run", "verify" */
    enum operation operation;
    bool once; /* every key once and in order, whatever distribution, duration and rate say */
    bool verify;
    bool fill; /* set what gets miss */
    bool stop_at_error;
    uint32_t pipeline;
    uint32_t multiget;
};

struct phase_result {
    bool complete; /* it was not cut short by a signal, a lost connection or silence */
    double elapsed_s;
    double cpu_s; /* that this process spent */
    struct tally tally;
};

/* Runs the phase to its end and sets *result, which is large. Returns false, having said why on
 * standard error, when it could not begin. */
bool phase_run(const struct endpoint *endpoint, const struct options *options,
               const struct workload *workload, const struct phase *phase,
               struct phase_result *result);

/* Ends the phase early: no more requests, the replies that are due are awaited. A second call
 * ends it at once. For signal handlers. */
void phase_interrupt(void);

#endif
