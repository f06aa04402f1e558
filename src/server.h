/* server.h: the main thread. It starts the others, accepts connections and hears signals. */
#ifndef CACHECASK_SRC_SERVER_H
#define CACHECASK_SRC_SERVER_H

#include <event2/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/net/server_state.h"
#include "src/net/listener.h"
#include "src/signals.h"

#define SERVER_LISTENERS_MAX 128
#define SERVER_SIGNALS       (SIGNALS_STOPS_COUNT + 1) /* the last is SIGHUP */

struct worker;

struct main_thread {
    struct server server; /* what all threads share */
    struct listener listeners[SERVER_LISTENERS_MAX];
    struct worker **workers;
    int next_worker; /* gets the next connection */

    struct event_base *base;
    struct event *signals[SERVER_SIGNALS];
    struct event *tick;   /* once a second */
    struct event *resume; /* accepts again, after a time without */
    bool starved;         /* nobody is accepted before there is a descriptor again */
    uint64_t starved_us;  /* when there was none last; 0: never */
    uint64_t disabled_since_us;

    /* Read by any thread, for `stats`. */
    _Atomic bool accepting;
    _Atomic uint64_t total_connections, rejected_connections;
    _Atomic uint64_t listen_disabled_num, listen_disabled_us;
    struct counters reset_counters; /* what `stats reset` takes off the sums */
};

/* Opens the sockets that the settings name. False: it has said why. */
bool server_listen(struct server *server);

/* Starts the workers, and serves until it is stopped. False: it cannot start, and has said why. */
bool server_run(struct main_thread *self, void (*ready)(struct server *server));

/* Closes the sockets and the password file. */
void server_release(struct server *server);

/* Fills self->server.stats, once store and watch are open (server_stats.c). */
void server_stats_init(struct main_thread *self);

#endif
