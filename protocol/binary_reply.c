/* binary_reply.c: answers in the binary protocol.
 *
 * An answer is a packet like its request, with a status in the place of the virtual bucket:
 *
 *     header  extras                     key              value
 *             flags: value, touched      getk and gatk    the value, a number, or why not
 *
 * A value is the end of the packet. A quiet request is not answered when it succeeds, nor a quiet
 * get when it misses. So a missing answer means that all is well, and the answer to a later noop
 * that nothing more will come.
 */
#include <endian.h>
#include <string.h>

#include "protocol/binary.h"

enum code {
    CODE_OK = 0x00,
    CODE_NOT_FOUND = 0x01,
    CODE_EXISTS = 0x02,
    CODE_TOO_LARGE = 0x03,
    CODE_INVALID = 0x04,
    CODE_NOT_STORED = 0x05,
    CODE_NON_NUMERIC = 0x06,
    CODE_AUTH_ERROR = 0x20,
    CODE_AUTH_CONTINUE = 0x21,
    CODE_UNKNOWN_COMMAND = 0x81,
    CODE_NO_MEMORY = 0x82,
    CODE_INTERNAL = 0x84,
    CODE_BUSY = 0x85,
};

struct answer {
    uint16_t code;
    const char *text; /* the value of an answer that has none of its own; NULL: nothing */
};

static const struct answer exists = {CODE_EXISTS, "Data exists for key."};
static const struct answer not_found = {CODE_NOT_FOUND, "Not found"};

/* A status that is not here is not one of a binary request. -F is refused like a stranger, as in
 * memcached. */
static const struct answer answers[REPLY_STATUS_COUNT] = {
    [REPLY_MISS] = {CODE_NOT_FOUND, "Not found"},
    [REPLY_NOT_STORED] = {CODE_NOT_STORED, "Not stored."},
    [REPLY_EXISTS] = {CODE_EXISTS, "Data exists for key."},
    [REPLY_NOT_FOUND] = {CODE_NOT_FOUND, "Not found"},
    [REPLY_ERROR] = {CODE_UNKNOWN_COMMAND, "Unknown command"},
    [REPLY_BAD_FORMAT] = {CODE_INVALID, "Invalid arguments"},
    [REPLY_NON_NUMERIC] = {CODE_NON_NUMERIC, "Non-numeric server-side value for incr or decr"},
    [REPLY_FLUSH_DISABLED] = {CODE_AUTH_ERROR, "Auth failure."},
    [REPLY_TOO_LARGE] = {CODE_TOO_LARGE, "Too large."},
    [REPLY_NO_MEMORY] = {CODE_NO_MEMORY, "Out of memory"},
    [REPLY_READ_ONLY] = {CODE_INTERNAL, "The disk refuses writes"},
    [REPLY_UNREADABLE] = {CODE_INTERNAL, "Cannot read the value from disk"},
    [REPLY_READ_NO_MEMORY] = {CODE_NO_MEMORY, "Out of memory"},
    [REPLY_CONTENDED] = {CODE_BUSY, "The item keeps changing, try again"},
    [REPLY_SASL_CONTINUE] = {CODE_AUTH_CONTINUE, NULL},
    [REPLY_SASL_FAILED] = {CODE_AUTH_ERROR, "Auth failure."},
};

/* Tells apart why an add and why a replace stored nothing. */
static struct answer find_answer(const struct request *request, const struct reply *reply)
{
    if (reply->status == REPLY_NOT_STORED && request->op == OP_ADD)
        return exists;
    if (reply->status == REPLY_NOT_STORED && request->op == OP_REPLACE)
        return not_found;
    return answers[reply->status];
}

static bool is_hidden(const struct request *request, const struct reply *reply, uint16_t code)
{
    if (reply->status == REPLY_NONE)
        return true;
    if (!(request->flags & REQUEST_QUIET))
        return false;
    return request->op == OP_GET ? reply->status == REPLY_MISS : code == CODE_OK;
}

struct packet {
    uint16_t code;
    uint8_t extras_len;
    uint16_t key_len;
    size_t value_len;
    uint64_t cas;
};

