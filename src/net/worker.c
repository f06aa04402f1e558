/* worker.c: a worker's connections, from when they come to when they close.
 *
 * A worker waits for events. What its callbacks do is only to note which connections have something; then one round serves
 * all of them together (worker_round.c).
 *
 * After the round a connection goes on when its output is sent, its fetches have come back, there is room for its write, and,
 * with --sync=always, its writes are on disk; until then its socket is not read, so a client that does not read its answers stops itself.
 */
#define _GNU_SOURCE
#include "src/net/worker.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/observe/dump.h"
#include "src/base/server_log.h"
#include "src/observe/request_log.h"
#include "src/net/udp.h"
#include "src/observe/watch.h"
#include "storage/base/memory.h"

#define ROUNDS_MAX   16 /* between two looks at what else has happened */
#define WAITS_TOLD_S 60
#define INPUT_MIN    ((uint64_t)64 << 20)

static const struct timeval second = {.tv_sec = 1};

static void abandon_dump(struct worker *worker)
{
    worker->dumping = NULL;
    dump_abandon(worker->server->dump);
}

static void remove_watcher(struct worker *worker, struct conn *conn)
{
    struct conn **at = &worker->watching;
    while (*at != conn)
        at = &(*at)->next_watching;
    *at = conn->next_watching;
    watch_remove(worker->server->watch, conn->watcher);
}

void worker_close(struct worker *worker, struct conn *conn)
{
    if (worker_is_dumping(conn))
        abandon_dump(worker);
    if (worker->verbosity >= SERVER_LOG_COMMANDS)
        request_log_closed(conn);
    if (conn->watching)
        remove_watcher(worker, conn);
    watch_closed(worker, conn);
    pthread_mutex_lock(&worker->lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        worker->conns = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    worker->conn_count--;
    pthread_mutex_unlock(&worker->lock);
    bool counted = conn->transport != TRANSPORT_UDP;
    conn_free(conn);
    if (counted)
        server_connection_closed(worker->server);
}

static void make_ready(struct conn *conn)
{
    struct worker *worker = conn->worker;
    if (conn->is_ready)
        return;
    conn->is_ready = true;
    conn->next_ready = NULL;
    if (worker->ready)
        worker->ready_tail->next_ready = conn;
    else
        worker->ready = conn;
    worker->ready_tail = conn;
}

struct conn *worker_take_ready(struct worker *worker)
{
    struct conn *conn = worker->ready;
    if (conn) {
        worker->ready = conn->next_ready;
        conn->is_ready = false;
    }
    return conn;
}

/* Sends one chunk of the dump. False: there is none now. */
static bool send_chunk(struct conn *conn)
{
    struct worker *worker = conn->worker;
    struct piece piece;
    enum dump_taken taken = dump_take(worker->server->dump, &piece);
    if (taken == DUMP_NOTHING)
        return false;
    if (taken != DUMP_CHUNK)
        worker->dumping = NULL;
    if (taken == DUMP_BROKEN || !conn_defer(conn, &piece, 1) ||
        conn_send_pending(conn) == CONN_BROKEN) {
        conn_drop_pending(conn);
        conn->closing = true;
    }
    return true;
}

/* Sends what the dump has ready, once all before it is sent; for more there will be a wake. */
static void feed_dump(struct conn *conn)
{
    for (int i = 0; i < DUMP_CHUNKS; i++) {
        bool can_send = !conn->pending && !conn->syncing && !conn->closing;
        if (!worker_is_dumping(conn) || !can_send || !send_chunk(conn))
            break;
    }
    if (worker_is_dumping(conn) && conn->closing)
        abandon_dump(conn->worker);
}

/* Sends a watcher's lines, as far as its socket takes them; for more there will be a wake. */
static void feed_watcher(struct conn *conn)
{
    struct piece piece;
    while (!conn->pending && !conn->syncing && !conn->closing &&
           watch_take(conn->worker->server->watch, conn->watcher, &piece))
        if (!conn_defer(conn, &piece, 1) || conn_send_pending(conn) == CONN_BROKEN) {
            conn->close_reason = "error";
            conn->closing = true;
        }
    if (conn->closing && !conn->syncing)
        worker_close(conn->worker, conn);
}

/* A watcher has nothing to say any more, but that it has gone. */
static void on_watcher_readable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    size_t used;
    (void)fd;
    (void)what;
    if (conn_receive(conn, conn->worker->input, &used) != CONN_GONE)
        return;
    conn->closing = true;
    conn_listen(conn, false);
    feed_watcher(conn);
}

