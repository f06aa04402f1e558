/* load.c: one phase, from its connections to the sum of what its threads counted. */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "bench/load.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/clock.h"
#include "bench/worker.h"

#define PROGRESS_NS (250 * NS_PER_MS)

static atomic_int interrupted;

void load_interrupt(void)
{
    atomic_fetch_add(&interrupted, 1);
}

/* ---- progress, on terminals only ---- */

static void show_progress(const struct run *run, struct worker *const *workers)
{
    uint64_t done = 0;
    double elapsed_s = (double)(clock_now_ns() - run->start_ns) / (double)NS_PER_S;
    double total_s = run->options->duration_s + run->options->warmup_s;

    for (uint32_t i = 0; i < run->options->threads; i++)
        done += atomic_load_explicit(&workers[i]->operations_done, memory_order_relaxed);
    fprintf(stderr, "\r%s: %llu", run->phase->name, (unsigned long long)done);
    if (run->phase->once)
        fprintf(stderr, " of %llu keys, %.0f %%, %.0f/s",
                (unsigned long long)run->workload->key_count,
                100.0 * (double)done / (double)run->workload->key_count, (double)done / elapsed_s);
    else if (run->end_ns != UINT64_MAX)
        fprintf(stderr, " operations, %.0f of %.0f s", elapsed_s, total_s);
    fprintf(stderr, "\033[K");
}

static void join_all(const struct run *run, struct worker *const *workers)
{
    const bool shown = isatty(STDERR_FILENO) && !run->options->quiet;

    for (uint32_t i = 0; i < run->options->threads; i++) {
        while (shown) {
            uint64_t until_ns = clock_read_ns(CLOCK_REALTIME) + PROGRESS_NS;
            struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                     .tv_nsec = (long)(until_ns % NS_PER_S)};

            if (pthread_timedjoin_np(workers[i]->thread, NULL, &until) != ETIMEDOUT)
                break;
            show_progress(run, workers);
        }
        if (!shown)
            pthread_join(workers[i]->thread, NULL);
    }
    if (shown)
        fprintf(stderr, "\r\033[K");
}

/* ---- the phase ---- */

static void set_times(struct run *run)
{
    const struct options *options = run->options;
    double warmup_s = run->phase->once ? 0 : options->warmup_s;

    run->start_ns = clock_now_ns();
    run->measure_ns = run->start_ns + (uint64_t)(warmup_s * (double)NS_PER_S);
    run->end_ns = UINT64_MAX;
    if (!run->phase->once && options->duration_s > 0)
        run->end_ns = run->measure_ns + (uint64_t)(options->duration_s * (double)NS_PER_S);
}

static void sum_up(struct run *run, struct worker *const *workers, struct phase_result *result)
{
    uint64_t from_ns = UINT64_MAX;
    uint64_t to_ns = 0;

    result->complete = !atomic_load(&run->failed) && atomic_load(&interrupted) == 0;
    tally_init(&result->tally);
    for (uint32_t i = 0; i < run->options->threads; i++) {
        const struct worker *worker = workers[i];

        tally_merge(&result->tally, &worker->tally);
        /* Each thread has its worker. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        if (worker->measured_from_ns < from_ns)
            from_ns = worker->measured_from_ns;
        if (worker->last_reply_ns > to_ns)
            to_ns = worker->last_reply_ns;
        if (worker->silent || worker->alive == 0)
            result->complete = false;
    }
    result->elapsed_s = to_ns > from_ns ? (double)(to_ns - from_ns) / (double)NS_PER_S : 0;
}

static bool run_workers(struct run *run, struct worker **workers, struct phase_result *result)
{
    uint64_t cpu_ns;

    for (uint32_t i = 0; i < run->options->threads; i++) {
        workers[i] = worker_new(run, i);
        if (workers[i] == NULL)
            return false;
    }
    cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
    set_times(run);
    for (uint32_t i = 0; i < run->options->threads; i++) {
        int error = pthread_create(&workers[i]->thread, NULL, worker_main, workers[i]);

        if (error != 0) {
            fprintf(stderr, "cachecask-bench: cannot start a thread: %s\n", strerror(error));
            exit(1); /* the threads that did start hold on to the workers */
        }
    }
    join_all(run, workers);
    cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    result->cpu_s = (double)cpu_ns / (double)NS_PER_S;
    sum_up(run, workers, result);
    return true;
}

bool load_run(const struct endpoint *endpoint, const struct options *options,
              const struct workload *workload, const struct phase *phase,
              struct phase_result *result)
{
    struct run run = {.endpoint = endpoint,
                      .options = options,
                      .workload = workload,
                      .phase = phase,
                      .interrupted = &interrupted};
    struct worker **workers = calloc(options->threads, sizeof(struct worker *));
    bool begun;

    if (workers == NULL)
        return false;
    distribution_init(&run.distribution, &options->distribution, workload->key_count);
    begun = run_workers(&run, workers, result);
    for (uint32_t i = 0; i < options->threads && workers[i] != NULL; i++)
        worker_free(workers[i]);
    free(workers);
    return begun;
}
