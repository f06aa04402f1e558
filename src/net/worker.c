/* worker.c: a worker's connections, from when they come to when they close.
 *
 * A worker waits for events. Its callbacks only note which connections have something; then one
 * round serves all of them together (worker_round.c). After the round a connection is ready for
 * more when it waits for nothing (waits.c).
 */
#define _GNU_SOURCE
#include "src/net/worker.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/server_log.h"
#include "src/net/tls.h"
#include "src/net/waits.h"
#include "src/observe/request_log.h"
#include "src/observe/watch.h"
#include "storage/base/memory.h"

#define ROUNDS_MAX 16 /* between two looks at what else has happened */
#define INPUT_MIN  ((uint64_t)64 << 20)

static const struct timeval second = {.tv_sec = 1};

/* Wakes: connections from the main thread, and all that connections wait for. */

static void wake(void *context)
{
    const struct worker *worker = context;
    uint64_t one = 1;
    ssize_t ignored = write(worker->wake_fd, &one, sizeof one); /* full means woken already */
    (void)ignored;
}

static void take_arrivals(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    struct arrival *arrival = worker->arrivals, *next;
    worker->arrivals = NULL;
    pthread_mutex_unlock(&worker->lock);
    worker->context.now_s = clock_now_s(&worker->server->clock);
    worker->context.verbosity =
        atomic_load_explicit(&worker->server->verbosity, memory_order_relaxed);
    for (; arrival; arrival = next) {
        next = arrival->next;
        struct conn *conn = worker_open(worker, arrival->fd, arrival->listener, arrival->address);
        free(arrival);
        if (!conn) {
            server_connection_closed(worker->server);
            continue;
        }
        if (worker->context.verbosity >= SERVER_LOG_COMMANDS)
            request_log_opened(conn->client.fd, conn->client.address);
        watch_opened(&worker->context.watch, conn->client.fd, conn->client.address);
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
    waits_look_again(worker);
}

/* Idle connections (-o idle_timeout). */

/* Whether nothing is under way for it; a client that does not read its answers is idle too. */
static bool may_be_kicked(const struct conn *conn)
{
    return conn->transport != TRANSPORT_UDP && !conn->listener->is_unix && !conn->is_ready &&
           !client_waits_for(&conn->client, ~(uint32_t)WAIT_OUTPUT);
}

static void kick_idle(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    struct conn *conn, *next;
    uint32_t limit_s = (uint32_t)worker->context.settings->idle_timeout_s;
    (void)fd, (void)what;
    worker->context.now_s = clock_now_s(&worker->server->clock);
    for (conn = worker->conns; conn; conn = next) {
        next = conn->next;
        uint32_t last_s = atomic_load_explicit(&conn->last_command_s, memory_order_relaxed);
        if (worker->context.now_s <= last_s + limit_s || !may_be_kicked(conn))
            continue;
        if (worker->context.verbosity >= SERVER_LOG_EVENTS)
            server_log("<%d closed: idle for more than %u s: %s", conn->client.fd, limit_s,
                       conn->client.address);
        counter_add(&worker->context.counters.idle_kicks, 1);
        conn->close_reason = "idle_timeout";
        worker_close(worker, conn);
    }
}

static bool watch_idle(struct worker *worker)
{
    if (!worker->context.settings->idle_timeout_s)
        return true;
    worker->idle_tick = event_new(worker->base, -1, EV_PERSIST, kick_idle, worker);
    return worker->idle_tick && event_add(worker->idle_tick, &second) == 0;
}

static void age_buffers(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd, (void)what;
    buffer_pool_age(&worker->buffers);
    if (worker->buffers.count)
        event_add(worker->buffers_tick, &second);
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    pthread_setname_np(pthread_self(), "cc-worker");
    worker->context.now_s = clock_now_s(&worker->server->clock);
    while (!atomic_load(&worker->stopping) || worker->context.fetches.under_way) {
        fetches_serve_line(&worker->context);
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
    worker->context.now_s = clock_now_s(&server->clock);
    for (int i = 0; i < server->listener_count; i++) {
        const struct listener *listener = &server->listeners[i];
        if (listener->transport != TRANSPORT_UDP)
            continue;
        int fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0 || !worker_open(worker, fd, listener, listener->address))
            return false;
    }
    return true;
}

/* How much the incomplete requests of one worker may take: its part of what is set, or of an eighth
 * of -m, 64 MiB at least. One request of the longest kind always has room. */
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

/* What commands ask of us. */

static void note_running(struct client *client)
{
    conn_set_state(conn_of_client(client), CONN_STATE_PARSE);
}

static struct server *server_of(struct command_context *context)
{
    char *worker = (char *)context - offsetof(struct worker, context);
    return ((struct worker *)worker)->server;
}

static void stop_server(struct command_context *context)
{
    server_of(context)->stop();
}

static bool reload_certificates(struct command_context *context, char why[COMMAND_WHY_MAX])
{
    struct tls *tls = server_of(context)->tls;
    if (tls)
        return tls_reload(tls, why);
    snprintf(why, COMMAND_WHY_MAX, "Error TLS not enabled");
    return false;
}

_Static_assert(COMMAND_WHY_MAX >= TLS_ERROR_MAX, "why certificates cannot be read has room");

static const struct command_host host = {
    .wait = waits_begin,
    .resume = waits_resume,
    .running = note_running,
    .stop = stop_server,
    .reload_certificates = reload_certificates,
};

/* False: no memory. */
static bool init_context(struct worker *worker)
{
    struct server *server = worker->server;
    struct command_context *context = &worker->context;
    const struct settings *settings = &server->settings;
    context->host = &host;
    context->waker = (struct waker){wake, worker};
    context->store = server->store;
    context->settings = settings;
    context->dump = server->dump;
    context->auth_file = server->auth_file;
    context->stats = &server->stats;
    context->server_verbosity = &server->verbosity;
    context->sizes_enabled = &server->sizes_enabled;
    context->waits_reported_s = &server->waits_reported_s;
    context->memory_reported_s = &server->memory_reported_s;
    context->watch = (struct watch_writer){.watch = server->watch,
                                           .prefixes = server->prefixes,
                                           .observed = &server->observed,
                                           .log = worker->id};
    context->session = store_session_new(server->store, wake, worker, worker->wake_fd);
    return context->session &&
           fetches_init(&context->fetches, settings->memory_mib << 20, settings->threads) &&
           output_init(&context->output);
}

static bool add_events(struct worker *worker)
{
    worker->wake_event =
        event_new(worker->base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
    worker->buffers_tick = event_new(worker->base, -1, 0, age_buffers, worker);
    worker->wait_tick = event_new(worker->base, -1, 0, waits_tick, worker);
    return worker->wake_event && event_add(worker->wake_event, NULL) == 0 && worker->buffers_tick &&
           worker->wait_tick && watch_idle(worker);
}

static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

struct worker *worker_new(struct server *server, uint32_t id)
{
    const struct settings *settings = &server->settings;
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->server = server;
    worker->id = id;
    worker->requests_per_event =
        settings->requests_per_event ? settings->requests_per_event : INT_MAX;
    pthread_mutex_init(&worker->lock, NULL);
    worker->base = new_base();
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->input_limit = input_limit(settings);
    worker->input = memory_new_private(WORKER_INPUT);
    worker->socket_ring = settings->uring ? socket_ring_new() : NULL;
    if (!worker->base || worker->wake_fd < 0 || !worker->input || !init_context(worker) ||
        !add_events(worker))
        return NULL;
    return open_udp(worker) ? worker : NULL;
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
    store_session_free(worker->context.session);
    fetches_release(&worker->context.fetches);
    output_release(&worker->context.output);
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