void worker_add_watcher(struct worker *worker, struct conn *conn, uint32_t watcher)
{
    conn->watching = true;
    conn->watcher = watcher;
    conn->next_watching = worker->watching;
    worker->watching = conn;
    conn_listen(conn, false);
    event_assign(&conn->read_event, worker->base, conn->fd, EV_READ | EV_PERSIST,
                 on_watcher_readable, conn);
    conn_listen(conn, true);
}

void worker_resume(struct conn *conn)
{
    conn_note_state(conn);
    if (conn->watching) {
        feed_watcher(conn);
        return;
    }
    feed_dump(conn);
    if (conn->pending || conn->syncing || conn->fetching || conn->parked || conn->in_line ||
        worker_is_dumping(conn)) {
        conn_listen(conn, conn->pending && conn_sends_after_reading(conn));
        return;
    }
    if (conn->closing && conn->transport == TRANSPORT_UDP)
        udp_give_up(conn);
    if (conn->closing) {
        worker_close(conn->worker, conn);
        return;
    }
    if (!conn_listen(conn, true)) { /* it would never be heard again */
        worker_close(conn->worker, conn);
        return;
    }
    if ((conn->stopped && conn->in_len) || conn->readable)
        make_ready(conn);
}

static void send_pending(struct conn *conn)
{
    enum conn_sent sent = conn_send_pending(conn);
    if (sent == CONN_BROKEN) {
        conn_drop_pending(conn);
        conn->closing = true;
    }
    if (sent != CONN_WAITING)
        worker_resume(conn);
}

void worker_on_readable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    (void)fd;
    (void)what;
    if (conn->pending) {
        send_pending(conn);
        return;
    }
    conn->readable = true;
    make_ready(conn);
}

void worker_on_writable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    (void)fd;
    (void)what;
    if (conn->pending) {
        send_pending(conn);
        return;
    }
    conn_receive_again(conn);
    make_ready(conn);
}

/* Wakes: connections from the main thread, fetches, syncs. */

static void wake(void *context)
{
    const struct worker *worker = context;
    uint64_t one = 1;
    ssize_t ignored = write(worker->wake_fd, &one, sizeof one); /* full means woken already */
    (void)ignored;
}

static void add_conn(struct worker *worker, struct conn *conn)
{
    atomic_store_explicit(&conn->last_command_s, worker->now_s, memory_order_relaxed);
    pthread_mutex_lock(&worker->lock);
    conn->next = worker->conns;
    if (conn->next)
        conn->next->previous = conn;
    worker->conns = conn;
    worker->conn_count++;
    pthread_mutex_unlock(&worker->lock);
}

static void take_arrivals(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    struct arrival *arrival = worker->arrivals, *next;
    worker->arrivals = NULL;
    pthread_mutex_unlock(&worker->lock);
    worker->now_s = clock_now_s(&worker->server->clock);
    worker->verbosity = atomic_load_explicit(&worker->server->verbosity, memory_order_relaxed);
    for (; arrival; arrival = next) {
        next = arrival->next;
        struct conn *conn = conn_new(worker, arrival->fd, arrival->listener, arrival->address);
        free(arrival);
        if (!conn) {
            server_connection_closed(worker->server);
            continue;
        }
        if (worker->verbosity >= SERVER_LOG_COMMANDS)
            request_log_opened(conn);
        add_conn(worker, conn);
        watch_opened(worker, conn);
    }
}

