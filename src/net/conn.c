/* conn.c: bytes in and bytes out.
 *
 * An idle connection holds no buffer. Input is read into an arena that the worker's connections
 * share; what is not a whole request by the end of the round is copied to a buffer of the
 * connection's own, which grows only as bytes arrive, whatever length a client announces. Output
 * goes from the worker's arena to the socket; only what the socket does not take is copied.
 *
 * TLS (tls.h) stands between that and the socket. For UDP (udp.h) each worker has one connection a
 * socket: it takes one datagram after the other, and its pieces are whole datagrams.
 */
#define _GNU_SOURCE
#include "src/net/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "src/base/server_log.h"
#include "src/command/sasl.h"
#include "src/net/tls.h"
#include "src/net/udp.h"
#include "src/net/worker.h"
#include "storage/base/memory.h"
#include "storage/store.h"

#define GROW_MIN (64 << 10)
#define PRIVATE_MIN                                                                                \
    (256 << 10)           /* kept out of core dumps: such a buffer has its pages alone (main.c) */
#define LONG_REQUEST 1000 /* bytes */
#define SEND_PIECES  64
#define HANDSHAKE_S  10 /* a client that takes longer is a stranger */

/* Ends the stream; the worker hears of that like of any other end. */
static void on_handshake_limit(evutil_socket_t fd, short what, void *context)
{
    const struct conn *conn = context;
    (void)fd, (void)what;
    shutdown(conn->client.fd, SHUT_RDWR);
}

static bool start_tls(struct conn *conn)
{
    const struct timeval limit = {.tv_sec = HANDSHAKE_S};
    conn->tls = tls_stream_new(conn->worker->server->tls, conn->client.fd, conn->listener->clients);
    conn->handshake_limit = evtimer_new(conn->worker->base, on_handshake_limit, conn);
    return conn->tls && conn->handshake_limit && event_add(conn->handshake_limit, &limit) == 0;
}

static bool start_transport(struct conn *conn)
{
    switch (conn->transport) {
    case TRANSPORT_PLAIN: return true;
    case TRANSPORT_TLS: return start_tls(conn);
    case TRANSPORT_UDP: conn->udp = udp_new(); return conn->udp != NULL;
    }
    return false;
}

static enum protocol chosen_protocol(const struct settings *settings)
{
    if (strcmp(settings->protocol, "ascii") == 0)
        return PROTOCOL_TEXT;
    return strcmp(settings->protocol, "binary") == 0 ? PROTOCOL_BINARY : PROTOCOL_AUTO;
}

void conn_start_parser(struct conn *conn)
{
    const struct settings *settings = conn->worker->context.settings;
    parser_init(&conn->client.parser, chosen_protocol(settings), (uint32_t)settings->item_size_max);
    client_set_locked(&conn->client, settings->enable_sasl || settings->auth_file);
}

static void end_transport(struct conn *conn)
{
    if (conn->handshake_limit)
        event_free(conn->handshake_limit);
    if (conn->tls)
        tls_stream_free(conn->tls);
    if (conn->udp)
        udp_free(conn->udp);
    close(conn->client.fd);
}

struct conn *conn_new(struct worker *worker, int fd, const struct listener *listener,
                      const char *address)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        close(fd);
        return NULL;
    }
    conn->worker = worker;
    conn->listener = listener;
    conn->client.context = &worker->context;
    conn->client.fd = fd;
    conn->client.is_udp = listener->transport == TRANSPORT_UDP;
    conn->got = conn->sent = SOCKET_RING_NOT_TRIED;
    conn->transport = listener->transport;
    if (conn->transport == TRANSPORT_UDP)
        conn_set_state(conn, CONN_STATE_READ); /* nobody connects: it is as ready as it gets */
    if (!start_transport(conn)) {
        end_transport(conn);
        free(conn);
        return NULL;
    }
    conn_start_parser(conn);
    strncpy(conn->client.address, address, sizeof conn->client.address - 1);
    return conn;
}

bool conn_start(struct conn *conn, event_callback_fn on_event)
{
    struct event_base *base = conn->worker->base;
    int fd = conn->client.fd;
    event_assign(&conn->read_event, base, fd, EV_READ | EV_PERSIST, on_event, conn);
    event_assign(&conn->write_event, base, fd, EV_WRITE, on_event, conn);
    return conn_listen(conn, true);
}

void conn_drop_pending(struct conn *conn)
{
    client_end_wait(&conn->client, WAIT_OUTPUT);
    for (uint32_t i = conn->pending_at; i < conn->pending_count; i++)
        piece_release(&conn->pending[i]);
    free(conn->pending);
    free(conn->pending_copy);
    conn->pending = NULL;
    conn->pending_copy = NULL;
    conn->pending_count = conn->pending_at = 0;
}

