/* client_thread.c: one thread of the load.
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
#include "bench/client_thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "storage/base/monotonic.h"

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

static enum request_kind choose_kind(struct client_thread *thread)
{
    switch (thread->run->phase->operation) {
    case OPERATION_SET: return REQUEST_SET;
    case OPERATION_INCR: return REQUEST_INCR;
    case OPERATION_TOUCH: return REQUEST_TOUCH;
    case OPERATION_DELETE: return REQUEST_DELETE;
    case OPERATION_MIX:
        if (random_fraction(&thread->chooser.random) >= thread->run->options->get_share)
            return REQUEST_SET;
        break;
    case OPERATION_GET:
    case OPERATION_NONE: break;
    }
    return REQUEST_GET;
}

static uint64_t work_left(const struct client_thread *thread)
{
    if (thread->run->phase->once)
        return thread->cursor_end - thread->cursor;
    return thread->requests_left;
}

static uint64_t choose_key(struct client_thread *thread)
{
    if (thread->run->phase->once)
        return thread->cursor++;
    return distribution_draw(&thread->run->distribution, &thread->chooser);
}

/* Chooses the kind of a request and its keys, and returns how many keys it has. */
static uint32_t choose_request(struct client_thread *thread, enum request_kind *kind,
                               uint64_t *keys)
{
    uint32_t count = 1;

    *kind = choose_kind(thread);
    if (*kind == REQUEST_GET)
        count = thread->run->phase->multiget;
    if (thread->run->phase->once && count > work_left(thread))
        count = (uint32_t)work_left(thread);
    for (uint32_t i = 0; i < count; i++)
        keys[i] = choose_key(thread);
    return count;
}

/* Fills the connection's batch; returns how many requests it has. */
static uint32_t choose_batch(struct client_thread *thread, struct connection *connection)
{
    const struct phase *phase = thread->run->phase;
    uint64_t *keys = connection->keys;
    uint32_t count = 0;

    while (count < phase->pipeline && work_left(thread) > 0) {
        struct request *request = &connection->requests[count++];

        request->keys = keys;
        request->key_count = choose_request(thread, &request->kind, keys);
        keys += request->key_count;
        if (thread->requests_left != UINT64_MAX)
            thread->requests_left--;
    }
    return count;
}

/* Chooses what another run has done, for nobody. */
static void skip(struct client_thread *thread)
{
    const struct options *options = thread->run->options;
    uint32_t index = thread->chooser.thread;
    enum request_kind kind;

    if (thread->run->phase->once)
        return;
    for (uint64_t left = turns(options->skip, index, options->threads); left > 0; left--)
        choose_request(thread, &kind, thread->connections[0].keys);
}

/* ---- making ---- */

static bool watch(struct client_thread *thread, int operation, int fd, uint32_t events,
                  void *pointer)
{
    struct epoll_event event = {.events = events, .data.ptr = pointer};

    return epoll_ctl(thread->epoll_fd, operation, fd, &event) == 0;
}

static bool connect_one(struct client_thread *thread, struct connection *connection)
{
    const struct run *run = thread->run;
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
    return connection_init(connection, fd, run->options->codec, run->workload, &thread->tally,
                           &connection_options) &&
           watch(thread, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
}

static bool connect_all(struct client_thread *thread, uint32_t count)
{
    thread->connections = calloc(count, sizeof *thread->connections);
    thread->idle = calloc(count, sizeof *thread->idle);
    if (!thread->connections || !thread->idle)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        thread->connections[i].fd = -1;
        thread->connection_count++;
        if (!connect_one(thread, &thread->connections[i]))
            return false;
        thread->idle[i] = i;
    }
    thread->alive = thread->idle_count = count;
    return true;
}

static bool make_timer(struct client_thread *thread, uint32_t index)
{
    const struct options *options = thread->run->options;
    double batches_a_second = (double)options->rate / options->pipeline;

    thread->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    thread->interval_ns = (double)NS_PER_S * options->threads / batches_a_second;
    thread->due_ns = thread->interval_ns * index / options->threads;
    return thread->timer_fd >= 0 && watch(thread, EPOLL_CTL_ADD, thread->timer_fd, EPOLLIN, NULL);
}

struct client_thread *client_thread_new(struct run *run, uint32_t index)
{
    const struct options *options = run->options;
    const uint32_t threads = options->threads;
    uint64_t connections = share_start(options->connections, index + 1, threads) -
                           share_start(options->connections, index, threads);
    struct client_thread *thread = calloc(1, sizeof *thread);

