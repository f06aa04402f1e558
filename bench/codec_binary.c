/* codec_binary.c: the binary protocol, as a client sees it.
 *
 * Requests and replies are a header, extras, key and value, in network byte order:
 *
 *     offset  size  field
 *          0     1  magic: 0x80 in requests, 0x81 in replies
 *          1     1  opcode
 *          2     2  length of the key
 *          4     1  length of the extras
 *          6     2  replies: status
 *          8     4  length of the body: extras, key and value
 *         24        the body
 *
 *     get of one key   GET                    a value without its key, or 0x01
 *     get of more      GETKQ of each, NOOP    the hits with their keys, then NOOP's reply
 *     set              SET
 *     incr             INCREMENT by 1         0x01 for a miss: the expiry says not to create it
 *     touch, delete    TOUCH, DELETE
 *
 * The text of an error reply is read with it; the value of a hit is left to the engine.
 */
#include "bench/codec.h"

#include <string.h>

#include "bench/codec_put.h"

#define HEADER_SIZE 24
#define EXTRAS_MAX  20

enum magic { MAGIC_REQUEST = 0x80, MAGIC_REPLY = 0x81 };

enum opcode {
    OPCODE_GET = 0x00,
    OPCODE_SET = 0x01,
    OPCODE_DELETE = 0x04,
    OPCODE_INCREMENT = 0x05,
    OPCODE_NOOP = 0x0a,
    OPCODE_GETKQ = 0x0d,
    OPCODE_TOUCH = 0x1c,
};

enum status { STATUS_OK = 0, STATUS_NOT_FOUND = 1, STATUS_EXISTS = 2, STATUS_NOT_STORED = 5 };

static size_t binary_bound(uint32_t key_count)
{
    return HEADER_SIZE + (size_t)key_count * (HEADER_SIZE + EXTRAS_MAX + WORKLOAD_KEY_MAX);
}

static void write_16(char *out, uint32_t number)
{
    out[0] = (char)(number >> 8);
    out[1] = (char)number;
}

static void write_32(char *out, uint32_t number)
{
    write_16(out, number >> 16);
    write_16(out + 2, number);
}

static uint32_t read_16(const char *at)
{
    return (uint32_t)(unsigned char)at[0] << 8 | (unsigned char)at[1];
}

static uint32_t read_32(const char *at)
{
    return read_16(at) << 16 | read_16(at + 2);
}

static char *put_header(char *out, enum opcode opcode, size_t extras_len, size_t key_len,
                        size_t value_len)
{
    memset(out, 0, HEADER_SIZE);
    out[0] = (char)MAGIC_REQUEST;
    out[1] = (char)opcode;
    write_16(out + 2, (uint32_t)key_len);
    out[4] = (char)extras_len;
    write_32(out + 8, (uint32_t)(extras_len + key_len + value_len));
    return out + HEADER_SIZE;
}

/* A request of a key, the extras and whatever value is to follow. */
static char *put_request(const struct workload *workload, enum opcode opcode, uint64_t key,
                         const char *extras, size_t extras_len, size_t value_len, char *out)
{
    char *key_at = out + HEADER_SIZE + extras_len;
    size_t key_len = workload_key(workload, key, key_at);

    out = put_header(out, opcode, extras_len, key_len, value_len);
    memcpy(out, extras, extras_len);
    return key_at + key_len;
}

static char *encode_get(const struct workload *workload, const struct request *request, char *out)
{
    if (request->key_count == 1)
        return put_request(workload, OPCODE_GET, request->keys[0], "", 0, 0, out);
    for (uint32_t i = 0; i < request->key_count; i++)
        out = put_request(workload, OPCODE_GETKQ, request->keys[i], "", 0, 0, out);
    return put_header(out, OPCODE_NOOP, 0, 0, 0);
}

static char *encode_set(const struct workload *workload, uint64_t key, char *out)
{
    char extras[8] = {0}; /* flags, expiry */

    write_32(extras + 4, workload->expire_s);
    return put_request(workload, OPCODE_SET, key, extras, sizeof extras,
                       workload_value_size(workload, key), out);
}

static char *encode_incr(const struct workload *workload, uint64_t key, char *out)
{
    char extras[20] = {[7] = 1}; /* delta, initial value, expiry */

    write_32(extras + 16, UINT32_MAX);
    return put_request(workload, OPCODE_INCREMENT, key, extras, sizeof extras, 0, out);
}

