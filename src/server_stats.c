/* server_stats.c: what only the server knows of itself, for the rows of `stats`. */
#include <event2/event.h>
#include <string.h>

#include "src/net/worker.h"
#include "src/observe/watch.h"
#include "src/server.h"
#include "storage/store.h"

static void sum_counters(const struct main_thread *self, struct counters *sum)
{
    memset(sum, 0, sizeof *sum);
    for (int i = 0; i < self->server.settings.threads; i++)
        counters_add(sum, &self->workers[i]->context.counters);
    counters_subtract(sum, &self->reset_counters);
}

static void get(void *context, struct stats_now *now)
{
    struct main_thread *self = context;
    struct server *server = &self->server;

    *now = (struct stats_now){
        .source = &server->stats,
        .settings = server->settings,
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
        .tls_new_sessions = server->tls ? tls_new_sessions(server->tls) : 0,
        .tls_age_s = server->tls ? tls_age_s(server->tls) : 0,
    };
    store_stats(server->store, &now->store);
    sum_counters(self, &now->counters);

    now->settings.memory_mib = now->store.memory_limit >> 20;
    now->settings.verbosity = atomic_load(&server->verbosity);
    now->settings.stats_detail = atomic_load(&server->observed) & WATCH_DETAIL;
    now->settings.track_sizes = now->sizes_enabled;
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
        .get = get,
        .each_connection = each_connection,
        .reset = reset,
        .watch = self->server.watch,
        .prefixes = self->server.prefixes,
    };
}