    if (!thread) {
        perror("cachecask-bench: cannot set up a thread");
        return NULL;
    }
    thread->run = run;
    thread->timer_fd = -1;
    chooser_init(&thread->chooser, &run->distribution, options->choice_seed, index, threads);
    thread->cursor = share_start(run->workload->key_count, index, threads);
    thread->cursor_end = share_start(run->workload->key_count, index + 1, threads);
    thread->requests_left = UINT64_MAX;
    if (options->requests > 0 && !run->phase->once)
        thread->requests_left = turns(options->requests, index, threads);
    tally_init(&thread->tally);
    thread->sender = sender_new();
    thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (thread->epoll_fd < 0 || !connect_all(thread, (uint32_t)connections) ||
        (options->rate > 0 && !run->phase->once && !make_timer(thread, index))) {
        perror("cachecask-bench: cannot set up a thread");
        client_thread_free(thread);
        return NULL;
    }
    skip(thread);
    return thread;
}

void client_thread_free(struct client_thread *thread)
{
    for (uint32_t i = 0; i < thread->connection_count; i++)
        connection_release(&thread->connections[i]);
    if (thread->timer_fd >= 0)
        close(thread->timer_fd);
    if (thread->epoll_fd >= 0)
        close(thread->epoll_fd);
    if (thread->sender)
        sender_free(thread->sender);
    free(thread->connections);
    free(thread->idle);
    free(thread);
}

/* ---- running ---- */

static bool leaving(const struct client_thread *thread)
{
    return atomic_load_explicit(&thread->run->failed, memory_order_relaxed) || thread->silent ||
           thread->alive == 0 ||
           atomic_load_explicit(thread->run->interrupted, memory_order_relaxed) > 1;
}

/* Whether requests may still go out. */
static bool open_for_more(const struct client_thread *thread, uint64_t now_ns)
{
    return now_ns < thread->run->end_ns && work_left(thread) > 0 &&
           atomic_load_explicit(thread->run->interrupted, memory_order_relaxed) == 0;
}

static void drop(struct client_thread *thread, bool under_way)
{
    thread->alive--;
    thread->busy -= under_way;
}

/* Has the poll tell when a socket can be written that just was full, and no longer when it was. */
static void follow_blocked(struct client_thread *thread, struct connection *connection, bool before)
{
    if (connection->blocked != before)
        watch(thread, EPOLL_CTL_MOD, connection->fd,
              connection->blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, connection);
}

/* Sends the batch that is prepared, as far as it has not been. */
static void begin_batch(struct client_thread *thread, struct connection *connection,
                        uint64_t start_ns)
{
    bool before = connection->blocked;

    if (thread->busy++ == 0)
        thread->waiting_since_ns = monotonic_ns();
    if (connection_begin(connection, start_ns) == CONNECTION_LOST)
        drop(thread, true);
    else
        follow_blocked(thread, connection, before);
}

static void start_batch(struct client_thread *thread, struct connection *connection,
                        uint64_t due_ns)
{
    connection_prepare(connection, choose_batch(thread, connection));
    begin_batch(thread, connection, due_ns);
}

static void start_together(struct client_thread *thread, struct connection **connections,
                           uint32_t count)
{
    uint64_t now_ns = monotonic_ns();

    if (thread->sender && count >= TOGETHER_MIN) {
        for (uint32_t i = 0; i < count; i++)
            connection_send_with(connections[i], thread->sender);
        sender_run(thread->sender);
    }
    for (uint32_t i = 0; i < count; i++)
        begin_batch(thread, connections[i], now_ns);
}

static void push_idle(struct client_thread *thread, const struct connection *connection)
{
    uint32_t at = (thread->idle_first + thread->idle_count++) % thread->connection_count;

    thread->idle[at] = (uint32_t)(connection - thread->connections);
}

static struct connection *pop_idle(struct client_thread *thread)
{
    uint32_t at = thread->idle_first;

    thread->idle_first = (at + 1) % thread->connection_count;
    thread->idle_count--;
    return &thread->connections[thread->idle[at]];
}

