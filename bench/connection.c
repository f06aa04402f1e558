/* connection.c: sending a batch and reading its replies. */
#include "bench/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/base/monotonic.h"

/* Beyond the room for one request's head: what one write should carry of large values. */
#define OUT_SIZE (64 * 1024)

bool connection_init(struct connection *connection, int fd, const struct codec *codec,
                     const struct workload *workload, struct tally *tally,
                     const struct connection_options *options)
{
    size_t key_count = (size_t)options->pipeline * options->multiget;

    memset(connection, 0, sizeof *connection);
    connection->fd = fd;
    connection->sent_ahead = SENDER_NOT_TRIED;
    connection->codec = codec;
    connection->workload = workload;
    connection->tally = tally;
    connection->options = *options;
    connection->out_cap = OUT_SIZE + codec->bound(options->multiget);
    size_t request_count = options->fill ? key_count : options->pipeline;
    connection->requests = calloc(request_count, sizeof *connection->requests);
    connection->keys = calloc(key_count, sizeof *connection->keys);
    connection->out = malloc(connection->out_cap);
    if (options->fill)
        connection->missed = calloc(key_count, sizeof *connection->missed);
    return connection->requests != NULL && connection->keys != NULL && connection->out != NULL &&
           (connection->missed != NULL || !options->fill);
}

void connection_release(struct connection *connection)
{
    if (connection->fd >= 0)
        close(connection->fd);
    free(connection->requests);
    free(connection->keys);
    free(connection->missed);
    free(connection->out);
}

static enum connection_status lose(struct connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
    return CONNECTION_LOST;
}

/* ---- sending ---- */

/* Makes more of the open value. Returns false when the buffer is full before its end. */
static bool fill_value(struct connection *connection)
{
    const struct codec *codec = connection->codec;
    size_t room = connection->out_cap - connection->out_len;
    size_t left = connection->out_value_len - connection->out_value_at;
    size_t len = left < room ? left : room;

    workload_value(connection->workload, connection->out_key, connection->out_value_at,
                   connection->out + connection->out_len, len);
    connection->out_value_at += len;
    connection->out_len += len;
    if (len < left || room - len < codec->value_end_len)
        return false;
    memcpy(connection->out + connection->out_len, codec->value_end, codec->value_end_len);
    connection->out_len += codec->value_end_len;
    connection->out_value_open = false;
    return true;
}

/* Makes as much of the batch's remaining bytes as the buffer takes. */
static void fill(struct connection *connection)
{
    for (;;) {
        const struct request *request = &connection->requests[connection->encoded];
        char *end;

        if (connection->out_value_open && !fill_value(connection))
            return;
        if (connection->encoded == connection->request_count)
            return;
        if (connection->out_cap - connection->out_len <
            connection->codec->bound(request->key_count))
            return;
        end = connection->codec->encode(connection->workload, request,
                                        connection->out + connection->out_len);
        connection->out_len = (size_t)(end - connection->out);
        connection->encoded++;
        if (request->kind == REQUEST_SET) {
            connection->out_key = request->keys[0];
            connection->out_value_at = 0;
            connection->out_value_len = workload_value_size(connection->workload, request->keys[0]);
            connection->out_value_open = true;
        }
    }
}

/* What a sender has sent, or else what the socket takes now: bytes, or -1 with errno. */
static ssize_t send_some(struct connection *connection)
{
    ssize_t sent = connection->sent_ahead;

    connection->sent_ahead = SENDER_NOT_TRIED;
    if (sent == SENDER_NOT_TRIED)
        return send(connection->fd, connection->out + connection->out_sent,
                    connection->out_len - connection->out_sent, MSG_NOSIGNAL);
    errno = sent < 0 ? (int)-sent : errno;
    return sent < 0 ? -1 : sent;
}

enum connection_status connection_flush(struct connection *connection)
{
    connection->blocked = false;
    for (;;) {
        ssize_t sent;

        if (connection->out_sent == connection->out_len) {
            connection->out_sent = connection->out_len = 0;
            fill(connection);
            if (connection->out_len == 0)
                return CONNECTION_OK;
        }
        sent = send_some(connection);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) {
                connection->blocked = true;
                return CONNECTION_OK;
            }
            tally_error(connection->tally, "connection lost while sending: %s", strerror(errno));
            return lose(connection);
        }
        connection->out_sent += (size_t)sent;
        connection->tally->bytes_out += (uint64_t)sent;
    }
}

void connection_prepare(struct connection *connection, uint32_t request_count)
{
    connection->request_count = request_count;
    connection->filling = false;
    connection->encoded = 0;
    connection->answered = 0;
    fill(connection);
}

void connection_send_with(struct connection *connection, struct sender *sender)
{
    sender_add(sender, connection->fd, connection->out, connection->out_len,
               &connection->sent_ahead);
}

