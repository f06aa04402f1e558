/* udp.c: requests and answers in datagrams.
 *
 * Each begins with a frame header, whose numbers have their high byte first:
 *
 *     offset  size  field
 *          0     2  request id: chosen by the client, and given back
 *          2     2  sequence: of this datagram in its message, from 0
 *          4     2  total: datagrams of this message
 *          6     2  reserved, 0
 *
 * A request must fit into one datagram (total is 1); several may share one, and one that is cut off
 * at its end is dropped, like everything that is malformed: its sender may be somebody else than it
 * says. The answer to each request is one message of its own, cut into datagrams of at most 1400
 * bytes. Since its total stands in the first, an answer is copied together and sent when it is
 * whole; a multiget may take several rounds until then, when values come from disk.
 *
 * What a forged sender can have sent to others is bounded: only commands with a bounded answer are
 * run (rights.c), and all answers to one datagram have UDP_ANSWER_MAX bytes together. A longer
 * answer becomes an error, and the rest of its datagram is dropped.
 *
 * Two servers that answered each other's answers might never stop, and a stranger could start that
 * with one datagram, as an answer may hold commands as its value. So what begins like an answer is
 * no request.
 *
 * All workers read from all UDP sockets. Each has one connection for each, which takes one datagram
 * after the other and waits as other connections do, for the disk, for room, for the socket;
 * meanwhile the other workers take what comes.
 */
#define _GNU_SOURCE
#include "src/net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/request.h"
#include "src/command/fetches.h"
#include "src/net/worker.h"

#define HEADER       8
#define DATAGRAM_MAX 1400 /* bytes of an answer's datagram, with its header */
#define BODY_MAX     (DATAGRAM_MAX - HEADER)
#define RECEIVE_MAX  (64 << 10)

_Static_assert(UDP_ANSWER_MAX / BODY_MAX < UINT16_MAX, "the datagrams of an answer can be counted");

struct buffer {
    char *data;
    size_t len, room;
};

struct udp {
    struct sockaddr_storage peer;
    socklen_t peer_len;
    char id[2];
    size_t answered;    /* bytes of whole answers to this datagram */
    struct buffer held; /* of the answer that is not whole yet */
    bool too_large;     /* that one */
    char datagram[RECEIVE_MAX];
};

struct udp *udp_new(void)
{
    return calloc(1, sizeof(struct udp));
}

void udp_free(struct udp *udp)
{
    free(udp->held.data);
    free(udp);
}

static bool append(struct buffer *buffer, const char *data, size_t len)
{
    if (len == 0)
        return true; /* there may be no buffer yet */
    if (buffer->room - buffer->len < len) {
        size_t room = (buffer->len + len) * 2;
        char *grown = realloc(buffer->data, room);
        if (!grown)
            return false;
        buffer->data = grown;
        buffer->room = room;
    }
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
    return true;
}

static void forget_answer(struct udp *udp)
{
    free(udp->held.data);
    udp->held = (struct buffer){0};
    udp->too_large = false;
}

/* Receiving. */

static uint16_t number_at(const char *at)
{
    return (uint16_t)((unsigned char)at[0] << 8 | (unsigned char)at[1]);
}

/* Answers begin with a capital, with a digit (of incr), or with the binary protocol's own byte; no
 * command does. */
static bool begins_like_an_answer(const char *body)
{
    unsigned char first = (unsigned char)*body;
    return (first >= 'A' && first <= 'Z') || (first >= '0' && first <= '9') ||
           first == BINARY_MAGIC_REPLY;
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                                : ((const struct sockaddr_in *)address)->sin_port);
}

static bool is_request(const struct udp *udp, size_t len)
{
    const char *header = udp->datagram;
    return len > HEADER && number_at(header + 2) == 0 && number_at(header + 4) == 1 &&
           port_of(&udp->peer) != 0 && !begins_like_an_answer(header + HEADER);
}

enum conn_received udp_receive(struct conn *conn)
{
    struct udp *udp = conn->udp;
    struct counters *counters = &conn->worker->context.counters;
    udp->peer_len = sizeof udp->peer;
    ssize_t got = recvfrom(conn->client.fd, udp->datagram, sizeof udp->datagram, 0,
                           (struct sockaddr *)&udp->peer, &udp->peer_len);
    if (got < 0)
        return CONN_NOTHING; /* another worker was faster */
    counter_add(&counters->bytes_read, (uint64_t)got);
    if (!is_request(udp, (size_t)got)) {
        counter_add(&counters->udp_dropped, 1);
        return CONN_NOTHING;
    }
    forget_answer(udp);
    /* What was read ahead for requests that were dropped would never be asked for. */
    fetches_end_all(&conn->client);
    udp->answered = 0;
    memcpy(udp->id, udp->datagram, sizeof udp->id);
    conn_start_parser(conn);
    conn->data = udp->datagram + HEADER;
    conn->len = (size_t)got - HEADER;
    conn->pos = 0;
    conn->readable = true; /* there may be another */
    return CONN_RECEIVED;
}

