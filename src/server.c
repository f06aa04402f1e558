/* server.c: the main thread accepts connections, hands them to the workers, and hears signals. */
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
#include "src/base/refuse.h"
#include "src/base/server_log.h"
#include "src/command/auth_file.h"
#include "src/net/worker.h"
#include "src/observe/dump.h"
#include "src/observe/watch.h"
#include "src/privileges.h"

#define ACCEPTS    64 /* at a time */
#define RESUME_MS  10
#define EPISODE_US UINT64_C(60000000)

static bool verbose(const struct main_thread *self, enum server_log_level level)
{
    return atomic_load_explicit(&self->server.verbosity, memory_order_relaxed) >= (int)level;
}

/* Listening, and the pauses in it */

static void ignore_listeners(struct main_thread *self)
{
    for (int i = 0; i < self->server.listener_count; i++)
        if (self->listeners[i].event)
            event_del(self->listeners[i].event);
}

/* Hears all of them, or none. */
static bool hear_listeners(struct main_thread *self)
{
    for (int i = 0; i < self->server.listener_count; i++)
        if (self->listeners[i].event && event_add(self->listeners[i].event, NULL) < 0) {
            ignore_listeners(self);
            return false;
        }
    return true;
}

static void resume_soon(struct main_thread *self)
{
    const struct timeval soon = {.tv_usec = RESUME_MS * 1000};
    event_add(self->resume, &soon);
}

static void listen_again(struct main_thread *self)
{
    if (atomic_load(&self->accepting))
        return;
    if (!hear_listeners(self)) {
        resume_soon(self);
        return;
    }
    atomic_fetch_add(&self->listen_disabled_us, clock_monotonic_us() - self->disabled_since_us);
    atomic_store(&self->accepting, true);
}

/* Nobody can be accepted: there are no descriptors left, or the limit of connections is reached.
 * The next attempt comes a moment later, so that waiting clients do not keep a processor busy. */
static void stop_listening(struct main_thread *self)
{
    if (atomic_load(&self->accepting)) {
        ignore_listeners(self);
        self->disabled_since_us = clock_monotonic_us();
        atomic_store(&self->accepting, false);
        atomic_fetch_add(&self->listen_disabled_num, 1);
    }
    resume_soon(self);
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
    struct main_thread *self = context;
    (void)fd;
    (void)what;

    self->starved = self->starved && is_starving();
    if (self->starved)
        self->starved_us = clock_monotonic_us();

    if (self->starved || (!self->server.settings.maxconns_fast && is_full(&self->server)))
        stop_listening(self);
    else
        listen_again(self);
}

/* Connections */

/* Counts before it answers: a client that has read the message finds itself counted. */
static void refuse_client(struct main_thread *self, const struct listener *listener, int fd)
{
    static const char message[] = "ERROR Too many open connections\r\n";
    atomic_fetch_add(&self->rejected_connections, 1);

    if (listener->transport == TRANSPORT_PLAIN) { /* a TLS client could not read it */
        ssize_t ignored = send(fd, message, sizeof message - 1, MSG_NOSIGNAL);
        (void)ignored;
    }
    close(fd);

    if (verbose(self, SERVER_LOG_EVENTS))
        server_log("too many open connections: one refused (-c is %d)",
                   self->server.settings.max_connections);
}

static struct worker *next_worker(struct main_thread *self)
{
    struct worker *worker = self->workers[self->next_worker];
    self->next_worker = (self->next_worker + 1) % self->server.settings.threads;
    return worker;
}

static void hand_over(struct main_thread *self, struct listener *listener, int fd,
                      const char *address)
{
    int one = 1;
    if (!listener->is_unix)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);

    atomic_fetch_add(&self->server.connections, 1);
    atomic_fetch_add(&self->total_connections, 1);
    if (!worker_add(next_worker(self), fd, listener, address)) {
        close(fd);
        server_connection_closed(&self->server);
    }
}