enum connection_status connection_begin(struct connection *connection, uint64_t start_ns)
{
    connection->start_ns = start_ns;
    return connection_flush(connection);
}

/* Sends a set of each key that was missed. */
static enum connection_status start_fills(struct connection *connection)
{
    uint32_t count = connection->missed_count;
    enum connection_status status;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t *key = &connection->missed[i];
        connection->requests[i] = (struct request){REQUEST_SET, 1, key};
    }
    connection->missed_count = 0;
    connection_prepare(connection, count);
    status = connection_begin(connection, monotonic_ns());
    connection->filling = true;
    return status;
}

/* ---- receiving ---- */

static void key_missed(struct connection *connection, uint64_t key)
{
    if (connection->options.fill)
        connection->missed[connection->missed_count++] = key;
    if (connection->tally->first_missing == TALLY_NO_KEY)
        connection->tally->first_missing = key;
}

/* Finds which of the request's keys a value is for; they come in the order asked. */
static bool find_key(struct connection *connection, const struct request *request,
                     const struct reply *reply)
{
    char key[WORKLOAD_KEY_MAX];

    for (uint32_t i = connection->next_key; i < request->key_count; i++) {
        size_t len = workload_key(connection->workload, request->keys[i], key);

        if (reply->text_len == 0 ||
            (len == reply->text_len && memcmp(key, reply->text, len) == 0)) {
            for (uint32_t missed = connection->next_key; missed < i; missed++)
                key_missed(connection, request->keys[missed]);
            connection->in_key = request->keys[i];
            connection->next_key = i + 1;
            return true;
        }
    }
    return false;
}

/* Whether it matters which of a get's keys were there, and not only how many. */
static bool follows_keys(const struct connection *connection)
{
    return connection->options.verify || connection->options.fill;
}

/* Counts an answer that does not name its key; returns whether it was the request's last one. */
static bool take_turn(struct connection *connection, const struct request *request)
{
    return ++connection->turns == request->key_count;
}

static void begin_value(struct connection *connection, const struct request *request,
                        const struct reply *reply)
{
    bool found;

    connection->values++;
    connection->in_value_at = 0;
    connection->in_value_len = reply->value_len;
    connection->in_value_end = connection->codec->value_end_len;
    connection->in_check = false;
    connection->in_last = reply->text_len == 0 && take_turn(connection, request);
    if (!follows_keys(connection))
        return;
    found = find_key(connection, request, reply);
    if (!connection->options.verify)
        return;
    if (!found)
        tally_wrong(connection->tally, "a value came for key %.*s, which was not asked for",
                    (int)reply->text_len, reply->text);
    else if (workload_value_size(connection->workload, connection->in_key) != reply->value_len)
        tally_wrong(connection->tally, "key %.*s: its value has %zu bytes, %u came",
                    (int)reply->text_len, reply->text,
                    workload_value_size(connection->workload, connection->in_key),
                    reply->value_len);
    else
        connection->in_check = true;
}

/* Takes what has come of a value and of its end. Returns NULL when the stream is out of step. */
static const char *take_value(struct connection *connection, const char *at, const char *end)
{
    const struct codec *codec = connection->codec;
    size_t len = connection->in_value_len - connection->in_value_at;

    if (len > (size_t)(end - at))
        len = (size_t)(end - at);
    if (connection->in_check && !workload_value_matches(connection->workload, connection->in_key,
                                                        connection->in_value_at, at, len)) {
        char key[WORKLOAD_KEY_MAX];
        size_t key_len = workload_key(connection->workload, connection->in_key, key);

        tally_wrong(connection->tally, "key %.*s: its value differs at or behind offset %zu",
                    (int)key_len, key, connection->in_value_at);
        connection->in_check = false;
    }
    connection->in_value_at += len;
    at += len;
    if (connection->in_value_at < connection->in_value_len)
        return at;
    while (at < end && connection->in_value_end > 0) {
        if (*at != codec->value_end[codec->value_end_len - connection->in_value_end])
            return NULL;
        at++;
        connection->in_value_end--;
    }
    return at;
}

static bool value_open(const struct connection *connection)
{
    return connection->in_value_end > 0 || connection->in_value_at < connection->in_value_len;
}

