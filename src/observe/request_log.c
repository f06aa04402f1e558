/* request_log.c: the lines of -vv and -vvv, in the form that operators of memcached know:
 *
 *     <24 new client connection from tcp:127.0.0.1:40512
 *     <24 get key
 *     >24 VALUE key 0 5
 *     >24 END
 *     <24 connection closed
 *
 * Only first lines are shown, never a value: it may be a secret (a password among them), and megabytes long.
 */
#define _GNU_SOURCE
#include "src/observe/request_log.h"

#include <string.h>

#include "src/base/server_log.h"

#define LINE_SEEN_MAX 512 /* a line is looked for so far */
#define BINARY_SEEN   24  /* the header of a request of the binary protocol */

void request_log_opened(const struct conn *conn)
{
    server_log("<%d new client connection from %s", conn->fd, conn->address);
}

void request_log_closed(const struct conn *conn)
{
    server_log("<%d connection closed", conn->fd);
}

static void write_line(const struct conn *conn, char direction, const char *line, size_t len)
{
    char escaped[SERVER_LOG_ESCAPED_MAX];
    if (len > LINE_SEEN_MAX)
        len = LINE_SEEN_MAX;
    const char *newline = memchr(line, '\n', len);
    if (newline)
        len = (size_t)(newline - line);
    if (newline && len && line[len - 1] == '\r')
        len--;
    server_log("%c%d %s", direction, conn->fd, server_log_escape(escaped, line, len));
}

static void request_log_command(const struct conn *conn, const struct slot *slot)
{
    const char *at = conn->data + slot->pos_before;
    size_t len = conn->len - slot->pos_before;
    uint64_t swallows = parser_swallows(&slot->parser_before);
    size_t refused = swallows < len ? (size_t)swallows : len;
    if (parser_is_in_line(&slot->parser_before))
        return; /* a further key of a line that has been shown */
    at += refused;
    len -= refused;
    if (slot->request.protocol == PROTOCOL_BINARY && len > BINARY_SEEN)
        len = BINARY_SEEN;
    write_line(conn, '<', at, len);
}

static void request_log_reply(const struct conn *conn, const struct slot *slot, const char *reply,
                              size_t len)
{
    static const char end[] = "END\r\n";
    const size_t end_len = sizeof end - 1;
    if (len == 0)
        return;
    write_line(conn, '>', reply, len);
    bool more = slot->request.flags & REQUEST_MORE;
    if (slot->request.op == OP_GET && !more && len > end_len &&
        memcmp(reply + len - end_len, end, end_len) == 0)
        write_line(conn, '>', end, end_len);
}

void request_log_ran(const struct conn *conn, const struct slot *slot, const struct output *output,
                     size_t reply_at)
{
    request_log_command(conn, slot);
    const struct piece *last = output->count ? &output->pieces[output->count - 1] : NULL;
    if (output->used == reply_at && last && last->kind == PIECE_HEAP &&
        slot->request.op == OP_STATS)
        request_log_reply(conn, slot, last->data, last->len);
    else
        request_log_reply(conn, slot, output->arena + reply_at, output->used - reply_at);
}

static const char *state_of(const struct conn *conn)
{
    if (conn->fetching)
        return "waits for values from disk";
    if (conn->syncing)
        return "waits for the disk to sync";
    if (conn->parked)
        return "waits for room";
    if (conn->worker->dumping == conn)
        return "is sent a list of keys";
    if (conn->pending)
        return "waits for its client to read";
    if (conn->closing)
        return "closes";
    if (conn->stopped)
        return "has more requests and gives others their turn";
    return conn->in_len ? "waits for the rest of a request" : "waits for a request";
}

void request_log_state(const struct conn *conn)
{
    server_log("%d: %zu of %zu bytes done, %zu bytes of replies; %s", conn->fd, conn->pos,
               conn->len, conn->out_bytes, state_of(conn));
}