bool conn_listen(struct conn *conn, bool on)
{
    if (on && !conn->listening && event_add(&conn->read_event, NULL) < 0)
        return false;
    if (!on && conn->listening)
        event_del(&conn->read_event);
    conn->listening = on;
    return true;
}

/* Replaces the connection's own buffer, and corrects the worker's account. */
static void set_input(struct conn *conn, char *in, size_t capacity)
{
    conn->worker->input_bytes += capacity - conn->in_capacity;
    conn->in = in;
    conn->in_capacity = capacity;
}

/* A large buffer is kept for the next large request. */
static void drop_input(struct conn *conn)
{
    static const struct timeval second = {.tv_sec = 1};
    struct worker *worker = conn->worker;
    if (conn->in_capacity > CONN_READ_SIZE) {
        buffer_pool_give(&worker->buffers,
                         (struct pool_buffer){conn->in, conn->in_capacity, false});
        if (!event_pending(worker->buffers_tick, EV_TIMEOUT, NULL))
            event_add(worker->buffers_tick, &second); /* fails: they rest a little longer */
    } else {
        free(conn->in);
    }
    set_input(conn, NULL, 0);
    conn->in_at = conn->in_len = 0;
}

void conn_free(struct conn *conn)
{
    event_del(&conn->read_event);
    event_del(&conn->write_event);
    conn_drop_pending(conn);
    fetches_end_all(&conn->client);
    sasl_end(&conn->client);
    drop_input(conn);
    end_transport(conn);
    free(conn);
}

/* Goes on in a spare buffer, if one has room for the whole request. */
static bool take_buffer(struct conn *conn, size_t capacity)
{
    struct pool_buffer buffer;
    if (!buffer_pool_take(&conn->worker->buffers, capacity, &buffer))
        return false;
    size_t len = conn->in_len;
    memcpy(buffer.data, conn->in + conn->in_at, len);
    drop_input(conn);
    set_input(conn, buffer.data, buffer.capacity);
    conn->in_len = len;
    return true;
}

/* Whether incomplete requests of the worker's clients may take so many bytes more. */
static bool may_take(const struct worker *worker, size_t bytes)
{
    return worker->input_bytes + bytes <= worker->input_limit;
}

/* Makes room after what is kept: as much as is needed, but of new memory at most twice what has
 * arrived. */
static bool grow_input(struct conn *conn)
{
    size_t capacity = conn->in_capacity * 2 > GROW_MIN ? conn->in_capacity * 2 : GROW_MIN;
    if (conn->in_at)
        memmove(conn->in, conn->in + conn->in_at, conn->in_len);
    conn->in_at = 0;
    if (conn->in_len < conn->in_capacity)
        return true;
    if (conn->need > conn->in_len) {
        if (may_take(conn->worker, conn->need) && take_buffer(conn, conn->need))
            return true;
        if (capacity > conn->need)
            capacity = conn->need;
    }
    if (!may_take(conn->worker, capacity - conn->in_capacity))
        return false;
    if (conn->in_capacity >= PRIVATE_MIN)
        memory_take_in_inside(conn->in, conn->in_capacity);
    char *in = realloc(conn->in, capacity);
    if (!in)
        return false;
    set_input(conn, in, capacity);
    if (capacity >= PRIVATE_MIN)
        memory_leave_out_inside(in, capacity);
    return true;
}

/* The end of a TLS stream, or an error. */
static void count_tls_error(const struct conn *conn, ssize_t got)
{
    struct command_context *context = conn->client.context;
    if (conn->tls->is_ready) {
        if (got < 0)
            counter_add(&context->counters.ssl_proto_errors, 1);
        return;
    }
    counter_add(&context->counters.ssl_handshake_errors, 1);
    if (atomic_load_explicit(context->server_verbosity, memory_order_relaxed) > 0)
        server_log("%s: no TLS handshake: %s", conn->client.address,
                   got == 0 ? "connection closed" : conn->tls->reason);
}

static ssize_t receive_tls(struct conn *conn, char *to, size_t room)
{
    ssize_t got = tls_receive(conn->tls, to, room);
    int error = errno;
    if (conn->handshake_limit && conn->tls->is_ready) {
        event_free(conn->handshake_limit);
        conn->handshake_limit = NULL;
    }
    if (got == 0 || (got < 0 && error != EAGAIN)) {
        count_tls_error(conn, got);
    } else if (got > 0) {
        conn->readable = conn->tls->holds_input;
    } else if (conn->tls->receive_wants_write) {
        conn_listen(conn, false);
        if (event_add(&conn->write_event, NULL) < 0)
            error = ENOMEM;
    }
    errno = error;
    return got;
}

