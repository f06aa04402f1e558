/* worker.h: a thread with an event base, a session of the store, and its connections. See worker.c,
 * worker_conns.c, worker_round.c and waits.c. */
#ifndef CACHECASK_SRC_NET_WORKER_H
#define CACHECASK_SRC_NET_WORKER_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/command/command.h"
#include "src/net/buffer_pool.h"
#include "src/net/conn.h"
#include "src/net/listener.h"
#include "src/net/server_state.h"

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

struct worker {
    struct server *server;
    uint32_t id;
    pthread_t thread;
    struct event_base *base;
    int requests_per_event;  /* INT_MAX: no limit */
    bool rests;              /* an answer of this round rests on what may not be written yet */
    struct event *idle_tick; /* NULL: connections may be idle as long as they like */

    char *input; /* the arena for what is read in a round */
    struct buffer_pool buffers;
    struct event *buffers_tick;      /* while there are spare buffers */
    struct event *wait_tick;         /* while requests wait for space or memory, or for the disk */
    struct socket_ring *socket_ring; /* NULL: there is no io_uring */
    struct command batch[WORKER_BATCH];
    uint32_t batch_count;
    struct conn *round[WORKER_ROUND];
    uint32_t round_count;
    struct conn *ready, *ready_tail;

    /* Those that wait for the same: see waits.c. */
    struct conn *syncing, *parked, *watching;
    struct conn *dumping; /* one at most in the server */

    size_t input_bytes, input_limit; /* buffers of requests that are not whole yet */

    int wake_fd; /* eventfd */
    struct event *wake_event;
    pthread_mutex_t lock; /* arrivals and the list of connections */
    struct arrival *arrivals;
    struct conn *conns;
    uint32_t conn_count;
    _Atomic bool stopping;

    struct command_context context;
};

/* Makes a worker; its thread runs after worker_start. NULL: no memory or no descriptors. */
struct worker *worker_new(struct server *server, uint32_t id);
bool worker_start(struct worker *worker);

/* Hands over a connection. Any thread. False: no memory; the socket is still the caller's. */
bool worker_add(struct worker *worker, int fd, const struct listener *listener,
                const char *address);

/* Asks the thread to end; worker_free waits for it, and closes its connections. */
void worker_stop(struct worker *worker);
void worker_free(struct worker *worker);

/* The rest is for worker.c, worker_conns.c, worker_round.c and waits.c. */

/* Serves all connections that are ready, or as many as a round takes. */
void worker_run_round(struct worker *worker);

/* The connection has something for the next round. */
void worker_make_ready(struct conn *conn);

/* The next connection that has something; NULL: none. */
struct conn *worker_take_ready(struct worker *worker);

/* Sends what the socket did not take before. The connection may be closed and freed. */
void worker_send_pending(struct conn *conn);

/* worker_open takes over the socket. NULL: no memory; it is closed. */
struct conn *worker_open(struct worker *worker, int fd, const struct listener *listener,
                         const char *address);
void worker_close(struct worker *worker, struct conn *conn);

#endif
