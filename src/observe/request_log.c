/* request_log.c: the lines of -vv and -vvv, in the form that operators of memcached know:
 *
 *     <24 new client connection from tcp:127.0.0.1:40512
 *     <24 get key
 *     >24 VALUE key 0 5
 *     >24 END
 *     <24 connection closed
 *
 * Only first lines are shown, never a value: it may be a secret, and megabytes long.
 */
#include "src/observe/request_log.h"

#include <string.h>

#include "protocol/binary.h"
#include "src/base/server_log.h"

#define LINE_SEEN_MAX 512 /* the end of a line is looked for so far */

void request_log_opened(int fd, const char *address)
{
    server_log("<%d new client connection from %s", fd, address);
}

void request_log_closed(int fd)
{
    server_log("<%d connection closed", fd);
}

static void write_line(int fd, char direction, const char *line, size_t len)
{
    char escaped[SERVER_LOG_ESCAPED_MAX];
    if (len > LINE_SEEN_MAX)
        len = LINE_SEEN_MAX;
    const char *newline = memchr(line, '\n', len);
    if (newline)
        len = (size_t)(newline - line);
    if (newline && len && line[len - 1] == '\r')
        len--;
    server_log("%c%d %s", direction, fd, server_log_escape(escaped, line, len));
}

/* Of a binary request only the header. */
static void log_command(const struct observed_request *observed)
{
    struct bytes shown = observed->received;
    if (observed->request->protocol == PROTOCOL_BINARY && shown.len > BINARY_HEADER_LEN)
        shown.len = BINARY_HEADER_LEN;
    if (shown.len > 0)
        write_line(observed->fd, '<', shown.data, shown.len);
}

static void log_reply(const struct observed_request *observed, const char *reply, size_t len)
{
    static const char end[] = "END\r\n";
    const size_t end_len = sizeof end - 1;
    if (len == 0)
        return;
    write_line(observed->fd, '>', reply, len);

    bool more = observed->request->flags & REQUEST_MORE;
    if (observed->request->op == OP_GET && !more && len > end_len &&
        memcmp(reply + len - end_len, end, end_len) == 0)
        write_line(observed->fd, '>', end, end_len);
}

void request_log_ran(const struct observed_request *observed, const struct output *output,
                     size_t reply_at)
{
    const struct piece *last = output->count ? &output->pieces[output->count - 1] : NULL;
    bool is_text = output->used == reply_at && last && last->release;
    log_command(observed);
    if (is_text && observed->request->op == OP_STATS)
        log_reply(observed, last->data, last->len);
    else
        log_reply(observed, output->arena + reply_at, output->used - reply_at);
}