static void set_timer(struct client_thread *thread, uint64_t at_ns)
{
    struct itimerspec when = {0};

    if (thread->timer_ns == at_ns)
        return;
    when.it_value.tv_sec = (time_t)(at_ns / NS_PER_S);
    when.it_value.tv_nsec = (long)(at_ns % NS_PER_S);
    timerfd_settime(thread->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    thread->timer_ns = at_ns;
}

static void clear_timer(struct client_thread *thread)
{
    uint64_t expirations;

    if (read(thread->timer_fd, &expirations, sizeof expirations) > 0)
        thread->timer_ns = 0;
}

static uint64_t due_at(const struct client_thread *thread)
{
    return thread->run->start_ns + (uint64_t)thread->due_ns;
}

/* Open loop: gives what is due to connections that are free. */
static void pace(struct client_thread *thread, uint64_t now_ns)
{
    while (thread->idle_count > 0 && thread->alive > 0 && due_at(thread) <= now_ns &&
           open_for_more(thread, now_ns)) {
        struct connection *connection = pop_idle(thread);
        uint64_t due_ns = due_at(thread);

        if (connection->fd < 0)
            continue; /* lost while it was idle */
        thread->due_ns += thread->interval_ns;
        start_batch(thread, connection, due_ns);
    }
    if (thread->idle_count > 0 && due_at(thread) > now_ns)
        set_timer(thread, due_at(thread));
}

/* Closed loop: gives every connection that is free its next batch. */
static void refill(struct client_thread *thread, uint64_t now_ns)
{
    struct connection *connections[SENDER_MAX];
    uint32_t count = 0;

    while (thread->idle_count > 0 && open_for_more(thread, now_ns)) {
        struct connection *connection = pop_idle(thread);

        if (connection->fd < 0)
            continue;
        connection_prepare(connection, choose_batch(thread, connection));
        connections[count++] = connection;
        if (count == SENDER_MAX) {
            start_together(thread, connections, count);
            count = 0;
        }
    }
    start_together(thread, connections, count);
}

static void start_batches(struct client_thread *thread, uint64_t now_ns)
{
    if (thread->timer_fd >= 0)
        pace(thread, now_ns);
    else
        refill(thread, now_ns);
}

static void handle(struct client_thread *thread, struct connection *connection, uint32_t events)
{
    bool under_way = !connection_idle(connection);
    bool before = connection->blocked;
    uint64_t now_ns;

    if (connection->fd < 0)
        return;
    if ((events & EPOLLOUT) != 0) {
        if (connection_flush(connection) == CONNECTION_LOST) {
            drop(thread, under_way);
            return;
        }
        follow_blocked(thread, connection, before);
    }
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    before = connection->blocked;
    if (connection_receive(connection, &thread->buffer, &now_ns) == CONNECTION_LOST) {
        drop(thread, under_way);
        return;
    }
    follow_blocked(thread, connection, before);
    thread->last_reply_ns = thread->waiting_since_ns = now_ns;
    if (under_way && connection_idle(connection)) {
        thread->busy--;
        push_idle(thread, connection);
    }
}

/* Between two polls: the warm-up's end, silence, errors that end the phase, the progress. */
static void tick(struct client_thread *thread, uint64_t now_ns)
{
    struct run *run = thread->run;
    const uint64_t timeout_ns = (uint64_t)(run->options->timeout_s * (double)NS_PER_S);

    if (!thread->measuring && now_ns >= run->measure_ns) {
        thread->measuring = true;
        thread->measured_from_ns = now_ns;
        tally_restart(&thread->tally);
    }
    if (!thread->silent && thread->busy > 0 && now_ns > thread->waiting_since_ns + timeout_ns) {
        tally_error(&thread->tally, "no reply for %g seconds", run->options->timeout_s);
        thread->silent = true;
    }
    if (run->phase->stop_at_error && (thread->tally.errors > 0 || thread->tally.wrong > 0))
        atomic_store(&run->failed, true);
    atomic_store_explicit(&thread->operations_done, thread->tally.operations, memory_order_relaxed);
}

static bool finished(const struct client_thread *thread, uint64_t now_ns)
{
    if (leaving(thread))
        return true;
    return thread->busy == 0 && !open_for_more(thread, now_ns);
}

static void begin(struct client_thread *thread)
{
    uint64_t now_ns = monotonic_ns();

    thread->measured_from_ns = thread->last_reply_ns = now_ns;
    thread->measuring = thread->run->measure_ns == thread->run->start_ns;
    start_batches(thread, now_ns);
}

/* What was due before the end and found no free connection. */
static void count_unsent(struct client_thread *thread)
{
    uint64_t end_ns = monotonic_ns();

    if (end_ns > thread->run->end_ns)
        end_ns = thread->run->end_ns;
    if (due_at(thread) >= end_ns || work_left(thread) == 0)
        return;

    double batches = (double)(end_ns - due_at(thread)) / thread->interval_ns;
    thread->tally.unsent += (uint64_t)batches * thread->run->phase->pipeline;
}

void *client_thread_main(void *argument)
{
    struct client_thread *thread = argument;
    uint64_t now_ns;

    begin(thread);
    for (now_ns = monotonic_ns(); !finished(thread, now_ns); now_ns = monotonic_ns()) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(thread->epoll_fd, events, EVENTS_MAX, TICK_MS);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                handle(thread, events[i].data.ptr, events[i].events);
            else
                clear_timer(thread);
        }
        now_ns = monotonic_ns();
        start_batches(thread, now_ns);
        tick(thread, now_ns);
    }
    tick(thread, now_ns);
    if (thread->timer_fd >= 0)
        count_unsent(thread);
    return NULL;
}
