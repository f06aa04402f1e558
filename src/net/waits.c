/* waits.c: what a worker's connections wait for, and how they go on.
 *
 * While a client waits (client.h says for what) its socket is not read, so a client that does not
 * read its answers stops itself. Only waits_go_on asks whether the set of reasons is empty. Those
 * that wait for the same are in a list of the worker:
 *
 *     WAIT_READ              none: the value that comes back knows its client (fetches_came)
 *     WAIT_MEMORY            a line, first come, first served: src/command/fetches.c
 *     WAIT_SPACE             parked: each wake, and each tick, they try again
 *     WAIT_SYNC              syncing: each wake they look how far the log is durable
 *     WAIT_OUTPUT            none: the socket's event
 *     WAIT_DUMP, WAIT_WATCH  dumping, watching: each wake they are fed
 */
#define _GNU_SOURCE
#include "src/net/waits.h"

#include "src/net/overdue.h"
#include "src/net/udp.h"
#include "src/observe/dump.h"
#include "src/observe/watch.h"

static const struct timeval second = {.tv_sec = 1};

static void tick_soon(struct worker *worker)
{
    if (!event_pending(worker->wait_tick, EV_TIMEOUT, NULL))
        event_add(worker->wait_tick, &second);
}

static void await_disk(struct worker *worker, struct conn *conn)
{
    if (!conn->disk_since_s)
        conn->disk_since_s = worker->context.now_s;
    tick_soon(worker);
}

/* After one of its waits has ended. */
static void note_answer_of_disk(struct conn *conn)
{
    if (!client_waits_for(&conn->client, WAIT_DISK))
        conn->disk_since_s = 0;
}

/* Whether all before is sent, so that more can be. */
static bool can_send(const struct conn *conn)
{
    return !client_waits_for(&conn->client, WAIT_OUTPUT | WAIT_SYNC) && !conn->closing;
}

/* Watchers. */

static void remove_watcher(struct worker *worker, struct conn *conn)
{
    struct conn **at = &worker->watching;
    while (*at != conn)
        at = &(*at)->next_watching;
    *at = conn->next_watching;
    watch_remove(worker->context.watch.watch, conn->client.watcher);
}

/* Sends a watcher's lines, as far as its socket takes them; for more there will be a wake. */
static void feed_watcher(struct conn *conn)
{
    struct watch *watch = conn->worker->context.watch.watch;
    struct piece piece;
    while (can_send(conn) && watch_take(watch, conn->client.watcher, &piece))
        if (!conn_defer(conn, &piece, 1) || conn_send_pending(conn) == CONN_BROKEN) {
            conn->close_reason = "error";
            conn->closing = true;
        }
    if (conn->closing && !client_waits_for(&conn->client, WAIT_SYNC))
        worker_close(conn->worker, conn);
}

static void feed_watchers(struct worker *worker)
{
    struct conn *next;
    for (struct conn *conn = worker->watching; conn; conn = next) {
        next = conn->next_watching;
        feed_watcher(conn);
    }
}

/* All a watcher can say is that it has gone. */
static void on_watcher_readable(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    size_t used;
    (void)fd, (void)what;
    if (conn_receive(conn, conn->worker->input, &used) != CONN_GONE)
        return;
    conn->closing = true;
    conn_listen(conn, false);
    feed_watcher(conn);
}

static void begin_to_watch(struct worker *worker, struct conn *conn)
{
    conn->next_watching = worker->watching;
    worker->watching = conn;
    conn_listen(conn, false);
    event_assign(&conn->read_event, worker->base, conn->client.fd, EV_READ | EV_PERSIST,
                 on_watcher_readable, conn);
    conn_listen(conn, true);
}

/* Beginning. */

void waits_begin(struct client *client, enum wait_reason reason)
{
    struct conn *conn = conn_of_client(client);
    struct worker *worker = conn->worker;
    switch (reason) {
    case WAIT_READ: await_disk(worker, conn); break;
    case WAIT_MEMORY: tick_soon(worker); break;
    case WAIT_SPACE:
        conn->next_parked = worker->parked;
        worker->parked = conn;
        tick_soon(worker);
        break;
    case WAIT_SYNC:
        conn->next_syncing = worker->syncing;
        worker->syncing = conn;
        await_disk(worker, conn);
        break;
    case WAIT_OUTPUT: break;
    case WAIT_DUMP: worker->dumping = conn; break;
    case WAIT_WATCH: begin_to_watch(worker, conn); break;
    }
}