static void take_fetches(struct worker *worker)
{
    struct store_fetch *fetch;
    while ((fetch = store_fetch_next(worker->session)))
        fetched_came(worker, fetch);
}

static void take_synced(struct worker *worker)
{
    struct conn *conn = worker->syncing, *next;
    worker->syncing = NULL;
    for (; conn; conn = next) {
        next = conn->next_syncing;
        enum store_status status = store_durable(worker->session, conn->rests_lsn);
        if (status == STORE_WAIT_SYNC) {
            conn->next_syncing = worker->syncing;
            worker->syncing = conn;
            continue;
        }
        conn->syncing = false;
        conn->rests_lsn = 0;
        conn->disk_since_s = 0;
        if (status != STORE_OK) { /* never acknowledged: what was to be said is dropped */
            conn_drop_pending(conn);
            conn->closing = true;
        }
        if (conn->pending)
            send_pending(conn);
        else
            worker_resume(conn);
    }
}

bool worker_may_report(struct worker *worker, _Atomic uint32_t *reported_s)
{
    uint32_t last_s = atomic_load(reported_s), now_s = worker->now_s;
    return (!last_s || now_s >= last_s + WAITS_TOLD_S) &&
           atomic_compare_exchange_strong(reported_s, &last_s, now_s);
}

static void report_refused(struct worker *worker)
{
    if (worker_may_report(worker, &worker->server->waits_reported_s))
        server_log(
            "warning: writes have found no room for %d s and are refused: see cleaner_reason, "
            "sync_us_p99 and disk_limit_effective in \"stats store\"",
            WORKER_WAIT_MAX_S);
}

void worker_await_tick(struct worker *worker)
{
    if (!event_pending(worker->wait_tick, EV_TIMEOUT, NULL))
        event_add(worker->wait_tick, &second);
}

void worker_await_disk(struct worker *worker, struct conn *conn)
{
    if (!conn->disk_since_s)
        conn->disk_since_s = worker->now_s;
    worker_await_tick(worker);
}

/* What the disk owes a connection comes to it all the same, some day, and finds its socket shut. Answers whether there are others to
 * look at again. */
static bool give_up_on_disk(struct worker *worker)
{
    bool any = false;
    for (struct conn *conn = worker->conns; conn; conn = conn->next) {
        if (!conn->disk_since_s || conn->transport == TRANSPORT_UDP)
            continue;
        any = true;
        if (worker->now_s < conn->disk_since_s + WORKER_DISK_MAX_S)
            continue;
        conn->disk_since_s = 0;
        conn->close_reason = "error";
        shutdown(conn->fd, SHUT_RDWR);
        if (worker_may_report(worker, &worker->server->waits_reported_s))
            server_log(
                "error: the disk has not answered for %d s: connections that wait for it are "
                "closed. Check the disk",
                WORKER_DISK_MAX_S);
    }
    return any;
}

bool worker_park(struct worker *worker, struct conn *conn)
{
    uint32_t waited_s = worker->now_s - conn->waiting_since_s;
    if (!conn->waiting_since_s || waited_s >= 2 * WORKER_WAIT_MAX_S) {
        conn->waiting_since_s = worker->now_s;
    } else if (waited_s >=
               WORKER_WAIT_MAX_S) { /* nor do the next of its pipeline wait as long again */
        report_refused(worker);
        return false;
    }
    conn->parked = true;
    conn->next_parked = worker->parked;
    worker->parked = conn;
    worker_await_tick(worker);
    return true;
}

/* There may be room now; those for whom there is none park again. */
static void take_parked(struct worker *worker)
{
    struct conn *conn = worker->parked, *next;
    worker->parked = NULL;
    for (; conn; conn = next) {
        next = conn->next_parked;
        conn->parked = false;
        worker_resume(conn);
    }
}

