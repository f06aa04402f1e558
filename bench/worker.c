/* worker.c: one thread of the load.
 *
 * Closed loop (no --rate): a connection whose batch is answered gets the next one, so there are
 * always as many batches under way as connections. What a poll finds readable is read first, and
 * then the new batches go out: so no reply waits, before its time is taken, for others' requests
 * to be sent, and the kernel does more of one kind at a time. They go out together (sender.h), so a
 * latency may count from a little before its own request left.
 *
 * With --fill a connection then sends by itself what was missed; it is free after that.
 *
 * Open loop (--rate): batches are due at fixed times, whatever the server does. A connection that
 * is free takes the batch that has been due longest, and its latency counts from when it was due.
 * So a server that stalls for a second is charged with all that should have been asked meanwhile,
 * and not with one slow reply (no "coordinated omission").
 */
#include "bench/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bench/clock.h"

#define EVENTS_MAX   256
#define TOGETHER_MIN 4  /* for fewer sends a call for each costs less */
#define TICK_MS      50 /* how late the end of the run may be noticed when nothing comes */

/* ---- choosing ---- */

/* The share of part `index` out of `count` begins here. */
static uint64_t share_start(uint64_t total, uint32_t index, uint32_t count)
{
    return (uint64_t)((unsigned __int128)total * index / count);
}

/* What falls to thread `index` when threads take turns, as they do with the lines of a trace. */
static uint64_t turns(uint64_t total, uint32_t index, uint32_t count)
{
    return total / count + (index < total % count);
}

static enum request_kind choose_kind(struct worker *worker)
{
    switch (worker->run->phase->operation) {
    case OPERATION_SET: return REQUEST_SET;
    case OPERATION_INCR: return REQUEST_INCR;
    case OPERATION_TOUCH: return REQUEST_TOUCH;
    case OPERATION_DELETE: return REQUEST_DELETE;
    case OPERATION_MIX:
        if ((double)(random_next(&worker->chooser.random) >> 11) * 0x1p-53 >=
            worker->run->options->get_share)
            return REQUEST_SET;
        break;
    case OPERATION_GET:
    case OPERATION_NONE: break;
    }
    return REQUEST_GET;
}

static uint64_t work_left(const struct worker *worker)
{
    if (worker->run->phase->once)
        return worker->cursor_end - worker->cursor;
    return worker->requests_left;
}

static uint64_t choose_key(struct worker *worker)
{
    if (worker->run->phase->once)
        return worker->cursor++;
    return distribution_draw(&worker->run->distribution, &worker->chooser);
}

/* Chooses the kind of a request and its keys, and returns how many keys it has. */
static uint32_t choose_request(struct worker *worker, enum request_kind *kind, uint64_t *keys)
{
    uint32_t count = 1;

    *kind = choose_kind(worker);
    if (*kind == REQUEST_GET)
        count = worker->run->phase->multiget;
    if (worker->run->phase->once && count > work_left(worker))
        count = (uint32_t)work_left(worker);
    for (uint32_t i = 0; i < count; i++)
        keys[i] = choose_key(worker);
    return count;
}

/* Fills the connection's batch; returns how many requests it has. */
static uint32_t choose_batch(struct worker *worker, struct connection *connection)
{
    const struct phase *phase = worker->run->phase;
    uint64_t *keys = connection->keys;
    uint32_t count = 0;

    while (count < phase->pipeline && work_left(worker) > 0) {
        struct request *request = &connection->requests[count++];

        request->keys = keys;
        request->key_count = choose_request(worker, &request->kind, keys);
        keys += request->key_count;
        if (worker->requests_left != UINT64_MAX)
            worker->requests_left--;
    }
    return count;
}

/* Chooses what another run has done, for nobody. */
static void skip(struct worker *worker)
{
    const struct options *options = worker->run->options;
    uint32_t index = worker->chooser.thread;
    enum request_kind kind;

    if (worker->run->phase->once)
        return;
    for (uint64_t left = turns(options->skip, index, options->threads); left > 0; left--)
        choose_request(worker, &kind, worker->connections[0].keys);
}