static void count_answer(struct connection *connection, const struct request *request,
                         const struct reply *reply)
{
    struct tally *tally = connection->tally;

    tally->requests++;
    tally->operations += request->key_count;
    connection->answered++;
    if (reply->kind == REPLY_ERROR || reply->kind == REPLY_NOT_STORED) {
        tally_error(tally, "%s: the server said %.*s", request_kind_name(request->kind),
                    (int)reply->text_len, reply->text);
    } else if (request->kind == REQUEST_GET) {
        tally->hits += connection->values;
        tally->misses += request->key_count - connection->values;
        if (follows_keys(connection))
            for (uint32_t i = connection->next_key; i < request->key_count; i++)
                key_missed(connection, request->keys[i]);
    } else if (request->kind == REQUEST_SET) {
        tally->stored++;
        tally->filled += connection->filling;
    } else if (reply->kind == REPLY_MISSING) {
        tally->misses++;
        key_missed(connection, request->keys[0]);
    } else {
        tally->hits++;
    }
    connection->values = 0;
    connection->turns = 0;
    connection->next_key = 0;
}

static const struct reply done = {.kind = REPLY_DONE};

/* Where a value has been read to its end: it may have been all of the reply. */
static void count_last_value(struct connection *connection)
{
    if (!connection->in_last || value_open(connection))
        return;
    connection->in_last = false;
    count_answer(connection, &connection->requests[connection->answered], &done);
}

static void take_absent(struct connection *connection, const struct request *request)
{
    if (follows_keys(connection))
        key_missed(connection, request->keys[connection->next_key++]);
    if (take_turn(connection, request))
        count_answer(connection, request, &done);
}

/* Counts all replies from `at` to `end`. Returns where the first one begins that is not whole, or
 * NULL when the stream is out of step. */
static const char *take_replies(struct connection *connection, const char *at, const char *end)
{
    while (at < end) {
        const struct request *request = &connection->requests[connection->answered];
        struct reply reply;
        size_t taken;

        if (value_open(connection)) {
            at = take_value(connection, at, end);
            if (!at) {
                tally_error(connection->tally, "out of step: a value does not end in a line end");
                return NULL;
            }
            count_last_value(connection);
            continue;
        }
        if (connection_idle(connection)) {
            tally_error(connection->tally, "out of step: %zu bytes came that nobody asked for",
                        (size_t)(end - at));
            return NULL;
        }
        taken = connection->codec->decode(request->kind, at, (size_t)(end - at), &reply);
        if (reply.kind == REPLY_PARTIAL)
            return at;
        if (reply.kind == REPLY_BAD ||
            (reply.kind == REPLY_VALUE && connection->values == request->key_count)) {
            tally_error(connection->tally, "out of step: %s was answered with '%.*s'",
                        request_kind_name(request->kind), (int)reply.text_len, reply.text);
            return NULL;
        }
        at += taken;
        if (reply.kind == REPLY_VALUE) {
            begin_value(connection, request, &reply);
            count_last_value(connection);
        } else if (reply.kind == REPLY_ABSENT) {
            take_absent(connection, request);
        } else {
            count_answer(connection, request, &reply);
        }
    }
    return at;
}

/* All that this read has completed arrived at the same moment; runs of a kind count in one step. */
static void count_latencies(struct connection *connection, uint32_t from, uint64_t now_ns)
{
    uint64_t ns = now_ns > connection->start_ns ? now_ns - connection->start_ns : 0;

    while (from < connection->answered) {
        enum request_kind kind = connection->requests[from].kind;
        uint32_t to = from + 1;

        while (to < connection->answered && connection->requests[to].kind == kind)
            to++;
        hdr_histogram_record(&connection->tally->latency[kind], ns, to - from);
        from = to;
    }
}

enum connection_status connection_receive(struct connection *connection,
                                          struct receive_buffer *buffer, uint64_t *now_ns)
{
    uint32_t answered = connection->answered;
    char *data = buffer->bytes + CONNECTION_CARRY_MAX;
    const char *at = data - connection->carry_len;
    const char *end;
    ssize_t got = recv(connection->fd, data, CONNECTION_READ_SIZE, 0);

    *now_ns = monotonic_ns();
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return CONNECTION_OK;
    if (got <= 0) {
        tally_error(connection->tally, "connection lost: %s",
                    got == 0 ? "the server closed it" : strerror(errno));
        return lose(connection);
    }
    connection->tally->bytes_in += (uint64_t)got;
    memcpy(data - connection->carry_len, connection->carry, connection->carry_len);
    connection->carry_len = 0;
    end = data + got;
    at = take_replies(connection, at, end);
    count_latencies(connection, answered, *now_ns);
    if (!at)
        return lose(connection);
    if ((size_t)(end - at) > CONNECTION_CARRY_MAX) {
        tally_error(connection->tally, "out of step: a line of over %d bytes came",
                    CONNECTION_CARRY_MAX);
        return lose(connection);
    }
    connection->carry_len = (size_t)(end - at);
    memcpy(connection->carry, at, connection->carry_len);
    if (connection_idle(connection) && connection->missed_count > 0)
        return start_fills(connection);
    return CONNECTION_OK;
}
