/* codec_meta.c: the meta commands, as a client sees them.
 *
 *     mg KEY v                       VA LENGTH, the value; EN
 *     mg KEY k v q … mn              VA LENGTH kKEY, the value, …; MN
 *     ms KEY LENGTH [T…], the value  HD, NS
 *     ma KEY v                       VA LENGTH, a number; NF
 *     mg KEY T…                      HD, EN
 *     md KEY                         HD, NF
 *
 * A get of one key needs no barrier: it is always answered. Of many, only the hits are, and they
 * name their keys.
 */
#include "bench/codec.h"

#include <string.h>

#include "bench/codec_line.h"
#include "bench/codec_put.h"

/* Longer than a command's name, its flags and its line end. */
#define LINE_ROOM 64

static size_t meta_bound(uint32_t key_count)
{
    return LINE_ROOM + (size_t)key_count * (WORKLOAD_KEY_MAX + LINE_ROOM);
}

static char *put_command(const struct workload *workload, const char *name, uint64_t key, char *out)
{
    out = put(out, name, 3);
    return out + workload_key(workload, key, out);
}

static char *encode_get(const struct workload *workload, const struct request *request, char *out)
{
    if (request->key_count == 1) {
        out = put_command(workload, "mg ", request->keys[0], out);
        return put(out, " v\r\n", 4);
    }
    for (uint32_t i = 0; i < request->key_count; i++) {
        out = put_command(workload, "mg ", request->keys[i], out);
        out = put(out, " k v q\r\n", 8);
    }
    return put(out, "mn\r\n", 4);
}

static char *put_expiry(const struct workload *workload, char *out)
{
    return put_number(put(out, " T", 2), workload->expire_s);
}

static char *encode_set(const struct workload *workload, uint64_t key, char *out)
{
    out = put_command(workload, "ms ", key, out);
    *out++ = ' ';
    out = put_number(out, workload_value_size(workload, key));
    if (workload->expire_s > 0)
        out = put_expiry(workload, out);
    return put(out, "\r\n", 2);
}

static char *meta_encode(const struct workload *workload, const struct request *request, char *out)
{
    uint64_t key = request->keys[0];

    switch (request->kind) {
    case REQUEST_GET: return encode_get(workload, request, out);
    case REQUEST_SET: return encode_set(workload, key, out);
    case REQUEST_INCR: return put(put_command(workload, "ma ", key, out), " v\r\n", 4);
    case REQUEST_TOUCH:
        return put(put_expiry(workload, put_command(workload, "mg ", key, out)), "\r\n", 2);
    case REQUEST_DELETE: return put(put_command(workload, "md ", key, out), "\r\n", 2);
    case REQUEST_KINDS: break;
    }
    return out;
}

/* " LENGTH[ kKEY]" behind VA. */
static bool decode_value(const char *at, const char *end, struct reply *reply)
{
    uint32_t len;

    if (end - at < 2 || *at++ != ' ')
        return false;
    at = line_number(at, end, &len);
    if (!at || (at < end && (end - at < 3 || memcmp(at, " k", 2) != 0)))
        return false;
    reply->kind = REPLY_VALUE;
    reply->text = at == end ? NULL : at + 2;
    reply->text_len = at == end ? 0 : (size_t)(end - reply->text);
    reply->value_len = len;
    return true;
}

/* A line that is no value. */
static enum reply_kind line_kind(enum request_kind kind, const char *at, const char *end)
{
    if (line_is_error(at, end))
        return REPLY_ERROR;
    if (end - at != 2)
        return REPLY_BAD;
    if (kind == REQUEST_GET)
        return memcmp(at, "EN", 2) == 0 || memcmp(at, "MN", 2) == 0 ? REPLY_DONE : REPLY_BAD;
    if (memcmp(at, "HD", 2) == 0)
        return REPLY_DONE;
    if (kind == REQUEST_SET)
        return memcmp(at, "NS", 2) == 0 ? REPLY_NOT_STORED : REPLY_BAD;
    return memcmp(at, kind == REQUEST_TOUCH ? "EN" : "NF", 2) == 0 ? REPLY_MISSING : REPLY_BAD;
}

/* The number that follows the line of a VA: it is taken with it. */
static size_t take_number(const char *at, size_t taken, size_t len, struct reply *reply)
{
    size_t whole = taken + reply->value_len + 2;

    reply->kind = len < whole ? REPLY_PARTIAL : REPLY_DONE;
    if (len >= whole && memcmp(at + whole - 2, "\r\n", 2) != 0)
        reply->kind = REPLY_BAD;
    return reply->kind == REPLY_DONE ? whole : 0;
}

static size_t meta_decode(enum request_kind kind, const char *at, size_t len, struct reply *reply)
{
    struct line line;
    size_t taken;

    reply->kind = REPLY_PARTIAL;
    if (!line_read(&line, at, len))
        return 0;
    taken = (size_t)(line.next - at);
    if ((kind == REQUEST_GET || kind == REQUEST_INCR) && line_starts_with(at, line.end, "VA") &&
        decode_value(at + 2, line.end, reply))
        return kind == REQUEST_INCR ? take_number(at, taken, len, reply) : taken;
    return line_reply(&line, line_kind(kind, at, line.end), at, reply);
}

const struct codec codec_meta = {
    .name = "meta",
    .bound = meta_bound,
    .encode = meta_encode,
    .decode = meta_decode,
    .value_end = "\r\n",
    .value_end_len = 2,
};
