/* server.c: the main thread: accepts connections, hands them to the workers in turn, and hears signals. */
#define _GNU_SOURCE
#include "src/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/address.h"
#include "src/command/auth_file.h"
#include "src/observe/dump.h"
#include "src/base/server_log.h"
#include "src/privileges.h"
#include "src/observe/watch.h"
#include "src/net/worker.h"

#define ACCEPTS    64 /* at a time */
#define RESUME_MS  10
#define EPISODE_US UINT64_C(60000000)

static bool verbose(const struct server *server, enum server_log_level level)
{
    return atomic_load_explicit(&server->verbosity, memory_order_relaxed) >= (int)level;
}

static void ignore_listeners(struct server *server)
{
    for (int i = 0; i < server->listener_count; i++)
        if (server->listeners[i].event)
            event_del(server->listeners[i].event);
}

/* All of them, or none: then it is tried again a moment later. */
static bool hear_listeners(struct server *server)
{
    for (int i = 0; i < server->listener_count; i++)
        if (server->listeners[i].event && event_add(server->listeners[i].event, NULL) < 0) {
            ignore_listeners(server);
            return false;
        }
    return true;
}

static void resume_soon(struct server *server)
{
    const struct timeval soon = {.tv_usec = RESUME_MS * 1000};
    event_add(server->resume, &soon);
}

static void listen_again(struct server *server)
{
    if (atomic_load(&server->accepting))
        return;
    if (!hear_listeners(server)) {
        resume_soon(server);
        return;
    }
    atomic_fetch_add(&server->listen_disabled_us, clock_monotonic_us() - server->disabled_since_us);
    atomic_store(&server->accepting, true);
}

/* Nobody can be accepted now: the descriptors are used up, or the limit of connections is reached. A moment later it is
 * tried again, so that what cannot be served does not keep a processor busy. */
static void stop_listening(struct server *server)
{
    if (atomic_load(&server->accepting)) {
        ignore_listeners(server);
        server->disabled_since_us = clock_monotonic_us();
        atomic_store(&server->accepting, false);
        atomic_fetch_add(&server->listen_disabled_num, 1);
    }
    resume_soon(server);
}

static bool is_full(const struct server *server)
{
    return atomic_load(&server->connections) >= server->settings.max_connections;
}

static bool is_starving(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static void on_resume(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    (void)fd;
    (void)what;
    server->starved = server->starved && is_starving();
    if (server->starved)
        server->starved_us = clock_monotonic_us();
    if (server->starved || (!server->settings.maxconns_fast && is_full(server)))
        stop_listening(server);
    else
        listen_again(server);
}

static void refuse(struct server *server, const struct listener *listener, int fd)
{
    static const char message[] = "ERROR Too many open connections\r\n";
    atomic_fetch_add(&server->rejected_connections, 1); /* who has heard of it finds it counted */
    if (listener->transport == TRANSPORT_PLAIN) {       /* to others these bytes mean nothing */
        ssize_t ignored = send(fd, message, sizeof message - 1, MSG_NOSIGNAL);
        (void)ignored;
    }
    close(fd);
    if (verbose(server, SERVER_LOG_EVENTS))
        server_log("too many open connections: one refused (-c is %d)",
                   server->settings.max_connections);
}

static void hand_over(struct server *server, struct listener *listener, int fd, const char *address)
{
    int one = 1;
    if (!listener->is_unix)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct worker *worker = server->workers[server->next_worker];
    server->next_worker = (server->next_worker + 1) % server->settings.threads;
    atomic_fetch_add(&server->connections, 1);
    atomic_fetch_add(&server->total_connections, 1);
    if (!worker_add(worker, fd, listener, address)) {
        close(fd);
        server_connection_closed(server);
    }
}

/* Said once, until a minute has passed without it. */
static void report_starved(struct server *server, int error)
{
    uint64_t before_us = server->starved_us;
    server->starved_us = clock_monotonic_us();
    if (!before_us || server->starved_us - before_us > EPISODE_US)
        server_log("cannot accept connections: %s. %s", strerror(error),
                   error == EMFILE || error == ENFILE
                       ? "Raise the limit of open files (ulimit -n) or lower -c"
                       : "The system needs more free memory");
}

/* Descriptors are shared at the start (process_share_files), so there are some unless the limit was lowered since, or the
 * system itself has none. */
static void accept_failed(struct server *server)
{
    int error = errno;
    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
        return; /* nobody there any more, or a client that left at once */
    server->starved = error == EMFILE || error == ENFILE;
    report_starved(server, error);
    stop_listening(server);
}

static void on_connection(evutil_socket_t listening, short what, void *context)
{
    struct listener *listener = context;
    struct server *server = listener->server;
    (void)what;
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        char address[64];
        if (!server->settings.maxconns_fast && is_full(server)) {
            stop_listening(server);
            return;
        }
        int fd = accept4(listening, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            accept_failed(server);
            return;
        }
        if (is_full(server)) {
            refuse(server, listener, fd);
            continue;
        }
        address_format((struct sockaddr *)&peer, len, address, sizeof address);
        hand_over(server, listener, fd, address);
    }
}

void server_connection_closed(struct server *server)
{
    atomic_fetch_sub(&server->connections, 1);
}

/* The handlers of src/signals.c take over from the loop's. */
static void release_signals(struct server *server)
{
    signals_stopping();
    for (int i = 0; i < SERVER_SIGNALS; i++)
        event_del(server->signals[i]);
}

