/* phase_report.h: prints what the phases counted. */
#ifndef CACHECASK_BENCH_PHASE_REPORT_H
#define CACHECASK_BENCH_PHASE_REPORT_H

#include "bench/endpoint.h"
#include "bench/phase.h"

/* One phase, for people. */
void report_text(const struct options *options, const struct phase *phase,
                 const struct phase_result *result);

/* The same as part of one JSON object: begin, each phase, end. */
void report_json_begin(const struct endpoint *endpoint, const struct options *options,
                       const struct workload *workload);
void report_json_phase(const struct phase *phase, const struct phase_result *result, bool first);
void report_json_end(bool success);

#endif
