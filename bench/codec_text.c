/* codec_text.c: the classic text protocol, as a client sees it.
 *
 *     get KEY…                              VALUE KEY FLAGS LENGTH, the value, …, END
 *     set KEY 0 EXPTIME LENGTH, the value   STORED, NOT_STORED
 *     incr KEY 1                            a number, NOT_FOUND
 *     touch KEY EXPTIME                     TOUCHED, NOT_FOUND
 *     delete KEY                            DELETED, NOT_FOUND
 *
 * The first byte of a reply's line all but tells which it is, so a decoder looks at the bytes that
 * it must and no more: the load must cost less than the server that it loads.
 */
#include "bench/codec.h"

#include <string.h>

#include "bench/codec_line.h"
#include "bench/codec_put.h"

/* Longer than any command name, its numbers and its line end. */
#define LINE_ROOM 64

static size_t text_bound(uint32_t key_count)
{
    return LINE_ROOM + (size_t)key_count * (WORKLOAD_KEY_MAX + 1);
}

static char *encode_get(const struct workload *workload, const struct request *request, char *out)
{
    out = put(out, "get", 3);
    for (uint32_t i = 0; i < request->key_count; i++) {
        *out++ = ' ';
        out += workload_key(workload, request->keys[i], out);
    }
    return put(out, "\r\n", 2);
}

static char *encode_set(const struct workload *workload, uint64_t key, char *out)
{
    out = put(out, "set ", 4);
    out += workload_key(workload, key, out);
    out = put(out, " 0 ", 3);
    out = put_number(out, workload->expire_s);
    *out++ = ' ';
    out = put_number(out, workload_value_size(workload, key));
    return put(out, "\r\n", 2);
}

static char *text_encode(const struct workload *workload, const struct request *request, char *out)
{
    uint64_t key = request->keys[0];

    switch (request->kind) {
    case REQUEST_GET: return encode_get(workload, request, out);
    case REQUEST_SET: return encode_set(workload, key, out);
    case REQUEST_INCR:
        out = put(out, "incr ", 5);
        out += workload_key(workload, key, out);
        return put(out, " 1\r\n", 4);
    case REQUEST_TOUCH:
        out = put(out, "touch ", 6);
        out += workload_key(workload, key, out);
        *out++ = ' ';
        out = put_number(out, workload->expire_s);
        return put(out, "\r\n", 2);
    case REQUEST_DELETE:
        out = put(out, "delete ", 7);
        out += workload_key(workload, key, out);
        return put(out, "\r\n", 2);
    case REQUEST_KINDS: break;
    }
    return out;
}

/* "VALUE KEY FLAGS LENGTH[ CAS]\r\n", of which the line end has been found. */
static bool decode_value(const char *at, const char *end, struct reply *reply)
{
    const char *key = at + 6;
    const char *key_end;
    uint32_t len;

    if (end - at < 6 || memcmp(at, "VALUE ", 6) != 0)
        return false;
    key_end = memchr(key, ' ', (size_t)(end - key));
    if (!key_end || key_end == key)
        return false;
    at = key_end + 1;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    if (at == key_end + 1 || at == end || *at++ != ' ' || at == end)
        return false;
    at = line_number(at, end, &len);
    if (!at || (at != end && *at != ' '))
        return false;
    reply->kind = REPLY_VALUE;
    reply->text = key;
    reply->text_len = (size_t)(key_end - key);
    reply->value_len = len;
    return true;
}

static enum reply_kind line_kind(enum request_kind kind, const char *at, const char *end)
{
    if (line_is_error(at, end))
        return REPLY_ERROR;
    switch (kind) {
    case REQUEST_GET: return line_is(at, end, "END") ? REPLY_DONE : REPLY_BAD;
    case REQUEST_SET:
        if (line_is(at, end, "STORED"))
            return REPLY_DONE;
        return line_is(at, end, "NOT_STORED") ? REPLY_NOT_STORED : REPLY_BAD;
    case REQUEST_INCR:
        if (at < end && *at >= '0' && *at <= '9')
            return REPLY_DONE;
        break;
    case REQUEST_TOUCH:
        if (line_is(at, end, "TOUCHED"))
            return REPLY_DONE;
        break;
    case REQUEST_DELETE:
        if (line_is(at, end, "DELETED"))
            return REPLY_DONE;
        break;
    case REQUEST_KINDS: break;
    }
    return line_is(at, end, "NOT_FOUND") ? REPLY_MISSING : REPLY_BAD;
}

static size_t text_decode(enum request_kind kind, const char *at, size_t len, struct reply *reply)
{
    struct line line;

    /* The two replies that come by the million. */
    if (len >= 5 && kind == REQUEST_GET && memcmp(at, "END\r\n", 5) == 0) {
        reply->kind = REPLY_DONE;
        return 5;
    }
    if (len >= 8 && kind == REQUEST_SET && memcmp(at, "STORED\r\n", 8) == 0) {
        reply->kind = REPLY_DONE;
        return 8;
    }
    reply->kind = REPLY_PARTIAL;
    if (!line_read(&line, at, len))
        return 0;
    if (kind == REQUEST_GET && decode_value(at, line.end, reply))
        return (size_t)(line.next - at);
    return line_reply(&line, line_kind(kind, at, line.end), at, reply);
}

const struct codec codec_text = {
    .name = "text",
    .bound = text_bound,
    .encode = text_encode,
    .decode = text_decode,
    .value_end = "\r\n",
    .value_end_len = 2,
};
