/* client_thread.h: one thread of the load, and its share of the connections and of the work. */
#ifndef CACHECASK_BENCH_CLIENT_THREAD_H
#define CACHECASK_BENCH_CLIENT_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/connection.h"
#include "bench/phase.h"

/* What the threads of a phase share. */
struct run {
    const struct endpoint *endpoint;
    const struct options *options;
    const struct workload *workload;
    const struct phase *phase;
    struct distribution distribution;
    uint64_t start_ns;
    uint64_t measure_ns;     /* when the warm-up ends */
    uint64_t end_ns;         /* UINT64_MAX: there is only a count */
    atomic_int *interrupted; /* by the user: 1 drains, 2 leaves at once */
    atomic_bool failed;      /* a thread has met an error that ends the phase */
};

struct client_thread {
    struct run *run;
    pthread_t id;
    int epoll_fd;
    int timer_fd; /* for --rate, else -1 */

    struct connection *connections;
    uint32_t connection_count;
    uint32_t alive;
    uint32_t busy;  /* connections with a batch under way */
    uint32_t *idle; /* a ring of the others: first come, first used */
    uint32_t idle_first;
    uint32_t idle_count;

    struct sender *sender; /* NULL: there is no io_uring here */

    struct chooser chooser;
    uint64_t cursor;        /* of phase->once: the next key, */
    uint64_t cursor_end;    /* and where this thread's keys end */
    uint64_t requests_left; /* UINT64_MAX: no limit */

    double due_ns;      /* when the next batch is due, since the start; for --rate */
    double interval_ns; /* between two batches */
    uint64_t timer_ns;  /* what timer_fd is set to, 0 for nothing */

    bool measuring;
    bool silent; /* gave up waiting */
    uint64_t measured_from_ns;
    uint64_t last_reply_ns;
    uint64_t waiting_since_ns; /* of the last reply, or of the first batch after an idle time */
    atomic_uint_fast64_t operations_done; /* for the progress, read by the main thread */

    struct receive_buffer buffer;
    struct tally tally;
};

/* Makes thread `index` of the run's options.threads, with its connections. NULL, having said why,
 * when that fails. */
struct client_thread *client_thread_new(struct run *run, uint32_t index);
void client_thread_free(struct client_thread *thread);

/* The thread's main function. */
void *client_thread_main(void *thread);

#endif
