/* worker.h: a thread with an event base, a session of the store, and its connections. See worker.c and worker_round.c. */
#ifndef CACHECASK_SRC_NET_WORKER_H
#define CACHECASK_SRC_NET_WORKER_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/net/conn.h"
#include "src/command/fetches.h"
#include "src/net/output.h"
#include "src/command/server_state.h"
#include "src/net/listener.h"
#include "src/net/buffer_pool.h"
#include "src/observe/stats.h"
#include "storage/store.h"

#define WORKER_BATCH 64 /* requests whose keys are fetched ahead together */
#define WORKER_ROUND 256
#define WORKER_INPUT (1 << 20) /* bytes of the arena for what is read in a round */

/* A connection on its way from the main thread. */
struct arrival {
    int fd;
    const struct listener *listener;
    char address[64];
    struct arrival *next;
};

/* A parsed request, and how to come back to before it was parsed. */
struct slot {
    struct conn *conn;
    struct request request;
    struct store_key key; /* len 0: the request has none */
    struct parser parser_before;
    size_t pos_before;
    bool close; /* the stream cannot go on behind it */
};

struct worker {
    struct server *server;
    uint32_t id;
    pthread_t thread;
    struct event_base *base;
    struct store_session *session;
    uint32_t now_s;
    bool rests;              /* an answer of this round rests on what may not be written yet */
    int verbosity;           /* of the server, as this round found it */
    int requests_per_event;  /* INT_MAX: no limit */
    struct event *idle_tick; /* NULL: connections may be idle as long as they like */

    char *input; /* the arena for what is read in a round */
    struct buffer_pool buffers;
    struct event *buffers_tick; /* while there are spare buffers */
    struct event *wait_tick;    /* while requests wait for room, or for the disk */
    struct output output;
    struct socket_ring *socket_ring; /* NULL: there is no io_uring */
    struct slot slots[WORKER_BATCH];
    uint32_t slot_count;
    struct conn *round[WORKER_ROUND];
    uint32_t round_count;
    struct conn *ready, *ready_tail;
    struct conn *syncing;
    struct conn *parked;     /* their next request waits for room on disk or in the index */
    struct conn *watching;   /* those that have become watchers */
    struct conn *dumping;    /* its client waits for a dump; one at most in the server */
    struct fetched *scratch; /* for values that the page cache has */
    uint32_t fetching;       /* fetches with the readers */
    struct fetched_account fetched;
    size_t input_bytes, input_limit; /* buffers of requests that are not whole yet */

    struct counters counters;
    int wake_fd; /* eventfd */
    struct event *wake_event;
    pthread_mutex_t lock; /* arrivals and the list of connections */
    struct arrival *arrivals;
    struct conn *conns;
    uint32_t conn_count;
    _Atomic bool stopping;
};

/* Makes a worker; its thread runs after worker_start. NULL: no memory or no descriptors. */
struct worker *worker_new(struct server *server, uint32_t id);
bool worker_start(struct worker *worker);

/* Hands over a connection. Any thread. False: no memory; the socket is still the caller's. */
bool worker_add(struct worker *worker, int fd, const struct listener *listener,
                const char *address);

/* Makes the thread look at what else has happened. Any thread. */
void worker_wake(struct worker *worker);

/* Asks the thread to end; worker_free waits for it, and closes what is open. */
void worker_stop(struct worker *worker);
void worker_free(struct worker *worker);

/* The connection's request was told STORE_WAIT_SPACE: it is run again after a wake, or a second later; its command answers RUN_WAIT.
 * False: it has waited for WORKER_WAIT_MAX_S already, and is to be refused. */
#define WORKER_WAIT_MAX_S 10
bool worker_park(struct worker *worker, struct conn *conn);

/* The connection waits for a value from disk, or for a sync. A disk that has not answered after WORKER_DISK_MAX_S is not waited for:
 * the client finds its connection closed. */
#define WORKER_DISK_MAX_S 60
void worker_await_disk(struct worker *worker, struct conn *conn);

/* Looks a second later at those who wait: see on_wait_tick. */
void worker_await_tick(struct worker *worker);

/* Whether to tell the operator what was told at *reported_s for the last time: once a minute at most, whichever worker it meets. */
bool worker_may_report(struct worker *worker, _Atomic uint32_t *reported_s);

/* The connection is that of a watcher from now on. Its command answers RUN_WATCH. */
void worker_add_watcher(struct worker *worker, struct conn *conn, uint32_t watcher);

/* Whether the connection's client waits for a listing of all keys. */
static inline bool worker_is_dumping(const struct conn *conn)
{
    return conn->worker->dumping == conn;
}

/* Takes a buffer over, for the next large request. */
void worker_keep_buffer(struct worker *worker, struct pool_buffer buffer);

/* Between worker.c and worker_round.c. */

/* Serves all connections that are ready, or as many as a round takes. */
void worker_run_round(struct worker *worker);

/* The next connection that has something; NULL: none. */
struct conn *worker_take_ready(struct worker *worker);

/* Goes on with a connection if nothing holds it any more; it may be closed and freed. */
void worker_resume(struct conn *conn);

void worker_close(struct worker *worker, struct conn *conn);

void worker_on_readable(evutil_socket_t fd, short what, void *context);
void worker_on_writable(evutil_socket_t fd, short what, void *context);

#endif