/* The ring's result, if there is one, in the form of a system call; or SOCKET_RING_NOT_TRIED. */
static ssize_t take_result(ssize_t *result)
{
    ssize_t taken = *result;
    *result = SOCKET_RING_NOT_TRIED;
    if (taken >= 0 || taken == SOCKET_RING_NOT_TRIED)
        return taken;
    errno = (int)-taken;
    return -1;
}

static ssize_t receive_some(struct conn *conn, char *to, size_t room)
{
    ssize_t got = take_result(&conn->got);
    if (got != SOCKET_RING_NOT_TRIED)
        return got;
    return conn->transport == TRANSPORT_PLAIN ? recv(conn->client.fd, to, room, 0)
                                              : receive_tls(conn, to, room);
}

static ssize_t receive(struct conn *conn, char *to, size_t room)
{
    ssize_t got;
    do
        got = receive_some(conn, to, room);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        counter_add(&conn->worker->context.counters.bytes_read, (uint64_t)got);
    return got;
}

static enum conn_received received(struct conn *conn, ssize_t got)
{
    if (got > 0)
        return CONN_RECEIVED;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return CONN_NOTHING;
    conn->close_reason = got < 0 ? "error" : NULL;
    return CONN_GONE;
}

void conn_reuse(struct conn *conn)
{
    conn->data = conn->in + conn->in_at;
    conn->len = conn->in_len;
    conn->pos = 0;
}

/* Whether its incomplete request is too large for the arena. */
static bool has_large_request(const struct conn *conn)
{
    return conn->in_len > CONN_READ_SIZE || conn->need > CONN_READ_SIZE;
}

static size_t read_size(const struct conn *conn)
{
    return conn->need < LONG_REQUEST ? CONN_READ_SIZE : CONN_READ_MUCH;
}

size_t conn_receive_with(struct conn *conn, char *arena, struct socket_ring *ring)
{
    if (conn->transport != TRANSPORT_PLAIN || has_large_request(conn) ||
        !socket_ring_receive(ring, conn->client.fd, arena + conn->in_len, read_size(conn),
                             &conn->got))
        return 0;
    conn->arena = arena;
    return conn->in_len + read_size(conn);
}

enum conn_received conn_receive(struct conn *conn, char *arena, size_t *used)
{
    *used = 0;
    if (conn->transport == TRANSPORT_UDP)
        return udp_receive(conn);
    if (has_large_request(conn)) {
        if (!grow_input(conn))
            return CONN_NO_MEMORY;
        ssize_t got = receive(conn, conn->in + conn->in_len, conn->in_capacity - conn->in_len);
        if (got > 0)
            conn->in_len += (size_t)got;
        conn_reuse(conn);
        return received(conn, got);
    }
    ssize_t got = receive(conn, arena + conn->in_len, read_size(conn));
    if (got <= 0)
        return received(conn, got);
    if (conn->in_len)
        memcpy(arena, conn->in + conn->in_at, conn->in_len);
    conn->data = arena;
    conn->len = conn->in_len + (size_t)got;
    conn->pos = 0;
    *used = conn->len;
    return CONN_RECEIVED;
}

bool conn_keep_rest(struct conn *conn)
{
    size_t rest = conn->len - conn->pos;
    if (rest == 0) {
        drop_input(conn);
        conn->need = 0;
        return true;
    }
    if (conn->in && conn->data == conn->in + conn->in_at) { /* moved when more is to be received */
        conn->in_at += conn->pos;
        conn->in_len = rest;
        return true;
    }
    if (conn->in_capacity < rest) {
        drop_input(conn);
        char *in = malloc(rest);
        if (!in)
            return false;
        set_input(conn, in, rest);
    }
    memcpy(conn->in, conn->data + conn->pos, rest);
    conn->in_at = 0;
    conn->in_len = rest;
    return true;
}

static ssize_t send_parts(struct conn *conn, struct iovec *parts, size_t count)
{
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    switch (conn->transport) {
    case TRANSPORT_PLAIN: return sendmsg(conn->client.fd, &message, MSG_NOSIGNAL);
    case TRANSPORT_TLS: return tls_send(conn->tls, parts, count);
    case TRANSPORT_UDP: return udp_send(conn, &parts[0]); /* a piece is a datagram */
    }
    return -1;
}

bool conn_sends_after_reading(const struct conn *conn)
{
    return conn->transport == TRANSPORT_TLS && conn->tls->send_wants_read;
}

/* False: no event would tell when. */
static bool wait_to_send(struct conn *conn)
{
    if (conn_sends_after_reading(conn))
        return conn_listen(conn, true);
    return event_add(&conn->write_event, NULL) == 0;
}

