/* server.h: the whole: listening sockets, the workers, the store. */
#ifndef CACHECASK_SRC_SERVER_H
#define CACHECASK_SRC_SERVER_H

#include <event2/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/base/clock.h"
#include "src/config/settings.h"
#include "src/signals.h"
#include "src/observe/stats.h"
#include "src/net/tls.h"
#include "storage/store.h"

#define SERVER_LISTENERS_MAX 128
#define SERVER_SIGNALS       (SIGNALS_STOPS_COUNT + 1) /* and SIGHUP, the last */

struct auth_file;
struct dump;
struct prefixes;
struct watch;
struct worker;

enum transport {
    TRANSPORT_PLAIN, /* TCP, or a Unix socket */
    TRANSPORT_TLS,
    TRANSPORT_UDP,
};

struct listener {
    int fd;
    bool is_unix;
    enum transport transport;
    enum tls_clients clients; /* with TRANSPORT_TLS */
    struct event *event;
    struct server *server;
    char address[128]; /* "tcp:127.0.0.1:11211", "udp:…", "unix:/path": for logs and stats */
};

struct server {
    struct settings settings;
    struct clock clock;
    struct store *store;
    struct event_base *base; /* of the main thread: accepts, signals */
    struct listener listeners[SERVER_LISTENERS_MAX];
    int listener_count;
    uint32_t segment_files; /* descriptors for the files of the log */
    struct worker **workers;
    struct dump *dump;
    struct auth_file *auth_file; /* NULL: no password is asked for */
    struct tls *tls;             /* NULL: no TLS */
    struct watch *watch;
    struct prefixes *prefixes;
    _Atomic uint32_t observed;  /* of enum watch_event: what somebody wants to be told */
    _Atomic bool sizes_enabled; /* stats sizes answers */
    int next_worker;            /* gets the next connection */
    struct event *resume;       /* listens again after the descriptors ran out */
    struct event *tick;         /* once a second */
    struct event *signals[SERVER_SIGNALS];
    uint64_t disabled_since_us;
    uint64_t starved_us; /* when no descriptor was to be had for the last time; 0: never */
    bool starved;        /* nobody is accepted before there is one again */
    bool stopping;

    /* When the operator was told of who has waited too long, and of what takes too much memory. */
    _Atomic uint32_t waits_reported_s, memory_reported_s;
    _Atomic int verbosity;
    _Atomic int connections;
    _Atomic uint64_t total_connections, rejected_connections;
    _Atomic uint64_t listen_disabled_num, listen_disabled_us;
    _Atomic bool accepting;
    struct counters reset_counters; /* what `stats reset` takes off the sums */
};

/* Opens the sockets that the settings name. False: said why. */
bool server_listen(struct server *server);

/* Starts the workers and serves until a signal or a client ends it. False: could not start, said why. */
bool server_run(struct server *server, void (*ready)(struct server *server));

/* Ends server_run; any thread. */
void server_stop(void);

/* Closes the sockets and the password file. */
void server_release(struct server *server);

/* A connection is over: another may come. Any thread. */
void server_connection_closed(struct server *server);

#endif