/* Said once, and again only after a minute in which it did not happen. */
static void report_starved(struct main_thread *self, int error)
{
    uint64_t before_us = self->starved_us;
    self->starved_us = clock_monotonic_us();
    if (before_us && self->starved_us - before_us <= EPISODE_US)
        return;

    bool no_descriptors = error == EMFILE || error == ENFILE;
    server_log("cannot accept connections: %s. %s", strerror(error),
               no_descriptors ? "Raise the limit of open files (ulimit -n) or lower -c"
                              : "The system needs more free memory");
}

/* The start has seen to it that there are enough descriptors (process_share_files). They run out if
 * the limit was lowered since, or if the system as a whole has none left. */
static void accept_failed(struct main_thread *self)
{
    int error = errno;
    if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
        return; /* nobody is left in the queue, or a client has gone already */

    self->starved = error == EMFILE || error == ENFILE;
    report_starved(self, error);
    stop_listening(self);
}

/* False: stop accepting for now. */
static bool accept_one(struct main_thread *self, struct listener *listener)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof peer;
    char address[64];

    if (!self->server.settings.maxconns_fast && is_full(&self->server)) {
        stop_listening(self);
        return false;
    }
    int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = accept4(listener->fd, (struct sockaddr *)&peer, &len, flags);
    if (fd < 0) {
        accept_failed(self);
        return false;
    }
    if (is_full(&self->server)) {
        refuse_client(self, listener, fd);
        return true;
    }
    address_format((struct sockaddr *)&peer, len, address, sizeof address);
    hand_over(self, listener, fd, address);
    return true;
}

static void on_connection(evutil_socket_t fd, short what, void *context)
{
    struct listener *listener = context;
    (void)fd;
    (void)what;
    for (int i = 0; i < ACCEPTS; i++)
        if (!accept_one(listener->main_thread, listener))
            return;
}

static bool watch_listeners(struct main_thread *self)
{
    self->resume = evtimer_new(self->base, on_resume, self);
    for (int i = 0; i < self->server.listener_count; i++) {
        struct listener *listener = &self->listeners[i];
        if (listener->transport == TRANSPORT_UDP)
            continue; /* the workers read from it */

        short events = EV_READ | EV_PERSIST;
        listener->main_thread = self;
        listener->event = event_new(self->base, listener->fd, events, on_connection, listener);
        if (!listener->event || event_add(listener->event, NULL) < 0)
            return false;
        if (verbose(self, SERVER_LOG_COMMANDS))
            server_log("<%d server listening on %s", listener->fd, listener->address);
    }
    atomic_store(&self->accepting, true);
    return self->resume != NULL;
}

/* Signals */

/* The handlers of src/signals.c take over from those of the loop. */
static void release_signals(struct main_thread *self)
{
    signals_stopping();
    for (int i = 0; i < SERVER_SIGNALS; i++)
        event_del(self->signals[i]);
}

/* libevent passes the number of the signal as fd. */
static void on_stop(evutil_socket_t fd, short what, void *context)
{
    struct main_thread *self = context;
    (void)what;
    if (verbose(self, SERVER_LOG_EVENTS))
        server_log("stopping: %s", strsignal(fd));
    event_base_loopbreak(self->base);
}

/* The command "shutdown". There is one way to stop, the operator's. */
static void stop(void)
{
    kill(getpid(), SIGTERM);
}

static void reload_certificates(struct server *server)
{
    char error[TLS_ERROR_MAX];
    if (tls_reload(server->tls, error))
        server_log("certificates reloaded");
    else
        server_log("%s; the certificates loaded before stay in use", error);
}

static void reload_passwords(struct main_thread *self)
{
    char why[AUTH_FILE_WHY_MAX];
    const char *path = self->server.settings.auth_file;
    if (!self->server.auth_file)
        return;

    if (!auth_file_reload(self->server.auth_file, why))
        server_log("password file %s: %s. What was read before stays in force", path, why);
    else if (verbose(self, SERVER_LOG_EVENTS))
        server_log("password file %s: read again", path);
}

