/* worker_conns.c: the connections of a worker, and which have something for the next round. */
#define _GNU_SOURCE
#include "src/base/server_log.h"
#include "src/net/waits.h"
#include "src/net/worker.h"
#include "src/observe/request_log.h"

static void add(struct worker *worker, struct conn *conn)
{
    atomic_store_explicit(&conn->last_command_s, worker->context.now_s, memory_order_relaxed);
    pthread_mutex_lock(&worker->lock);
    conn->next = worker->conns;
    if (conn->next)
        conn->next->previous = conn;
    worker->conns = conn;
    worker->conn_count++;
    pthread_mutex_unlock(&worker->lock);
}

void worker_close(struct worker *worker, struct conn *conn)
{
    const struct client *client = &conn->client;
    waits_end(conn);
    if (worker->context.verbosity >= SERVER_LOG_COMMANDS)
        request_log_closed(client->fd);
    watch_closed(&worker->context.watch, client->fd, client->address,
                 conn->close_reason ? conn->close_reason : "normal");

    pthread_mutex_lock(&worker->lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        worker->conns = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    worker->conn_count--;
    pthread_mutex_unlock(&worker->lock);
    bool counted = conn->transport != TRANSPORT_UDP;
    conn_free(conn);
    if (counted)
        server_connection_closed(worker->server);
}

void worker_make_ready(struct conn *conn)
{
    struct worker *worker = conn->worker;
    if (conn->is_ready)
        return;
    conn->is_ready = true;
    conn->next_ready = NULL;
    if (worker->ready)
        worker->ready_tail->next_ready = conn;
    else
        worker->ready = conn;
    worker->ready_tail = conn;
}

struct conn *worker_take_ready(struct worker *worker)
{
    struct conn *conn = worker->ready;
    if (conn) {
        worker->ready = conn->next_ready;
        conn->is_ready = false;
    }
    return conn;
}

void worker_send_pending(struct conn *conn)
{
    enum conn_sent sent = conn_send_pending(conn);
    if (sent == CONN_BROKEN) {
        conn_drop_pending(conn);
        conn->closing = true;
    }
    if (sent != CONN_WAITING)
        waits_go_on(conn);
}

static void on_event(evutil_socket_t fd, short what, void *context)
{
    struct conn *conn = context;
    (void)fd;
    if (conn->pending) {
        worker_send_pending(conn);
        return;
    }
    if (what & EV_WRITE) /* which a receive has waited for, by TLS */
        conn_listen(conn, true);
    conn->readable = true;
    worker_make_ready(conn);
}

struct conn *worker_open(struct worker *worker, int fd, const struct listener *listener,
                         const char *address)
{
    struct conn *conn = conn_new(worker, fd, listener, address);
    if (!conn)
        return NULL;
    if (!conn_start(conn, on_event)) {
        conn_free(conn);
        return NULL;
    }
    add(worker, conn);
    return conn;
}
