/* server_stats.c: what only the server knows of itself, for the rows of `stats`. */
#include <event2/event.h>
#include <string.h>

#include "src/net/worker.h"
#include "src/observe/watch.h"
#include "src/server.h"
#include "storage/store.h"

static void get_process(void *context, struct stats_process *process)
{
    struct main_thread *self = context;
    struct server *server = &self->server;

    *process = (struct stats_process){
        .now_s = clock_now_s(&server->clock),
        .uptime_s = clock_uptime_s(&server->clock),
        .event_version = event_get_version(),
        .connections = (uint64_t)atomic_load(&server->connections),
        .total_connections = atomic_load(&self->total_connections),
        .rejected_connections = atomic_load(&self->rejected_connections),
        .listen_disabled_num = atomic_load(&self->listen_disabled_num),
        .listen_disabled_us = atomic_load(&self->listen_disabled_us),
        .accepting = atomic_load(&self->accepting),
        .sizes_enabled = atomic_load(&server->sizes_enabled),
        .has_tls = server->tls != NULL,
    };
    if (!server->tls)
        return;
    process->tls_new_sessions = tls_new_sessions(server->tls);
    process->tls_age_s = tls_age_s(server->tls);
}

static void get_settings(void *context, struct settings *now)
{
    struct main_thread *self = context;
    struct server *server = &self->server;
    struct store_stats store;
    store_stats(server->store, &store);

    *now = server->settings;
    now->memory_mib = store.memory_limit >> 20;
    now->verbosity = atomic_load(&server->verbosity);
    now->stats_detail = atomic_load(&server->observed) & WATCH_DETAIL;
    now->track_sizes = atomic_load(&server->sizes_enabled);
}

static void sum_counters(void *context, struct counters *sum)
{
    struct main_thread *self = context;
    memset(sum, 0, sizeof *sum);
    for (int i = 0; i < self->server.settings.threads; i++)
        counters_add(sum, &self->workers[i]->context.counters);
    counters_subtract(sum, &self->reset_counters);
}

/* Several threads may do this at the same time. */
static void reset(void *context)
{
    struct main_thread *self = context;
    struct counters sum;
    sum_counters(self, &sum);
#define COUNTER(name) atomic_fetch_add(&self->reset_counters.name, sum.name);
#include "src/observe/counters.def"
#undef COUNTER
    atomic_store(&self->total_connections, 0);
    atomic_store(&self->rejected_connections, 0);
}

/* Datagrams are received by the workers: their ends of such a socket are shown in its place. */
static void each_listener(const struct server *server, const struct stats_connections *to)
{
    for (int i = 0; i < server->listener_count; i++) {
        const struct listener *listener = &server->listeners[i];
        const struct stats_connection row = {
            .fd = listener->fd,
            .address = listener->address,
            .state = "conn_listening",
        };
        if (listener->transport != TRANSPORT_UDP)
            to->take(to->context, &row);
    }
}

static void take_conn(const struct conn *conn, uint32_t now_s, const struct stats_connections *to)
{
    uint32_t last_s = atomic_load_explicit(&conn->last_command_s, memory_order_relaxed);
    bool is_udp = conn->transport == TRANSPORT_UDP;
    const struct stats_connection row = {
        .fd = conn->client.fd,
        .is_udp = is_udp,
        .address = conn->client.address,
        .listen_address = is_udp ? NULL : conn->listener->address,
        .state = conn_state_name(conn),
        .idle_s = now_s > last_s ? now_s - last_s : 0,
    };
    to->take(to->context, &row);
}

static void each_connection(void *context, const struct stats_connections *to)
{
    struct main_thread *self = context;
    uint32_t now_s = clock_now_s(&self->server.clock);

    each_listener(&self->server, to);
    for (int i = 0; i < self->server.settings.threads; i++) {
        struct worker *worker = self->workers[i];
        pthread_mutex_lock(&worker->lock);
        for (const struct conn *conn = worker->conns; conn; conn = conn->next)
            take_conn(conn, now_s, to);
        pthread_mutex_unlock(&worker->lock);
    }
}

void server_stats_init(struct main_thread *self)
{
    self->server.stats = (struct stats_source){
        .context = self,
        .get_process = get_process,
        .get_settings = get_settings,
        .sum_counters = sum_counters,
        .each_connection = each_connection,
        .reset = reset,
        .store = self->server.store,
        .watch = self->server.watch,
        .prefixes = self->server.prefixes,
    };
}