static char *encode_touch(const struct workload *workload, uint64_t key, char *out)
{
    char extras[4];

    write_32(extras, workload->expire_s);
    return put_request(workload, OPCODE_TOUCH, key, extras, sizeof extras, 0, out);
}

static char *binary_encode(const struct workload *workload, const struct request *request,
                           char *out)
{
    uint64_t key = request->keys[0];

    switch (request->kind) {
    case REQUEST_GET: return encode_get(workload, request, out);
    case REQUEST_SET: return encode_set(workload, key, out);
    case REQUEST_INCR: return encode_incr(workload, key, out);
    case REQUEST_TOUCH: return encode_touch(workload, key, out);
    case REQUEST_DELETE: return put_request(workload, OPCODE_DELETE, key, "", 0, 0, out);
    case REQUEST_KINDS: break;
    }
    return out;
}

static enum opcode expected_opcode(enum request_kind kind, enum opcode opcode)
{
    switch (kind) {
    case REQUEST_GET: return opcode == OPCODE_GETKQ || opcode == OPCODE_NOOP ? opcode : OPCODE_GET;
    case REQUEST_SET: return OPCODE_SET;
    case REQUEST_INCR: return OPCODE_INCREMENT;
    case REQUEST_TOUCH: return OPCODE_TOUCH;
    case REQUEST_DELETE:
    case REQUEST_KINDS: break;
    }
    return OPCODE_DELETE;
}

static enum reply_kind status_kind(enum request_kind kind, uint32_t status)
{
    switch (status) {
    case STATUS_OK: return REPLY_DONE;
    case STATUS_NOT_FOUND: return kind == REQUEST_GET ? REPLY_DONE : REPLY_MISSING;
    case STATUS_EXISTS:
    case STATUS_NOT_STORED: return REPLY_NOT_STORED;
    default: return REPLY_ERROR;
    }
}

/* A reply without a value, of which the header has come. What it says is short. */
static size_t decode_answer(enum request_kind kind, const char *at, size_t len, struct reply *reply)
{
    size_t before_text = HEADER_SIZE + (unsigned char)at[4] + read_16(at + 2);
    size_t whole = HEADER_SIZE + read_32(at + 8);

    reply->kind = REPLY_PARTIAL;
    if (len < whole)
        return 0;
    reply->kind = status_kind(kind, read_16(at + 6));
    reply->text = at + before_text;
    reply->text_len = whole - before_text;
    return whole;
}

/* A hit, of which header, extras and key have come. */
static size_t decode_value(const char *at, size_t len, struct reply *reply)
{
    size_t extras_len = (unsigned char)at[4];
    size_t key_len = read_16(at + 2);
    size_t before_value = HEADER_SIZE + extras_len + key_len;

    reply->kind = REPLY_PARTIAL;
    if (len < before_value)
        return 0;
    reply->kind = REPLY_VALUE;
    reply->text = at + HEADER_SIZE + extras_len;
    reply->text_len = key_len;
    reply->value_len = read_32(at + 8) - (uint32_t)(extras_len + key_len);
    return before_value;
}

static size_t binary_decode(enum request_kind kind, const char *at, size_t len, struct reply *reply)
{
    enum opcode opcode;

    reply->kind = REPLY_PARTIAL;
    if (len < HEADER_SIZE)
        return 0;
    opcode = (enum opcode)(unsigned char)at[1];
    if ((unsigned char)at[0] != MAGIC_REPLY || expected_opcode(kind, opcode) != opcode ||
        (size_t)(unsigned char)at[4] + read_16(at + 2) > read_32(at + 8)) {
        reply->kind = REPLY_BAD;
        reply->text = "what is no reply to it";
        reply->text_len = strlen(reply->text);
        return 0;
    }
    if (kind == REQUEST_GET && opcode != OPCODE_NOOP && read_16(at + 6) == STATUS_OK)
        return decode_value(at, len, reply);
    return decode_answer(kind, at, len, reply);
}

const struct codec codec_binary = {
    .name = "binary",
    .bound = binary_bound,
    .encode = binary_encode,
    .decode = binary_decode,
    .value_end = "",
    .value_end_len = 0,
};
