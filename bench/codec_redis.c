/* codec_redis.c: the protocol of Redis (RESP2), as a client sees it.
 *
 * A request is an array of strings, "*COUNT" and then "$LENGTH" and the bytes of each; every head
 * and every string ends in a line end.
 *
 *     GET KEY                    $LENGTH, the value; $-1
 *     MGET KEY…                  *COUNT, and of each key in turn what GET answers
 *     SET KEY VALUE              +OK
 *     SETEX KEY SECONDS VALUE    +OK; the value is the last here, as the engine wants it
 *     INCR KEY                   :NUMBER
 *     EXPIRE KEY SECONDS         :1, :0 for a miss
 *     DEL KEY                    :1, :0 for a miss
 *     what fails                 -WHY
 *
 * INCR makes a key that is not there, and says 1. Numbers that were loaded begin far above that,
 * so 1 is a miss. EXPIRE with 0 would delete: where memcached's touch says never, it says a
 * century.
 *
 * The head of an array is taken together with its first element, so all answers of a get look
 * alike.
 */
#include "bench/codec.h"

#include <string.h>

#include "bench/codec_line.h"
#include "bench/codec_put.h"

/* Longer than the head of any string, its line ends, and a number or a command's name. */
#define PART_ROOM 64
#define CENTURY_S UINT64_C(3155760000)

static size_t redis_bound(uint32_t key_count)
{
    return 4 * PART_ROOM + (size_t)key_count * (WORKLOAD_KEY_MAX + PART_ROOM);
}

static char *put_head(char *out, char type, uint64_t number)
{
    *out++ = type;
    out = put_number(out, number);
    return put(out, "\r\n", 2);
}

static char *put_string(char *out, const char *text, size_t len)
{
    out = put_head(out, '$', len);
    out = put(out, text, len);
    return put(out, "\r\n", 2);
}

static char *put_key(const struct workload *workload, uint64_t key, char *out)
{
    char text[WORKLOAD_KEY_MAX];

    return put_string(out, text, workload_key(workload, key, text));
}

static char *put_seconds(uint64_t seconds, char *out)
{
    char text[PART_ROOM];

    return put_string(out, text, (size_t)(put_number(text, seconds) - text));
}

/* An array of so many strings, of which the first is the command's name. */
static char *put_command(const char *name, uint32_t count, char *out)
{
    out = put_head(out, '*', count);
    return put_string(out, name, strlen(name));
}

static char *encode_get(const struct workload *workload, const struct request *request, char *out)
{
    out = put_command(request->key_count == 1 ? "GET" : "MGET", request->key_count + 1, out);
    for (uint32_t i = 0; i < request->key_count; i++)
        out = put_key(workload, request->keys[i], out);
    return out;
}

static char *encode_set(const struct workload *workload, uint64_t key, char *out)
{
    bool expires = workload->expire_s > 0;

    out = expires ? put_command("SETEX", 4, out) : put_command("SET", 3, out);
    out = put_key(workload, key, out);
    if (expires)
        out = put_seconds(workload->expire_s, out);
    return put_head(out, '$', workload_value_size(workload, key));
}

static char *redis_encode(const struct workload *workload, const struct request *request, char *out)
{
    uint64_t key = request->keys[0];

    switch (request->kind) {
    case REQUEST_GET: return encode_get(workload, request, out);
    case REQUEST_SET: return encode_set(workload, key, out);
    case REQUEST_INCR: return put_key(workload, key, put_command("INCR", 2, out));
    case REQUEST_TOUCH:
        out = put_key(workload, key, put_command("EXPIRE", 3, out));
        return put_seconds(workload->expire_s > 0 ? workload->expire_s : CENTURY_S, out);
    case REQUEST_DELETE: return put_key(workload, key, put_command("DEL", 2, out));
    case REQUEST_KINDS: break;
    }
    return out;
}

/* The digits up to `end`, and nothing else. */
static bool read_length(const char *at, const char *end, uint32_t *length)
{
    return at < end && line_number(at, end, length) == end;
}

static enum reply_kind number_kind(enum request_kind kind, const char *at, const char *end)
{
    switch (kind) {
    case REQUEST_INCR:
        if (at == end || *at < '0' || *at > '9')
            return REPLY_BAD;
        return line_is(at, end, "1") ? REPLY_MISSING : REPLY_DONE;
    case REQUEST_TOUCH:
    case REQUEST_DELETE:
        if (line_is(at, end, "1"))
            return REPLY_DONE;
        return line_is(at, end, "0") ? REPLY_MISSING : REPLY_BAD;
    case REQUEST_GET:
    case REQUEST_SET:
    case REQUEST_KINDS: break;
    }
    return REPLY_BAD;
}

/* A line without its end. */
static enum reply_kind line_kind(enum request_kind kind, const char *at, const char *end,
                                 struct reply *reply)
{
    if (at == end)
        return REPLY_BAD;
    switch (*at++) {
    case '-': return REPLY_ERROR;
    case ':': return number_kind(kind, at, end);
    case '+': return kind == REQUEST_SET && line_is(at, end, "OK") ? REPLY_DONE : REPLY_BAD;
    case '$':
        if (kind != REQUEST_GET)
            return REPLY_BAD;
        if (line_is(at, end, "-1"))
            return REPLY_ABSENT;
        return read_length(at, end, &reply->value_len) ? REPLY_VALUE : REPLY_BAD;
    default: return REPLY_BAD;
    }
}

/* How long the head of an array at the start is: 0 when none is there, or not all of it yet. */
static size_t array_head(enum request_kind kind, const char *at, size_t len)
{
    struct line head;

    if (kind != REQUEST_GET || len == 0 || *at != '*')
        return 0;
    return line_read(&head, at, len) ? (size_t)(head.next - at) : 0;
}

static size_t redis_decode(enum request_kind kind, const char *at, size_t len, struct reply *reply)
{
    const char *start = at + array_head(kind, at, len);
    struct line line;
    size_t taken;

    reply->kind = REPLY_PARTIAL;
    if (!line_read(&line, start, len - (size_t)(start - at)))
        return 0;
    taken = line_reply(&line, line_kind(kind, start, line.end, reply), at, reply);
    if (reply->kind == REPLY_VALUE)
        reply->text_len = 0;
    return taken;
}

const struct codec codec_redis = {
    .name = "redis",
    .bound = redis_bound,
    .encode = redis_encode,
    .decode = redis_decode,
    .value_end = "\r\n",
    .value_end_len = 2,
};