void waits_resume(struct client *client)
{
    struct conn *conn = conn_of_client(client);
    note_answer_of_disk(conn);
    waits_go_on(conn);
}

/* Dumps. */

static void end_dump(struct conn *conn)
{
    conn->worker->dumping = NULL;
    client_end_wait(&conn->client, WAIT_DUMP);
}

static void abandon_dump(struct conn *conn)
{
    end_dump(conn);
    dump_abandon(conn->worker->context.dump);
}

/* Sends one chunk of the dump. False: there is none now. */
static bool send_chunk(struct conn *conn)
{
    struct piece piece;
    enum dump_taken taken = dump_take(conn->worker->context.dump, &piece);
    if (taken == DUMP_NOTHING)
        return false;
    if (taken != DUMP_CHUNK)
        end_dump(conn);

    if (taken == DUMP_BROKEN || !conn_defer(conn, &piece, 1) ||
        conn_send_pending(conn) == CONN_BROKEN) {
        conn_drop_pending(conn);
        conn->closing = true;
    }
    return true;
}

/* Sends what the dump has ready, once all before it is sent; for more there will be a wake. */
static void feed_dump(struct conn *conn)
{
    for (int i = 0; i < DUMP_CHUNKS; i++)
        if (!client_waits_for(&conn->client, WAIT_DUMP) || !can_send(conn) || !send_chunk(conn))
            break;
    if (client_waits_for(&conn->client, WAIT_DUMP) && conn->closing)
        abandon_dump(conn);
}

/* Going on. */

void waits_go_on(struct conn *conn)
{
    conn_note_state(conn);
    if (client_is_held(&conn->client)) {
        if (client_waits_for(&conn->client, WAIT_WATCH)) {
            feed_watcher(conn);
            return;
        }
        feed_dump(conn);
    }
    if (client_is_held(&conn->client)) {
        conn_listen(conn, conn->pending && conn_sends_after_reading(conn));
        return;
    }

    if (conn->closing && conn->transport == TRANSPORT_UDP)
        udp_give_up(conn);
    if (conn->closing || !conn_listen(conn, true)) { /* or it would never be heard again */
        worker_close(conn->worker, conn);
        return;
    }
    if (conn_has_requests(conn) || conn->readable)
        worker_make_ready(conn);
}

static void take_fetches(struct worker *worker)
{
    struct store_fetch *fetch;
    while ((fetch = store_fetch_next(worker->context.session)))
        fetches_came(&worker->context, fetch);
}

/* Replies that rest on what cannot become durable are dropped. */
static void take_synced(struct worker *worker)
{
    struct conn *conn = worker->syncing, *next;
    worker->syncing = NULL;
    for (; conn; conn = next) {
        next = conn->next_syncing;
        enum store_status status = store_durable(worker->context.session, conn->client.rests_lsn);
        if (status == STORE_WAIT_SYNC) {
            conn->next_syncing = worker->syncing;
            worker->syncing = conn;
            continue;
        }
        client_end_wait(&conn->client, WAIT_SYNC);
        note_answer_of_disk(conn);
        conn->client.rests_lsn = 0;
        if (status != STORE_OK) {
            conn_drop_pending(conn);
            conn->closing = true;
        }
        if (conn->pending)
            worker_send_pending(conn);
        else
            waits_go_on(conn);
    }
}

/* There may be space now; clients that find none park again. */
static void take_parked(struct worker *worker)
{
    struct conn *conn = worker->parked, *next;
    worker->parked = NULL;
    for (; conn; conn = next) {
        next = conn->next_parked;
        client_end_wait(&conn->client, WAIT_SPACE);
        waits_go_on(conn);
    }
}

void waits_look_again(struct worker *worker)
{
    take_fetches(worker);
    take_synced(worker);
    take_parked(worker);
    feed_watchers(worker);
    if (worker->dumping)
        waits_go_on(worker->dumping);
}

void waits_tick(evutil_socket_t fd, short what, void *context)
{
    struct worker *worker = context;
    (void)fd, (void)what;
    worker->context.now_s = clock_now_s(&worker->server->clock);
    take_parked(worker);
    fetches_tick(&worker->context);
    if (fetches_someone_waits(&worker->context.fetches))
        overdue_readers(worker);
    if (overdue_disk(worker) || fetches_someone_waits(&worker->context.fetches))
        tick_soon(worker);
}

void waits_end(struct conn *conn)
{
    if (client_waits_for(&conn->client, WAIT_DUMP))
        abandon_dump(conn);
    if (client_waits_for(&conn->client, WAIT_WATCH))
        remove_watcher(conn->worker, conn);
}