static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    (void)what;
    if (verbose(server, SERVER_LOG_EVENTS))
        server_log("stopping: %s", strsignal(fd)); /* libevent gives the signal's number as fd */
    event_base_loopbreak(server->base);
}

static void reload_certificates(struct server *server)
{
    char error[TLS_ERROR_MAX];
    if (tls_reload(server->tls, error))
        server_log("certificates reloaded");
    else
        server_log("%s; the certificates loaded before stay in use", error);
}

/* The operator has changed the password file. */
static void reload_passwords(struct server *server)
{
    char why[AUTH_FILE_WHY_MAX];
    const char *path = server->settings.auth_file;
    if (!server->auth_file)
        return;
    if (!auth_file_reload(server->auth_file, why))
        server_log("password file %s: %s. What was read before stays in force", path, why);
    else if (verbose(server, SERVER_LOG_EVENTS))
        server_log("password file %s: read again", path);
}

/* SIGHUP: reads again what can be changed while the server runs. */
static void on_hangup(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    (void)fd;
    (void)what;
    reload_passwords(context);
    if (server->tls)
        reload_certificates(server);
}

void server_stop(void)
{
    kill(getpid(), SIGTERM); /* one way to stop: that of the operator */
}

/* A SIGHUP that came during the start is obeyed now: what it means may have been read before it came. */
static bool watch_signals(struct server *server)
{
    struct event **hangup = &server->signals[SIGNALS_STOPS_COUNT];
    for (int i = 0; i < SIGNALS_STOPS_COUNT; i++)
        server->signals[i] = evsignal_new(server->base, signals_stops[i], on_stop, server);
    *hangup = evsignal_new(server->base, SIGHUP, on_hangup, server);
    for (int i = 0; i < SERVER_SIGNALS; i++)
        if (!server->signals[i] || event_add(server->signals[i], NULL) < 0)
            return false;
    if (signals_take_hangup())
        event_active(*hangup, EV_SIGNAL, 1);
    return true;
}

/* The store's background work hears the time here. */
static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct server *server = context;
    (void)fd;
    (void)what;
    store_tick(server->store, clock_now_s(&server->clock));
    server_log_catch_up();
}

static bool start_ticking(struct server *server)
{
    const struct timeval second = {.tv_sec = 1};
    server->tick = event_new(server->base, -1, EV_PERSIST, on_tick, server);
    return server->tick && event_add(server->tick, &second) == 0;
}

static bool watch_listeners(struct server *server)
{
    server->resume = evtimer_new(server->base, on_resume, server);
    for (int i = 0; i < server->listener_count; i++) {
        struct listener *listener = &server->listeners[i];
        if (listener->transport == TRANSPORT_UDP)
            continue; /* read by the workers */
        listener->event =
            event_new(server->base, listener->fd, EV_READ | EV_PERSIST, on_connection, listener);
        if (!listener->event || event_add(listener->event, NULL) < 0)
            return false;
        if (verbose(server, SERVER_LOG_COMMANDS))
            server_log("<%d server listening on %s", listener->fd, listener->address);
    }
    atomic_store(&server->accepting, true);
    return server->resume != NULL;
}

static bool start_workers(struct server *server)
{
    server->workers = calloc((size_t)server->settings.threads, sizeof *server->workers);
    for (int i = 0; server->workers && i < server->settings.threads; i++) {
        server->workers[i] = worker_new(server, (uint32_t)i);
        if (!server->workers[i] || !worker_start(server->workers[i])) {
            fprintf(stderr, "cannot start worker %d: %s; -t gives fewer\n", i, strerror(errno));
            return false;
        }
    }
    return server->workers != NULL;
}

static void stop_workers(struct server *server)
{
    for (int i = 0; i < server->settings.threads; i++)
        worker_stop(server->workers[i]);
    for (int i = 0; i < server->settings.threads; i++)
        worker_free(server->workers[i]);
    free(server->workers);
}

static void free_events(struct server *server)
{
    for (int i = 0; i < SERVER_SIGNALS; i++)
        event_free(server->signals[i]);
    for (int i = 0; i < server->listener_count; i++)
        if (server->listeners[i].event)
            event_free(server->listeners[i].event);
    event_free(server->resume);
    event_free(server->tick);
    event_base_free(server->base);
}

static void say_of_libevent(int severity, const char *message)
{
    (void)severity;
    server_log("libevent: %s", message);
}

bool server_run(struct server *server, void (*ready)(struct server *server))
{
    event_set_log_callback(say_of_libevent);
    server->base = event_base_new();
    server->dump = dump_new(server);
    if (!server->base || !server->dump || !watch_signals(server) || !start_workers(server) ||
        !watch_listeners(server) || !start_ticking(server)) {
        fprintf(stderr, "cannot start: %s\n", strerror(errno));
        return false;
    }
    if (server->settings.drop_privileges && !privileges_drop(&server->settings))
        return false;
    ready(server);
    event_base_dispatch(server->base);
    release_signals(server);
    dump_stop(server->dump);
    watch_stop(server->watch);
    stop_workers(server);
    dump_free(server->dump);
    free_events(server);
    return true;
}

void server_release(struct server *server)
{
    for (int i = 0; i < server->listener_count; i++) {
        close(server->listeners[i].fd);
        if (server->listeners[i].is_unix)
            unlink(server->settings.unix_path);
    }
    auth_file_close(server->auth_file);
}