static void fill_parts(struct iovec *parts, const struct piece *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        parts[i] = (struct iovec){.iov_base = (char *)pieces[i].data, .iov_len = pieces[i].len};
}

static uint32_t at_a_time(uint32_t count)
{
    return count < SEND_PIECES ? count : SEND_PIECES;
}

static ssize_t send_some(struct conn *conn, const struct piece *pieces, uint32_t count)
{
    struct iovec parts[SEND_PIECES];
    ssize_t sent = take_result(&conn->sent);
    if (sent != SOCKET_RING_NOT_TRIED)
        return sent;
    fill_parts(parts, pieces, at_a_time(count));
    return send_parts(conn, parts, at_a_time(count));
}

/* Sends as much as the socket takes; *at is the first piece with bytes left. */
static enum conn_sent send_pieces(struct conn *conn, struct piece *pieces, uint32_t count,
                                  uint32_t *at)
{
    while (*at < count) {
        ssize_t sent = send_some(conn, pieces + *at, count - *at);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? CONN_WAITING : CONN_BROKEN;
        counter_add(&conn->worker->context.counters.bytes_written, (uint64_t)sent);
        conn->sent_s = conn->worker->context.now_s;
        while (*at < count && (size_t)sent >= pieces[*at].len) {
            sent -= (ssize_t)pieces[*at].len;
            piece_release(&pieces[*at]);
            ++*at;
        }
        if (*at < count) {
            pieces[*at].data += sent;
            pieces[*at].len -= (size_t)sent;
        }
    }
    return CONN_SENT;
}

void conn_send_with(struct conn *conn, const struct output *output, struct socket_ring *ring)
{
    uint32_t count = at_a_time(conn->piece_count);
    if (conn->transport != TRANSPORT_PLAIN)
        return;
    struct iovec *parts = socket_ring_send(ring, conn->client.fd, count, &conn->sent);
    if (parts)
        fill_parts(parts, &output->pieces[conn->first_piece], count);
}

enum conn_sent conn_send(struct conn *conn, struct output *output)
{
    struct piece *pieces = &output->pieces[conn->first_piece];
    uint32_t at = 0;
    if (conn->transport == TRANSPORT_UDP)
        return conn_defer(conn, pieces, conn->piece_count) ? conn_send_pending(conn) : CONN_BROKEN;
    enum conn_sent result = send_pieces(conn, pieces, conn->piece_count, &at);
    if (result == CONN_WAITING) {
        if (!conn_defer(conn, pieces + at, conn->piece_count - at))
            return CONN_BROKEN;
        if (!wait_to_send(conn)) {
            conn_drop_pending(conn);
            return CONN_BROKEN;
        }
    } else if (result == CONN_BROKEN) {
        for (; at < conn->piece_count; at++)
            piece_release(&pieces[at]);
    }
    return result;
}

/* Takes the pieces over, copying the arena's bytes. False: no memory, and they are released. */
static bool keep_pieces(struct conn *conn, struct piece *pieces, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += pieces[i].release ? 0 : pieces[i].len;
    conn->pending = malloc((count ? count : 1) * sizeof *pieces);
    conn->pending_copy = malloc(bytes ? bytes : 1);
    if (!conn->pending || !conn->pending_copy) {
        for (uint32_t i = 0; i < count; i++)
            piece_release(&pieces[i]);
        return false;
    }

    char *copy = conn->pending_copy;
    for (uint32_t i = 0; i < count; i++) {
        conn->pending[i] = pieces[i];
        if (pieces[i].release)
            continue;
        memcpy(copy, pieces[i].data, pieces[i].len);
        conn->pending[i].data = copy;
        copy += pieces[i].len;
    }
    conn->pending_count = count;
    return true;
}

bool conn_defer(struct conn *conn, struct piece *pieces, uint32_t count)
{
    assert(!conn->pending);
    bool kept = conn->transport == TRANSPORT_UDP ? udp_defer(conn, pieces, count)
                                                 : keep_pieces(conn, pieces, count);
    if (!kept)
        conn_drop_pending(conn);
    conn->sent_s = conn->worker->context.now_s;
    if (conn->pending)
        command_wait(&conn->client, WAIT_OUTPUT);
    return kept;
}

enum conn_sent conn_send_pending(struct conn *conn)
{
    enum conn_sent result =
        send_pieces(conn, conn->pending, conn->pending_count, &conn->pending_at);
    if (result == CONN_WAITING && !wait_to_send(conn))
        result = CONN_BROKEN;
    if (result == CONN_WAITING)
        conn_note_state(conn);
    else
        conn_drop_pending(conn);
    return result;
}