/* ---- making ---- */

static bool watch(struct worker *worker, int operation, int fd, uint32_t events, void *pointer)
{
    struct epoll_event event = {.events = events, .data.ptr = pointer};

    return epoll_ctl(worker->epoll_fd, operation, fd, &event) == 0;
}

static bool connect_one(struct worker *worker, struct connection *connection)
{
    const struct run *run = worker->run;
    struct connection_options connection_options = {
        .verify = run->phase->verify,
        .fill = run->phase->fill,
        .pipeline = run->phase->pipeline,
        .multiget = run->phase->multiget,
    };
    int fd = endpoint_connect(run->endpoint);

    if (fd < 0) {
        int error = errno;

        fprintf(stderr, "cachecask-bench: cannot connect to %s: %s\n", run->endpoint->name,
                strerror(error));
        errno = error;
        return false;
    }
    return connection_init(connection, fd, run->options->codec, run->workload, &worker->tally,
                           &connection_options) &&
           watch(worker, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
}

static bool connect_all(struct worker *worker, uint32_t count)
{
    worker->connections = calloc(count, sizeof(*worker->connections));
    worker->idle = calloc(count, sizeof(*worker->idle));
    if (worker->connections == NULL || worker->idle == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        worker->connections[i].fd = -1;
        worker->connection_count++;
        if (!connect_one(worker, &worker->connections[i]))
            return false;
        worker->idle[i] = i;
    }
    worker->alive = worker->idle_count = count;
    return true;
}

static bool make_timer(struct worker *worker, uint32_t index)
{
    const struct options *options = worker->run->options;
    double batches_a_second = (double)options->rate / options->pipeline;

    worker->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    worker->interval_ns = (double)NS_PER_S * options->threads / batches_a_second;
    worker->due_ns = worker->interval_ns * index / options->threads;
    return worker->timer_fd >= 0 && watch(worker, EPOLL_CTL_ADD, worker->timer_fd, EPOLLIN, NULL);
}

struct worker *worker_new(struct run *run, uint32_t index)
{
    const struct options *options = run->options;
    const uint32_t threads = options->threads;
    uint64_t connections = share_start(options->connections, index + 1, threads) -
                           share_start(options->connections, index, threads);
    struct worker *worker = calloc(1, sizeof(*worker));

    if (worker == NULL) {
        perror("cachecask-bench: cannot set up a thread");
        return NULL;
    }
    worker->run = run;
    worker->timer_fd = -1;
    chooser_init(&worker->chooser, &run->distribution, options->choice_seed, index, threads);
    worker->cursor = share_start(run->workload->key_count, index, threads);
    worker->cursor_end = share_start(run->workload->key_count, index + 1, threads);
    worker->requests_left = UINT64_MAX;
    if (options->requests > 0 && !run->phase->once)
        worker->requests_left = turns(options->requests, index, threads);
    tally_init(&worker->tally);
    worker->sender = sender_new();
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll_fd < 0 || !connect_all(worker, (uint32_t)connections) ||
        (options->rate > 0 && !run->phase->once && !make_timer(worker, index))) {
        perror("cachecask-bench: cannot set up a thread");
        worker_free(worker);
        return NULL;
    }
    skip(worker);
    return worker;
}

void worker_free(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->connection_count; i++)
        connection_release(&worker->connections[i]);
    if (worker->timer_fd >= 0)
        close(worker->timer_fd);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    if (worker->sender != NULL)
        sender_free(worker->sender);
    free(worker->connections);
    free(worker->idle);
    free(worker);
}

/* ---- running ---- */

static bool leaving(const struct worker *worker)
{
    return atomic_load_explicit(&worker->run->failed, memory_order_relaxed) || worker->silent ||
           worker->alive == 0 ||
           atomic_load_explicit(worker->run->interrupted, memory_order_relaxed) > 1;
}

