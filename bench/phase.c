/* phase.c: one phase, from its connections to the sum of what its threads counted. */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include "bench/phase.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/client_thread.h"
#include "storage/base/monotonic.h"

#define PROGRESS_NS (250 * NS_PER_MS)

static atomic_int interrupted;

void phase_interrupt(void)
{
    atomic_fetch_add(&interrupted, 1);
}

/* ---- progress, on terminals only ---- */

static void show_progress(const struct run *run, struct client_thread *const *threads)
{
    uint64_t done = 0;
    double elapsed_s = (double)(monotonic_ns() - run->start_ns) / (double)NS_PER_S;
    double total_s = run->options->duration_s + run->options->warmup_s;

    for (uint32_t i = 0; i < run->options->threads; i++)
        done += atomic_load_explicit(&threads[i]->operations_done, memory_order_relaxed);
    fprintf(stderr, "\r%s: %llu", run->phase->name, (unsigned long long)done);
    if (run->phase->once)
        fprintf(stderr, " of %llu keys, %.0f %%, %.0f/s",
                (unsigned long long)run->workload->key_count,
                100.0 * (double)done / (double)run->workload->key_count, (double)done / elapsed_s);
    else if (run->end_ns != UINT64_MAX)
        fprintf(stderr, " operations, %.0f of %.0f s", elapsed_s, total_s);
    fprintf(stderr, "\033[K");
}

static void join_all(const struct run *run, struct client_thread *const *threads)
{
    const bool shown = isatty(STDERR_FILENO) && !run->options->quiet;

    for (uint32_t i = 0; i < run->options->threads; i++) {
        while (shown) {
            uint64_t until_ns = clock_ns(CLOCK_REALTIME) + PROGRESS_NS;
            struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                                     .tv_nsec = (long)(until_ns % NS_PER_S)};

            if (pthread_timedjoin_np(threads[i]->id, NULL, &until) != ETIMEDOUT)
                break;
            show_progress(run, threads);
        }
        if (!shown)
            pthread_join(threads[i]->id, NULL);
    }
    if (shown)
        fprintf(stderr, "\r\033[K");
}

/* ---- the phase ---- */

static void set_times(struct run *run)
{
    const struct options *options = run->options;
    double warmup_s = run->phase->once ? 0 : options->warmup_s;

    run->start_ns = monotonic_ns();
    run->measure_ns = run->start_ns + (uint64_t)(warmup_s * (double)NS_PER_S);
    run->end_ns = UINT64_MAX;
    if (!run->phase->once && options->duration_s > 0)
        run->end_ns = run->measure_ns + (uint64_t)(options->duration_s * (double)NS_PER_S);
}

static void sum_up(struct run *run, struct client_thread *const *threads,
                   struct phase_result *result)
{
    uint64_t from_ns = UINT64_MAX;
    uint64_t to_ns = 0;

    result->complete = !atomic_load(&run->failed) && atomic_load(&interrupted) == 0;
    tally_init(&result->tally);
    for (uint32_t i = 0; i < run->options->threads; i++) {
        const struct client_thread *thread = threads[i];

        tally_merge(&result->tally, &thread->tally);
        /* All of them were made. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        if (thread->measured_from_ns < from_ns)
            from_ns = thread->measured_from_ns;
        if (thread->last_reply_ns > to_ns)
            to_ns = thread->last_reply_ns;
        if (thread->silent || thread->alive == 0)
            result->complete = false;
    }
    result->elapsed_s = to_ns > from_ns ? (double)(to_ns - from_ns) / (double)NS_PER_S : 0;
}

static bool run_threads(struct run *run, struct client_thread **threads,
                        struct phase_result *result)
{
    uint64_t cpu_ns;

    for (uint32_t i = 0; i < run->options->threads; i++) {
        threads[i] = client_thread_new(run, i);
        if (!threads[i])
            return false;
    }
    cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    set_times(run);
    for (uint32_t i = 0; i < run->options->threads; i++) {
        int error = pthread_create(&threads[i]->id, NULL, client_thread_main, threads[i]);

        if (error != 0) {
            fprintf(stderr, "cachecask-bench: cannot start a thread: %s\n", strerror(error));
            exit(1); /* the threads that did start still use theirs */
        }
    }
    join_all(run, threads);
    cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    result->cpu_s = (double)cpu_ns / (double)NS_PER_S;
    sum_up(run, threads, result);
    return true;
}

bool phase_run(const struct endpoint *endpoint, const struct options *options,
               const struct workload *workload, const struct phase *phase,
               struct phase_result *result)
{
    struct run run = {.endpoint = endpoint,
                      .options = options,
                      .workload = workload,
                      .phase = phase,
                      .interrupted = &interrupted};
    struct client_thread **threads = calloc(options->threads, sizeof(struct client_thread *));
    bool begun;

    if (!threads)
        return false;
    distribution_init(&run.distribution, &options->distribution, workload->key_count);
    begun = run_threads(&run, threads, result);
    for (uint32_t i = 0; i < options->threads && threads[i]; i++)
        client_thread_free(threads[i]);
    free(threads);
    return begun;
}
