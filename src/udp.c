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
 * A request must fit into one datagram (total is 1); several may share one, and one that is cut off at its end is dropped, like
 * everything that is malformed: its sender may be somebody else than it says. The answer to each request is a message of its own, cut
 * into datagrams of at most 1400 bytes. Since its total stands in the first, an answer is copied together and sent when it is
 * whole; a multiget may take several rounds until then, when values come from disk.
 *
 * Two servers that answered each other's errors would never stop, and a stranger could set them off with a single datagram: what
 * begins like an error is no request.
 *
 * All workers read from all UDP sockets. Each has one connection for each, which takes one datagram after the other and waits as
 * other connections do, for the disk, for room, for the socket; meanwhile the other workers take what comes.
 */
#define _GNU_SOURCE
#include "src/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/request.h"
#include "src/worker.h"

#define HEADER        8
#define DATAGRAM_MAX  1400 /* bytes of an answer's datagram, with its header */
#define BODY_MAX      (DATAGRAM_MAX - HEADER)
#define DATAGRAMS_MAX 65535
#define RECEIVE_MAX   (64 << 10)
#define MULTIGET_ROOM (1 << 20) /* an answer may have as much beyond the largest item */

/* Growing bytes. */
struct buffer {
    char *data;
    size_t len, room;
};

struct udp {
    struct sockaddr_storage peer;
    socklen_t peer_len;
    char id[2];
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

static bool begins_with(const char *data, size_t len, const char *word)
{
    return len >= strlen(word) && memcmp(data, word, strlen(word)) == 0;
}

static bool is_error(const char *data, size_t len)
{
    return begins_with(data, len, "ERROR") || begins_with(data, len, "CLIENT_ERROR") ||
           begins_with(data, len, "SERVER_ERROR");
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
           port_of(&udp->peer) != 0 && !is_error(udp->datagram + HEADER, len - HEADER);
}

enum conn_received udp_receive(struct conn *conn)
{
    struct udp *udp = conn->udp;
    struct counters *counters = &conn->worker->counters;
    udp->peer_len = sizeof udp->peer;
    ssize_t got = recvfrom(conn->fd, udp->datagram, sizeof udp->datagram, 0,
                           (struct sockaddr *)&udp->peer, &udp->peer_len);
    if (got < 0)
        return CONN_NOTHING; /* another worker was faster */
    counter_add(&counters->bytes_read, (uint64_t)got);
    if (!is_request(udp, (size_t)got)) {
        counter_add(&counters->udp_dropped, 1);
        return CONN_NOTHING;
    }
    forget_answer(udp);
    memcpy(udp->id, udp->datagram, sizeof udp->id);
    conn_start_parser(conn);
    conn->data = udp->datagram + HEADER;
    conn->len = (size_t)got - HEADER;
    conn->pos = 0;
    conn->readable = true; /* there may be another */
    return CONN_RECEIVED;
}

bool udp_allows(const struct request *request)
{
    struct bytes args = request->args;
    if (request->op == OP_WATCH)
        return false;
    return request->op != OP_LRU_CRAWLER || !(begins_with(args.data, args.len, "metadump") ||
                                              begins_with(args.data, args.len, "mgdump"));
}

void udp_give_up(struct conn *conn)
{
    conn->closing = false;
    conn->in_len = 0;
    forget_answer(conn->udp);
}

/* Answering. */

static size_t answer_max(const struct conn *conn)
{
    uint64_t max = conn->worker->server->settings.item_size_max + MULTIGET_ROOM;
    return max < DATAGRAMS_MAX * BODY_MAX ? (size_t)max : DATAGRAMS_MAX * BODY_MAX;
}

static bool hold(const struct conn *conn, const struct piece *piece)
{
    struct udp *udp = conn->udp;
    if (udp->too_large || udp->held.len + piece->len > answer_max(conn)) {
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

static bool end_answer(struct conn *conn, struct buffer *out)
{
    static const char refusal[] = "SERVER_ERROR the answer is too large for UDP\r\n";
    const struct udp *udp = conn->udp;
    bool ok = udp->too_large ? cut(conn, refusal, sizeof refusal - 1, out)
                             : cut(conn, udp->held.data, udp->held.len, out);
    forget_answer(conn->udp);
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
    const struct udp *udp = conn->udp;
    struct buffer out = {0};
    bool ok = true;
    for (uint32_t i = 0; i < count; i++) {
        ok = ok && hold(conn, &pieces[i]);
        piece_release(&pieces[i]);
        if (ok && pieces[i].ends_answer)
            ok = end_answer(conn, &out);
    }
    bool last = !conn->stopped || conn->closing;
    if (ok && last && (udp->held.len || udp->too_large))
        ok = end_answer(conn, &out);
    point_to_datagrams(conn, out.data);
    if (!ok)
        conn_drop_pending(conn);
    return ok;
}

ssize_t udp_send(const struct conn *conn, const struct iovec *datagram)
{
    const struct udp *udp = conn->udp;
    ssize_t sent = sendto(conn->fd, datagram->iov_base, datagram->iov_len, MSG_NOSIGNAL,
                          (const struct sockaddr *)&udp->peer, udp->peer_len);
    bool later = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    return later ? -1 : (ssize_t)datagram->iov_len; /* what cannot be sent is lost, as on its way */
}