/* Whether requests may still go out. */
static bool open_for_more(const struct worker *worker, uint64_t now_ns)
{
    return now_ns < worker->run->end_ns && work_left(worker) > 0 &&
           atomic_load_explicit(worker->run->interrupted, memory_order_relaxed) == 0;
}

static void drop(struct worker *worker, bool under_way)
{
    worker->alive--;
    worker->busy -= under_way;
}

/* Has the poll tell when a socket can be written that just was full, and no longer when it was. */
static void follow_blocked(struct worker *worker, struct connection *connection, bool before)
{
    if (connection->blocked != before)
        watch(worker, EPOLL_CTL_MOD, connection->fd,
              connection->blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, connection);
}

/* Sends the batch that is prepared, as far as it has not been. */
static void begin_batch(struct worker *worker, struct connection *connection, uint64_t start_ns)
{
    bool before = connection->blocked;

    if (worker->busy++ == 0)
        worker->waiting_since_ns = clock_now_ns();
    if (connection_begin(connection, start_ns) == CONNECTION_LOST)
        drop(worker, true);
    else
        follow_blocked(worker, connection, before);
}

static void start_batch(struct worker *worker, struct connection *connection, uint64_t due_ns)
{
    connection_prepare(connection, choose_batch(worker, connection));
    begin_batch(worker, connection, due_ns);
}

static void start_together(struct worker *worker, struct connection **connections, uint32_t count)
{
    uint64_t now_ns = clock_now_ns();

    if (worker->sender != NULL && count >= TOGETHER_MIN) {
        for (uint32_t i = 0; i < count; i++)
            connection_send_with(connections[i], worker->sender);
        sender_run(worker->sender);
    }
    for (uint32_t i = 0; i < count; i++)
        begin_batch(worker, connections[i], now_ns);
}

static void push_idle(struct worker *worker, const struct connection *connection)
{
    uint32_t at = (worker->idle_first + worker->idle_count++) % worker->connection_count;

    worker->idle[at] = (uint32_t)(connection - worker->connections);
}

static struct connection *pop_idle(struct worker *worker)
{
    uint32_t at = worker->idle_first;

    worker->idle_first = (at + 1) % worker->connection_count;
    worker->idle_count--;
    return &worker->connections[worker->idle[at]];
}