/* SIGHUP: reads again what may change while the server runs. */
static void on_hangup(evutil_socket_t fd, short what, void *context)
{
    struct main_thread *self = context;
    (void)fd;
    (void)what;
    reload_passwords(self);
    if (self->server.tls)
        reload_certificates(&self->server);
}

/* A SIGHUP that came during the start is obeyed now: the files may have been read before. */
static bool watch_signals(struct main_thread *self)
{
    struct event **hangup = &self->signals[SIGNALS_STOPS_COUNT];
    for (int i = 0; i < SIGNALS_STOPS_COUNT; i++)
        self->signals[i] = evsignal_new(self->base, signals_stops[i], on_stop, self);
    *hangup = evsignal_new(self->base, SIGHUP, on_hangup, self);

    for (int i = 0; i < SERVER_SIGNALS; i++)
        if (!self->signals[i] || event_add(self->signals[i], NULL) < 0)
            return false;
    if (signals_take_hangup())
        event_active(*hangup, EV_SIGNAL, 1);
    return true;
}

/* Time */

/* Tells the store's background work the time. */
static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct main_thread *self = context;
    (void)fd;
    (void)what;
    store_tick(self->server.store, clock_now_s(&self->server.clock));
    server_log_catch_up();
}

static bool start_ticking(struct main_thread *self)
{
    const struct timeval second = {.tv_sec = 1};
    self->tick = event_new(self->base, -1, EV_PERSIST, on_tick, self);
    return self->tick && event_add(self->tick, &second) == 0;
}

/* From the start to the end */

static bool start_workers(struct main_thread *self)
{
    int count = self->server.settings.threads;
    self->workers = calloc((size_t)count, sizeof *self->workers);
    for (int i = 0; self->workers && i < count; i++) {
        self->workers[i] = worker_new(&self->server, (uint32_t)i);
        if (!self->workers[i] || !worker_start(self->workers[i]))
            return refuse("cannot start worker %d: %s; start fewer with -t", i, strerror(errno));
    }
    return self->workers != NULL;
}

static void stop_workers(struct main_thread *self)
{
    for (int i = 0; i < self->server.settings.threads; i++)
        worker_stop(self->workers[i]);
    for (int i = 0; i < self->server.settings.threads; i++)
        worker_free(self->workers[i]);
    free(self->workers);
}

static void free_events(struct main_thread *self)
{
    for (int i = 0; i < SERVER_SIGNALS; i++)
        event_free(self->signals[i]);
    for (int i = 0; i < self->server.listener_count; i++)
        if (self->listeners[i].event)
            event_free(self->listeners[i].event);
    event_free(self->resume);
    event_free(self->tick);
    event_base_free(self->base);
}

static void log_of_libevent(int severity, const char *message)
{
    (void)severity;
    server_log("libevent: %s", message);
}

/* Clients are heard last. */
static bool start(struct main_thread *self)
{
    event_set_log_callback(log_of_libevent);
    self->server.stop = stop;
    server_stats_init(self);

    self->base = event_base_new();
    self->server.dump = dump_new(self->server.store, &self->server.clock);
    return (self->base && self->server.dump && watch_signals(self) && start_workers(self) &&
            watch_listeners(self) && start_ticking(self)) ||
           refuse("cannot start: %s", strerror(errno));
}

bool server_run(struct main_thread *self, void (*ready)(struct server *server))
{
    struct server *server = &self->server;
    if (!start(self) || (server->settings.drop_privileges && !privileges_drop(&server->settings)))
        return false;

    ready(server);
    event_base_dispatch(self->base);

    release_signals(self);
    dump_stop(server->dump);
    watch_stop(server->watch);
    stop_workers(self);
    dump_free(server->dump);
    free_events(self);
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
