/* server_state.h: what the threads of the server share. Its parts are pointers, as they belong to
 * modules that not everybody here may know. What the main thread alone needs is in src/server.h. */
#ifndef CACHECASK_SRC_NET_SERVER_STATE_H
#define CACHECASK_SRC_NET_SERVER_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/base/clock.h"
#include "src/config/settings.h"
#include "src/observe/stats.h"
#include "src/observe/watch.h"

struct auth_file;
struct dump;
struct listener;
struct prefixes;
struct store;
struct tls;
struct watch;

struct server {
    struct settings settings;
    struct clock clock;
    struct store *store;
    struct dump *dump;
    struct auth_file *auth_file; /* NULL: no password is asked for */
    struct tls *tls;             /* NULL: no TLS */
    struct watch *watch;
    struct prefixes *prefixes;
    struct watch_evictions evictions; /* for the store */
    struct stats_source stats;
    struct listener *listeners; /* see src/net/listener.h */
    int listener_count;

    _Atomic uint32_t observed;  /* of enum watch_event: what is watched */
    _Atomic bool sizes_enabled; /* stats sizes answers */
    _Atomic int verbosity;
    _Atomic int connections;

    /* When it was last logged that clients wait too long, or take too much memory. */
    _Atomic uint32_t waits_reported_s, memory_reported_s;

    void (*stop)(void); /* ends the server; any thread may call it */
};

/* A connection is over: another may come. Any thread. */
static inline void server_connection_closed(struct server *server)
{
    atomic_fetch_sub(&server->connections, 1);
}

#endif
