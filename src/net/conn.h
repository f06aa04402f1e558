/* conn.h: one client: its socket, its bytes on the way in and on the way out. See conn.c. */
#ifndef CACHECASK_SRC_NET_CONN_H
#define CACHECASK_SRC_NET_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/output.h"
#include "src/command/client.h"
#include "src/net/listener.h"
#include "src/net/server_state.h"
#include "src/net/socket_ring.h"

#define CONN_READ_SIZE (16 << 10) /* read at a time from one connection */
#define CONN_READ_MUCH (64 << 10) /* where its requests are long, or each read would cut one */
#define CONN_ARENA_MIN (CONN_READ_SIZE + CONN_READ_MUCH) /* what was cut, and a read */
#define CONN_TURN      (64 << 10) /* bytes of requests that are run in one round, and of replies */

struct udp;
struct worker;

/* A connection's part in a round. */
enum conn_turn {
    TURN_GOES_ON,
    TURN_PAUSED, /* no more is parsed until its last request has been run */
    TURN_OVER,   /* nothing more of it is run in this round */
};

struct conn {
    struct client client; /* first: see conn_of_client */
    struct worker *worker;
    const struct listener *listener;
    enum transport transport;
    struct tls_stream *tls;        /* TRANSPORT_TLS */
    struct event *handshake_limit; /* until the handshake is done */
    struct udp *udp;               /* TRANSPORT_UDP */
    struct event read_event, write_event;
    struct conn *previous, *next; /* all of the worker */
    struct conn *next_ready;
    _Atomic uint32_t last_command_s;
    _Atomic uint8_t state; /* enum conn_state */
    bool is_ready;         /* in the worker's ready list */
    bool readable;         /* the socket has something */
    bool listening;        /* the read event is on */
    bool closing;          /* close when all is sent */

    /* Bytes that wait for the rest of their request, or for their turn, between rounds: in[in_at …
     * in_at + in_len). */
    char *in;
    size_t in_at, in_len, in_capacity;
    size_t need; /* how long they must become, as far as known */

    /* The round: what there is to parse, and its replies. */
    const char *data;
    size_t len, pos;
    uint32_t first_piece, piece_count;
    char *arena;       /* where it has received with others; NULL: it has not */
    ssize_t got, sent; /* with others; or SOCKET_RING_NOT_TRIED */
    int turns;         /* requests that were run, of -R */
    enum conn_turn turn;
    const char *close_reason; /* for those who watch; NULL: the client was done */

    /* WAIT_OUTPUT: what the socket did not take. */
    struct piece *pending;
    uint32_t pending_count, pending_at;
    char *pending_copy;
    uint32_t sent_s; /* when it was kept, or the socket has last taken some of it */

    /* In the worker's list of those that wait for the same: see waits.c. */
    struct conn *next_syncing, *next_parked, *next_watching;
    uint32_t disk_since_s; /* it has waited for the disk since then; 0: it does not */
};

static inline struct conn *conn_of_client(struct client *client)
{
    return (struct conn *)client;
}

/* Whether it has whole requests that wait for their turn. */
static inline bool conn_has_requests(const struct conn *conn)
{
    return conn->turn == TURN_OVER && conn->in_len;
}

/* What a connection does, for `stats conns`: see conn_state.c. */
enum conn_state {
    CONN_STATE_NEW,  /* it has not sent anything yet */
    CONN_STATE_READ, /* it has no request, or the beginning of one */
    CONN_STATE_PARSE,
    CONN_STATE_BODY, /* the data of its request is still to come */
    CONN_STATE_SWALLOW,
    CONN_STATE_DISK,  /* it waits for values, for a sync, for room */
    CONN_STATE_WRITE, /* its client does not read its replies */
    CONN_STATE_WATCH,
};

/* For the worker that owns it: notes the state it is in, or this one. */
void conn_note_state(struct conn *conn);
void conn_set_state(struct conn *conn, enum conn_state state);

/* Logs what it does, for -vvv. */
void conn_log_state(const struct conn *conn);

/* memcached's name of its state. Any thread, with the worker's lock. */
const char *conn_state_name(const struct conn *conn);

/* Takes over the socket. NULL: no memory; the socket is closed. */
struct conn *conn_new(struct worker *worker, int fd, const struct listener *listener,
                      const char *address);

/* Begins to listen to the socket. False: the system refuses; conn_free is all that may follow. */
bool conn_start(struct conn *conn, event_callback_fn on_event);

/* Closes and frees; no value may be on its way to it (WAIT_READ). */
void conn_free(struct conn *conn);

/* The next bytes are the beginning of a stream. */
void conn_start_parser(struct conn *conn);

enum conn_received {
    CONN_RECEIVED, /* conn->data and len are what there is to parse */
    CONN_NOTHING,
    CONN_NO_MEMORY, /* for the rest of its request: the client is told, and it is closed */
    CONN_GONE,      /* closed by the client, or broken */
};

/* Adds a receive into `arena` (at least CONN_ARENA_MIN bytes) to the ring; conn_receive completes
 * it. Returns how much of the arena is reserved; 0: it is none for the ring (TLS, UDP, a large
 * request). */
size_t conn_receive_with(struct conn *conn, char *arena, struct socket_ring *ring);

/* Reads once, into `arena` (at least CONN_ARENA_MIN bytes) or, when a large request is under way,
 * into the connection's own buffer. *used says how much of the arena is taken. */
enum conn_received conn_receive(struct conn *conn, char *arena, size_t *used);

/* What was kept is what there is to parse. */
void conn_reuse(struct conn *conn);

/* Keeps what was not parsed for the next round. False: no memory. */
bool conn_keep_rest(struct conn *conn);

enum conn_sent {
    CONN_SENT,
    CONN_WAITING, /* the socket is full: the rest is pending, and the write event is on */
    CONN_BROKEN,
};

/* Adds the pieces of this round, or the first of them, to the ring; conn_send completes it. */
void conn_send_with(struct conn *conn, const struct output *output, struct socket_ring *ring);

/* Sends the pieces of this round. */
enum conn_sent conn_send(struct conn *conn, struct output *output);

/* Keeps the pieces of this round for later: conn_send_pending. False: no memory. */
bool conn_defer(struct conn *conn, struct piece *pieces, uint32_t count);
enum conn_sent conn_send_pending(struct conn *conn);
void conn_drop_pending(struct conn *conn);

/* Whether what is pending waits until something has been received (TLS). */
bool conn_sends_after_reading(const struct conn *conn);

/* Turns the read event on or off. False: the system refuses to turn it on. */
bool conn_listen(struct conn *conn, bool on);

#endif