/* Returns where extras, key and value go. */
static char *write_header(const struct request *request, const struct packet *packet, char *out)
{
    const uint16_t key_len = htobe16(packet->key_len);
    const uint16_t code = htobe16(packet->code);
    const uint32_t body_len =
        htobe32((uint32_t)(packet->extras_len + packet->key_len + packet->value_len));
    const uint64_t cas = htobe64(packet->cas);
    out[0] = (char)BINARY_MAGIC_REPLY;
    out[1] = (char)request->binary.opcode;
    memcpy(out + 2, &key_len, sizeof key_len);
    out[4] = (char)packet->extras_len;
    out[5] = 0;
    memcpy(out + 6, &code, sizeof code);
    memcpy(out + 8, &body_len, sizeof body_len);
    memcpy(out + 12, &request->binary.opaque, sizeof request->binary.opaque);
    memcpy(out + 16, &cas, sizeof cas);
    return out + BINARY_HEADER_LEN;
}

static char *put(char *out, const char *data, size_t len)
{
    if (len > 0)
        memcpy(out, data, len);
    return out + len;
}

/* A hit, or the answer of a touch: flags, the key if it is wanted, and then the value. */
static size_t write_item(const struct request *request, const struct reply *reply, char *out)
{
    const uint32_t client_flags = htobe32(reply->client_flags);
    const bool shows_key = request->flags & REQUEST_SHOW_KEY;
    const struct packet packet = {
        .extras_len = sizeof client_flags,
        .key_len = shows_key ? (uint16_t)request->key.len : 0,
        .value_len = reply->value_len,
        .cas = reply->cas,
    };
    char *at = write_header(request, &packet, out);
    at = put(at, (const char *)&client_flags, sizeof client_flags);
    at = put(at, request->key.data, packet.key_len);
    return (size_t)(at - out);
}

static size_t write_number(const struct request *request, const struct reply *reply, char *out)
{
    const uint64_t number = htobe64(reply->number);
    const struct packet packet = {.value_len = sizeof number, .cas = reply->cas};
    char *at = write_header(request, &packet, out);
    at = put(at, (const char *)&number, sizeof number);
    return (size_t)(at - out);
}

/* A packet whose value is a short text of ours. */
static size_t write_text(const struct request *request, struct packet packet, const char *text,
                         size_t len, char *out)
{
    const size_t room = BINARY_REPLY_MAX - BINARY_HEADER_LEN;
    packet.value_len = len < room ? len : room;
    char *at = put(write_header(request, &packet, out), text, packet.value_len);
    return (size_t)(at - out);
}

/* The miss of a getk has the key where others say why. */
static size_t write_missed_key(const struct request *request, char *out)
{
    const struct packet packet = {.code = CODE_NOT_FOUND, .key_len = (uint16_t)request->key.len};
    char *at = put(write_header(request, &packet, out), request->key.data, request->key.len);
    return (size_t)(at - out);
}

static size_t write_answer(const struct request *request, const struct reply *reply,
                           struct answer answer, char *out)
{
    const struct packet packet = {.code = answer.code, .cas = reply->cas};
    const size_t len = answer.text != NULL ? strlen(answer.text) : 0;
    return write_text(request, packet, answer.text, len, out);
}

/* The value is the mechanism's, and the caller sends it. */
static size_t write_sasl(const struct request *request, const struct reply *reply, uint16_t code,
                         char *out)
{
    const struct packet packet = {.code = code, .value_len = reply->value_len};
    return (size_t)(write_header(request, &packet, out) - out);
}

size_t binary_reply_head(const struct request *request, const struct reply *reply, char *out)
{
    const struct answer answer = find_answer(request, reply);
    const struct packet ok = {0};
    if (is_hidden(request, reply, answer.code))
        return 0;
    switch (reply->status) {
    case REPLY_VALUE:
    case REPLY_TOUCHED: return write_item(request, reply, out);
    case REPLY_NUMBER: return write_number(request, reply, out);
    case REPLY_VERSION: return write_text(request, ok, reply->text, reply->text_len, out);
    case REPLY_SASL_DONE:
    case REPLY_SASL_CONTINUE: return write_sasl(request, reply, answer.code, out);
    default: break;
    }
    if (reply->status == REPLY_MISS && request->flags & REQUEST_SHOW_KEY)
        return write_missed_key(request, out);
    return write_answer(request, reply, answer, out);
}

size_t binary_reply_part(const struct request *request, struct bytes key, size_t value_len,
                         char *out)
{
    const struct packet packet = {.key_len = (uint16_t)key.len, .value_len = value_len};
    char *at = put(write_header(request, &packet, out), key.data, key.len);
    return (size_t)(at - out);
}