/* Nobody waits for ever, whatever wakes are missed: who has waited too long is refused now. */
static void on_wait_tick(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd;
    (void)what;
    worker->now_s = clock_now_s(&worker->server->clock);
    take_parked(worker);
    fetched_tick(worker);
    if (give_up_on_disk(worker) || fetched_someone_waits(&worker->fetched))
        worker_await_tick(worker);
}

static void feed_watchers(struct worker *worker)
{
    struct conn *next;
    for (struct conn *conn = worker->watching; conn; conn = next) {
        next = conn->next_watching;
        feed_watcher(conn);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    uint64_t count;
    (void)what;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
    take_arrivals(worker);
    take_fetches(worker);
    take_synced(worker);
    take_parked(worker);
    feed_watchers(worker);
    if (worker->dumping)
        worker_resume(worker->dumping);
}

/* Idle connections (-o idle_timeout). */

/* Whether nothing is under way that would come back to it; a client that does not read its answers is idle too. */
static bool may_be_kicked(const struct conn *conn)
{
    return conn->transport != TRANSPORT_UDP && !conn->listener->is_unix && !conn->is_ready &&
           !conn->syncing && !conn->fetching && !conn->parked && !conn->in_line &&
           !worker_is_dumping(conn) && !conn->watching;
}

static void kick_idle(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    struct conn *conn, *next;
    uint32_t limit_s = (uint32_t)worker->server->settings.idle_timeout_s;
    (void)fd;
    (void)what;
    worker->now_s = clock_now_s(&worker->server->clock);
    for (conn = worker->conns; conn; conn = next) {
        next = conn->next;
        uint32_t last_s = atomic_load_explicit(&conn->last_command_s, memory_order_relaxed);
        if (worker->now_s <= last_s + limit_s || !may_be_kicked(conn))
            continue;
        if (worker->verbosity >= SERVER_LOG_EVENTS)
            server_log("<%d closed: idle for more than %u s: %s", conn->fd, limit_s, conn->address);
        counter_add(&worker->counters.idle_kicks, 1);
        conn->close_reason = "idle_timeout";
        worker_close(worker, conn);
    }
}

static bool watch_idle(struct worker *worker)
{
    if (!worker->server->settings.idle_timeout_s)
        return true;
    worker->idle_tick = event_new(worker->base, -1, EV_PERSIST, kick_idle, worker);
    return worker->idle_tick && event_add(worker->idle_tick, &second) == 0;
}

static void age_buffers(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd;
    (void)what;
    buffer_pool_age(&worker->buffers);
    if (worker->buffers.count)
        event_add(worker->buffers_tick, &second);
}

void worker_keep_buffer(struct worker *worker, struct pool_buffer buffer)
{
    buffer_pool_give(&worker->buffers, buffer);
    if (!event_pending(worker->buffers_tick, EV_TIMEOUT, NULL))
        event_add(worker->buffers_tick, &second); /* fails: they rest a little longer */
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    pthread_setname_np(pthread_self(), "cc-worker");
    worker->now_s = clock_now_s(&worker->server->clock);
    while (!atomic_load(&worker->stopping) || worker->fetching) {
        fetched_serve_line(worker);
        event_base_loop(worker->base, worker->ready ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
        for (int i = 0; i < ROUNDS_MAX && worker->ready && !atomic_load(&worker->stopping); i++)
            worker_run_round(worker);
        if (atomic_load(&worker->stopping))
            worker->ready = NULL;
    }
    return NULL;
}

/* The beginning and the end. */

/* A connection of ours for each UDP socket, which all workers share. */
static bool open_udp(struct worker *worker)
{
    const struct server *server = worker->server;
    worker->now_s = clock_now_s(&server->clock);
    for (int i = 0; i < server->listener_count; i++) {
        const struct listener *listener = &server->listeners[i];
        if (listener->transport != TRANSPORT_UDP)
            continue;
        int fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
        struct conn *conn = fd < 0 ? NULL : conn_new(worker, fd, listener, listener->address);
        if (!conn)
            return false;
        add_conn(worker, conn);
    }
    return true;
}

/* How much the requests of one worker that are not whole yet may take: its part of what is set, or of an eighth of -m, 64 MiB at
 * least. One request of the longest kind always has room. */
static size_t input_limit(const struct settings *settings)
{
    uint64_t all = settings->memory_mib << 17, one = (uint64_t)settings->item_size_max;
    if (all < INPUT_MIN)
        all = INPUT_MIN;
    if (settings->read_buf_mem_limit)
        all = (uint64_t)settings->read_buf_mem_limit << 20;
    if (one < TEXT_GET_LINE_MAX)
        one = TEXT_GET_LINE_MAX;
    uint64_t part = all / (uint64_t)settings->threads;
    return part > one + WORKER_INPUT ? part : one + WORKER_INPUT;
}

struct worker *worker_new(struct server *server, uint32_t id)
{
    struct worker *worker = calloc(1, sizeof *worker);
    struct event_config *config = event_config_new();
    if (!worker || !config) {
        free(worker);
        if (config)
            event_config_free(config);
        return NULL;
    }
    worker->server = server;
    worker->id = id;
    worker->requests_per_event =
        server->settings.requests_per_event ? server->settings.requests_per_event : INT_MAX;
    pthread_mutex_init(&worker->lock, NULL);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME);
    worker->base = event_base_new_with_config(config);
    event_config_free(config);
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->input_limit = input_limit(&server->settings);
    fetched_init(&worker->fetched, server->settings.memory_mib << 20, server->settings.threads);
    worker->input = memory_new_private(WORKER_INPUT);
    worker->scratch = calloc(1, sizeof *worker->scratch);
    worker->socket_ring = server->settings.uring ? socket_ring_new() : NULL;
    worker->session = store_session_new(server->store, wake, worker, worker->wake_fd);
    if (!worker->base || worker->wake_fd < 0 || !worker->input || !worker->scratch ||
        !worker->session || !output_init(&worker->output))
        return NULL;
    worker->wake_event =
        event_new(worker->base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
    worker->buffers_tick = event_new(worker->base, -1, 0, age_buffers, worker);
    worker->wait_tick = event_new(worker->base, -1, 0, on_wait_tick, worker);
    if (!worker->wake_event || event_add(worker->wake_event, NULL) < 0 || !worker->buffers_tick ||
        !worker->wait_tick || !watch_idle(worker))
        return NULL;
    return open_udp(worker) ? worker : NULL;
}

void worker_wake(struct worker *worker)
{
    wake(worker);
}

bool worker_start(struct worker *worker)
{
    return pthread_create(&worker->thread, NULL, run_worker, worker) == 0;
}

bool worker_add(struct worker *worker, int fd, const struct listener *listener, const char *address)
{
    struct arrival *arrival = calloc(1, sizeof *arrival);
    if (!arrival)
        return false;
    arrival->fd = fd;
    arrival->listener = listener;
    strncpy(arrival->address, address, sizeof arrival->address - 1);
    pthread_mutex_lock(&worker->lock);
    arrival->next = worker->arrivals;
    worker->arrivals = arrival;
    pthread_mutex_unlock(&worker->lock);
    wake(worker);
    return true;
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->stopping, true);
    wake(worker);
}

void worker_free(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    take_arrivals(worker);
    while (worker->conns)
        worker_close(worker, worker->conns);
    store_session_free(worker->session);
    fetched_drop(worker->scratch);
    output_release(&worker->output);
    if (worker->socket_ring)
        socket_ring_free(worker->socket_ring);
    free(worker->input);
    buffer_pool_release(&worker->buffers);
    event_free(worker->buffers_tick);
    event_free(worker->wait_tick);
    event_free(worker->wake_event);
    if (worker->idle_tick)
        event_free(worker->idle_tick);
    event_base_free(worker->base);
    close(worker->wake_fd);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}