static void set_timer(struct worker *worker, uint64_t at_ns)
{
    struct itimerspec when = {0};

    if (worker->timer_ns == at_ns)
        return;
    when.it_value.tv_sec = (time_t)(at_ns / NS_PER_S);
    when.it_value.tv_nsec = (long)(at_ns % NS_PER_S);
    timerfd_settime(worker->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    worker->timer_ns = at_ns;
}

static void clear_timer(struct worker *worker)
{
    uint64_t expirations;

    if (read(worker->timer_fd, &expirations, sizeof(expirations)) > 0)
        worker->timer_ns = 0;
}

static uint64_t due_at(const struct worker *worker)
{
    return worker->run->start_ns + (uint64_t)worker->due_ns;
}

/* Open loop: gives what is due to connections that are free. */
static void pace(struct worker *worker, uint64_t now_ns)
{
    while (worker->idle_count > 0 && worker->alive > 0 && due_at(worker) <= now_ns &&
           open_for_more(worker, now_ns)) {
        struct connection *connection = pop_idle(worker);
        uint64_t due_ns = due_at(worker);

        if (connection->fd < 0)
            continue; /* lost while it was idle */
        worker->due_ns += worker->interval_ns;
        start_batch(worker, connection, due_ns);
    }
    if (worker->idle_count > 0 && due_at(worker) > now_ns)
        set_timer(worker, due_at(worker));
}

/* Closed loop: gives every connection that is free its next batch. */
static void refill(struct worker *worker, uint64_t now_ns)
{
    struct connection *connections[SENDER_MAX];
    uint32_t count = 0;

    while (worker->idle_count > 0 && open_for_more(worker, now_ns)) {
        struct connection *connection = pop_idle(worker);

        if (connection->fd < 0)
            continue;
        connection_prepare(connection, choose_batch(worker, connection));
        connections[count++] = connection;
        if (count == SENDER_MAX) {
            start_together(worker, connections, count);
            count = 0;
        }
    }
    start_together(worker, connections, count);
}

static void start_batches(struct worker *worker, uint64_t now_ns)
{
    if (worker->timer_fd >= 0)
        pace(worker, now_ns);
    else
        refill(worker, now_ns);
}

static void handle(struct worker *worker, struct connection *connection, uint32_t events)
{
    bool under_way = !connection_idle(connection);
    bool before = connection->blocked;
    uint64_t now_ns;

    if (connection->fd < 0)
        return;
    if ((events & EPOLLOUT) != 0) {
        if (connection_flush(connection) == CONNECTION_LOST) {
            drop(worker, under_way);
            return;
        }
        follow_blocked(worker, connection, before);
    }
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    before = connection->blocked;
    if (connection_receive(connection, &worker->buffer, &now_ns) == CONNECTION_LOST) {
        drop(worker, under_way);
        return;
    }
    follow_blocked(worker, connection, before);
    worker->last_reply_ns = worker->waiting_since_ns = now_ns;
    if (under_way && connection_idle(connection)) {
        worker->busy--;
        push_idle(worker, connection);
    }
}

/* Between two polls: the warm-up's end, silence, errors that end the phase, the progress. */
static void tick(struct worker *worker, uint64_t now_ns)
{
    struct run *run = worker->run;
    const uint64_t timeout_ns = (uint64_t)(run->options->timeout_s * (double)NS_PER_S);

    if (!worker->measuring && now_ns >= run->measure_ns) {
        worker->measuring = true;
        worker->measured_from_ns = now_ns;
        tally_restart(&worker->tally);
    }
    if (!worker->silent && worker->busy > 0 && now_ns > worker->waiting_since_ns + timeout_ns) {
        tally_error(&worker->tally, "no reply for %g seconds", run->options->timeout_s);
        worker->silent = true;
    }
    if (run->phase->stop_at_error && (worker->tally.errors > 0 || worker->tally.wrong > 0))
        atomic_store(&run->failed, true);
    atomic_store_explicit(&worker->operations_done, worker->tally.operations, memory_order_relaxed);
}

static bool finished(const struct worker *worker, uint64_t now_ns)
{
    if (leaving(worker))
        return true;
    return worker->busy == 0 && !open_for_more(worker, now_ns);
}

static void begin(struct worker *worker)
{
    uint64_t now_ns = clock_now_ns();

    worker->measured_from_ns = worker->last_reply_ns = now_ns;
    worker->measuring = worker->run->measure_ns == worker->run->start_ns;
    start_batches(worker, now_ns);
}

/* What was due before the end and found no free connection. */
static void count_unsent(struct worker *worker)
{
    uint64_t end_ns = clock_now_ns();

    if (end_ns > worker->run->end_ns)
        end_ns = worker->run->end_ns;
    if (due_at(worker) < end_ns && work_left(worker) > 0)
        worker->tally.unsent +=
            (uint64_t)((double)(end_ns - due_at(worker)) / worker->interval_ns) *
            worker->run->phase->pipeline;
}

void *worker_main(void *argument)
{
    struct worker *worker = argument;
    uint64_t now_ns;

    begin(worker);
    for (now_ns = clock_now_ns(); !finished(worker, now_ns); now_ns = clock_now_ns()) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, TICK_MS);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr != NULL)
                handle(worker, events[i].data.ptr, events[i].events);
            else
                clear_timer(worker);
        }
        now_ns = clock_now_ns();
        start_batches(worker, now_ns);
        tick(worker, now_ns);
    }
    tick(worker, now_ns);
    if (worker->timer_fd >= 0)
        count_unsent(worker);
    return NULL;
}
