/* binary_reply.c: answers in the binary protocol.
 *
 * An answer is a packet like its request, with a status in the place of the virtual bucket:
 *
 *     header  extras                     key              value
 *             flags: value, touched      getk and gatk    the value, a number, or why not
 *
 * A value ends the packet. A quiet request is not answered when it succeeds, nor a quiet get when
 * it misses: no answer means that all is well, and that to a later noop that no more will come.
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

/* Binary requests have no other status. -F is refused like a stranger, as in memcached. */
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
        return answers[REPLY_EXISTS];
    if (reply->status == REPLY_NOT_STORED && request->op == OP_REPLACE)
        return answers[REPLY_NOT_FOUND];
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

/* The header, and `len` bytes that follow it. Returns the bytes written. */
static size_t write_packet(const struct request *request, const struct packet *packet,
                           const void *data, size_t len, char *out)
{
    char *at = write_header(request, packet, out);
    if (len > 0)
        memcpy(at, data, len);
    return BINARY_HEADER_LEN + len;
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
    size_t len = write_packet(request, &packet, &client_flags, sizeof client_flags, out);
    if (shows_key)
        memcpy(out + len, request->key.data, packet.key_len);
    return len + packet.key_len;
}

static size_t write_number(const struct request *request, const struct reply *reply, char *out)
{
    const uint64_t number = htobe64(reply->number);
    const struct packet packet = {.value_len = sizeof number, .cas = reply->cas};
    return write_packet(request, &packet, &number, sizeof number, out);
}

/* A packet whose value is a short text of ours. */
static size_t write_text(const struct request *request, struct packet packet, const char *text,
                         size_t len, char *out)
{
    const size_t room = BINARY_REPLY_MAX - BINARY_HEADER_LEN;
    packet.value_len = len < room ? len : room;
    return write_packet(request, &packet, text, packet.value_len, out);
}

size_t binary_reply_head(const struct request *request, const struct reply *reply, char *out)
{
    const struct answer answer = find_answer(request, reply);
    struct packet packet = {.code = answer.code};
    if (is_hidden(request, reply, answer.code))
        return 0;
    switch (reply->status) {
    case REPLY_VALUE:
    case REPLY_TOUCHED: return write_item(request, reply, out);
    case REPLY_NUMBER: return write_number(request, reply, out);
    case REPLY_VERSION: return write_text(request, packet, reply->text, reply->text_len, out);
    case REPLY_SASL_DONE:
    case REPLY_SASL_CONTINUE: /* the caller sends the value, which is the mechanism's */
        packet.value_len = reply->value_len;
        return write_packet(request, &packet, NULL, 0, out);
    default: break;
    }
    if (reply->status == REPLY_MISS && request->flags & REQUEST_SHOW_KEY) {
        /* the miss of a getk has the key where others say why */
        packet.key_len = (uint16_t)request->key.len;
        return write_packet(request, &packet, request->key.data, request->key.len, out);
    }
    packet.cas = reply->cas;
    return write_text(request, packet, answer.text, answer.text ? strlen(answer.text) : 0, out);
}

size_t binary_reply_part(const struct request *request, struct bytes key, size_t value_len,
                         char *out)
{
    const struct packet packet = {.key_len = (uint16_t)key.len, .value_len = value_len};
    return write_packet(request, &packet, key.data, key.len, out);
}
