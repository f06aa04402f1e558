/* bench.c: cachecask-bench, a load generator for memcached servers, and for Redis.
 *
 *     command_line  the options
 *     workload      keys and values from key numbers; distribution: which number comes next;
 *                   access_trace: keys and their order from a file
 *     endpoint      where the server is
 *     codec         a protocol's bytes; codec_text, codec_meta, codec_binary,
 *                   codec_redis
 *     connection    a batch of requests and its replies
 *     client_thread a thread with its connections; phase: all threads of a phase
 *     tally         what a thread counted; hdr_histogram: latencies
 *     report        what is printed
 *
 * A run has up to three phases: load, the run proper, verify. Each opens its own connections.
 * Every phase ends by itself: by its time, by its count, or because the server has gone silent.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench/access_trace.h"
#include "bench/endpoint.h"
#include "bench/command_line.h"
#include "bench/phase.h"
#include "bench/phase_report.h"
#include "bench/selftest.h"

#define ONCE_PIPELINE 32 /* at least so deep when every key is loaded or read once */

enum { PHASE_LOAD, PHASE_RUN, PHASE_VERIFY, PHASES };

static void on_signal(int signal)
{
    (void)signal;
    phase_interrupt();
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* A connection is a descriptor: take as many as the system grants. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Sets `phases` to those that were asked for; an operation of NONE marks the others. */
static void plan(const struct options *options, struct phase phases[PHASES])
{
    uint32_t deep = options->pipeline > ONCE_PIPELINE ? options->pipeline : ONCE_PIPELINE;

    phases[PHASE_LOAD] = (struct phase){
        .name = "load",
        .operation = options->load ? OPERATION_SET : OPERATION_NONE,
        .once = true,
        .stop_at_error = !options->tolerate_errors,
        .pipeline = deep,
        .multiget = 1,
    };
    phases[PHASE_RUN] = (struct phase){
        .name = "run",
        .operation = options->operation,
        .verify = options->verify,
        .fill = options->fill,
        .pipeline = options->pipeline,
        .multiget = options->multiget,
    };
    phases[PHASE_VERIFY] = (struct phase){
        .name = "verify",
        .operation = options->verify_all ? OPERATION_GET : OPERATION_NONE,
        .once = true,
        .verify = true,
        .pipeline = deep,
        .multiget = options->multiget,
    };
}

static bool went_well(const struct options *options, const struct phase *phase,
                      const struct phase_result *result)
{
    const struct tally *tally = &result->tally;

    if (!result->complete || tally->wrong > 0)
        return false;
    if (tally->errors > 0 && !options->tolerate_errors)
        return false;
    return !(phase->once && phase->verify && tally->misses > 0 && !options->allow_missing);
}

/* Loading with errors leaves nothing worth measuring; anything else does not stop what follows. */
static bool run_phases(const struct options *options, const struct workload *workload,
                       const struct endpoint *endpoint)
{
    static struct phase_result result;
    struct phase phases[PHASES];
    bool success = true;
    bool first = true;

    plan(options, phases);
    for (int i = 0; i < PHASES; i++) {
        const struct phase *phase = &phases[i];

        if (phase->operation == OPERATION_NONE)
            continue;
        if (!phase_run(endpoint, options, workload, phase, &result)) {
            success = false;
            break;
        }
        if (options->json)
            report_json_phase(phase, &result, first);
        else
            report_text(options, phase, &result);
        first = false;
        success = success && went_well(options, phase, &result);
        if (!result.complete)
            break;
    }
    return success;
}

/* The trace gives the keys, their order, and the length of the run if nothing else does. */
static void follow_trace(const struct access_trace *trace, struct options *options,
                         struct workload *workload)
{
    workload->trace = trace;
    workload->key_count = trace->key_count;
    options->distribution.kind = DISTRIBUTION_TRACE;
    options->distribution.sequence = trace->requests;
    options->distribution.sequence_len = trace->request_count;
    if (options->requests == 0 && options->duration_s <= 0)
        options->requests = (trace->request_count + options->multiget - 1) / options->multiget;
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct workload workload;
    static struct endpoint endpoint;
    static struct access_trace trace;
    bool success;

    switch (options_parse(argc, argv, &options, &workload)) {
    case OPTIONS_OK: break;
    case OPTIONS_SELF_TEST: return selftest_run() ? 0 : 1;
    case OPTIONS_DONE: return 0;
    case OPTIONS_BAD: return 2;
    }
    if (options.trace_path) {
        if (!access_trace_load(&trace, options.trace_path))
            return 1;
        follow_trace(&trace, &options, &workload);
    }
    workload_prepare(&workload);
    raise_descriptor_limit();
    catch_signals();
    if (!endpoint_find(&endpoint, options.host, options.port, options.socket_path))
        return 1;
    if (options.json)
        report_json_begin(&endpoint, &options, &workload);
    success = run_phases(&options, &workload, &endpoint);
    access_trace_release(&trace);
    if (options.json)
        report_json_end(success);
    if (!success && !options.json)
        fprintf(stderr, "cachecask-bench: there were errors, see above\n");
    return success ? 0 : 1;
}