void udp_give_up(struct conn *conn)
{
    conn->closing = false;
    conn->in_len = 0;
    forget_answer(conn->udp);
}

/* Answering. */

static bool hold(struct udp *udp, const struct piece *piece)
{
    if (udp->too_large || udp->answered + udp->held.len + piece->len > UDP_ANSWER_MAX) {
        udp->too_large = true;
        return true;
    }
    return append(&udp->held, piece->data, piece->len);
}

/* The bytes of each datagram go to `out`, its length to a piece of conn->pending. */
static bool cut(struct conn *conn, const char *answer, size_t len, struct buffer *out)
{
    uint32_t total = (uint32_t)((len + BODY_MAX - 1) / BODY_MAX);
    struct piece *pieces =
        realloc(conn->pending, (conn->pending_count + total) * sizeof *conn->pending);
    if (!pieces)
        return false;
    conn->pending = pieces;
    for (uint32_t i = 0; i < total; i++) {
        const char header[HEADER] = {conn->udp->id[0], conn->udp->id[1],   (char)(i >> 8),
                                     (char)i,          (char)(total >> 8), (char)total};
        size_t body = len < BODY_MAX ? len : BODY_MAX;
        if (!append(out, header, HEADER) || !append(out, answer, body))
            return false;
        pieces[conn->pending_count++] = (struct piece){.len = HEADER + body};
        answer += body;
        len -= body;
    }
    return true;
}

/* Instead of an answer that is too large. A binary one has its request's opcode and opaque in its
 * head, if that is there. */
static bool refuse_answer(struct conn *conn, struct buffer *out)
{
    static const char refusal[] = "SERVER_ERROR the answer is too large for UDP\r\n";
    const struct buffer *held = &conn->udp->held;
    const struct reply reply = {.status = REPLY_TOO_LARGE};
    struct request request = {.protocol = PROTOCOL_BINARY};
    char packet[BINARY_REPLY_MAX];
    conn->closing = true; /* the rest of the datagram is dropped */
    if (conn->client.parser.protocol != PROTOCOL_BINARY)
        return cut(conn, refusal, sizeof refusal - 1, out);
    if (held->len < BINARY_HEADER_LEN)
        return true;
    request.binary.opcode = (uint8_t)held->data[1];
    memcpy(&request.binary.opaque, held->data + 12, sizeof request.binary.opaque);
    return cut(conn, packet, binary_reply_head(&request, &reply, packet), out);
}

static bool end_answer(struct conn *conn, struct buffer *out)
{
    struct udp *udp = conn->udp;
    udp->answered += udp->held.len;
    bool ok =
        udp->too_large ? refuse_answer(conn, out) : cut(conn, udp->held.data, udp->held.len, out);
    forget_answer(udp);
    return ok;
}

static void point_to_datagrams(struct conn *conn, char *data)
{
    conn->pending_copy = data;
    for (uint32_t i = 0; i < conn->pending_count; i++) {
        conn->pending[i].data = data;
        data += conn->pending[i].len;
    }
}

bool udp_defer(struct conn *conn, struct piece *pieces, uint32_t count)
{
    struct udp *udp = conn->udp;
    struct buffer out = {0};
    /* Or the rest of an answer comes in another round. */
    bool last =
        conn->turn != TURN_OVER || !parser_is_in_line(&conn->client.parser) || conn->closing;
    bool ok = true;
    for (uint32_t i = 0; i < count; i++) {
        ok = ok && hold(udp, &pieces[i]);
        piece_release(&pieces[i]);
        if (ok && pieces[i].ends_answer)
            ok = end_answer(conn, &out);
    }
    if (ok && (udp->too_large || (last && udp->held.len)))
        ok = end_answer(conn, &out);
    point_to_datagrams(conn, out.data);
    return ok;
}

ssize_t udp_send(const struct conn *conn, const struct iovec *datagram)
{
    const struct udp *udp = conn->udp;
    ssize_t sent = sendto(conn->client.fd, datagram->iov_base, datagram->iov_len, MSG_NOSIGNAL,
                          (const struct sockaddr *)&udp->peer, udp->peer_len);
    bool later = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    return later ? -1 : (ssize_t)datagram->iov_len; /* what cannot be sent is lost, as on its way */
}
