/* binary.c: requests of the binary protocol.
 *
 * A request is a header, extras, a key and a value; all numbers are big-endian:
 *
 *     offset  size  field
 *          0     1  magic, 0x80
 *          1     1  opcode
 *          2     2  length of the key
 *          4     1  length of the extras
 *          5     1  data type, ignored
 *          6     2  virtual bucket, ignored
 *          8     4  length of the body: extras, key and value together
 *         12     4  opaque: the answer repeats it
 *         16     8  CAS unique
 *
 * The table below says what each opcode carries. A request that carries something else ends the
 * connection, because client and server disagree about its meaning. The body of an unknown opcode
 * is dropped, like a value over the item limit. An incomplete request leaves no state behind.
 */
#include "protocol/binary.h"

#include <endian.h>
#include <string.h>

enum extras {
    EXTRAS_NONE,
    EXTRAS_STORE,    /* flags, expiry */
    EXTRAS_COUNT,    /* delta, initial value, expiry */
    EXTRAS_EXPTIME,  /* expiry */
    EXTRAS_OPTIONAL, /* expiry, or nothing */
};

static const uint8_t extras_lens[] = {
    [EXTRAS_NONE] = 0,    [EXTRAS_STORE] = 8,    [EXTRAS_COUNT] = 20,
    [EXTRAS_EXPTIME] = 4, [EXTRAS_OPTIONAL] = 4,
};

enum parts {
    PARTS_NONE,
    PARTS_KEY,
    PARTS_KEY_VALUE,
    PARTS_ARGS, /* a key that is none of an item, or nothing */
    PARTS_SASL, /* a mechanism and what it has to say */
};

struct command {
    uint8_t op; /* OP_INVALID: no such opcode */
    uint8_t parts;
    uint8_t extras;
    uint32_t flags;
};

#define QUIET REQUEST_QUIET
#define KEY   REQUEST_SHOW_KEY
#define TOUCH REQUEST_TOUCH

static const struct command commands[] = {
    [0x00] = {OP_GET, PARTS_KEY, EXTRAS_NONE, 0},
    [0x01] = {OP_SET, PARTS_KEY_VALUE, EXTRAS_STORE, 0},
    [0x02] = {OP_ADD, PARTS_KEY_VALUE, EXTRAS_STORE, 0},
    [0x03] = {OP_REPLACE, PARTS_KEY_VALUE, EXTRAS_STORE, 0},
    [0x04] = {OP_DELETE, PARTS_KEY, EXTRAS_NONE, 0},
    [0x05] = {OP_INCR, PARTS_KEY, EXTRAS_COUNT, 0},
    [0x06] = {OP_DECR, PARTS_KEY, EXTRAS_COUNT, 0},
    [0x07] = {OP_QUIT, PARTS_NONE, EXTRAS_NONE, 0},
    [0x08] = {OP_FLUSH_ALL, PARTS_NONE, EXTRAS_OPTIONAL, 0},
    [0x09] = {OP_GET, PARTS_KEY, EXTRAS_NONE, QUIET},
    [0x0a] = {OP_NOOP, PARTS_NONE, EXTRAS_NONE, 0},
    [0x0b] = {OP_VERSION, PARTS_NONE, EXTRAS_NONE, 0},
    [0x0c] = {OP_GET, PARTS_KEY, EXTRAS_NONE, KEY},
    [0x0d] = {OP_GET, PARTS_KEY, EXTRAS_NONE, KEY | QUIET},
    [0x0e] = {OP_APPEND, PARTS_KEY_VALUE, EXTRAS_NONE, 0},
    [0x0f] = {OP_PREPEND, PARTS_KEY_VALUE, EXTRAS_NONE, 0},
    [0x10] = {OP_STATS, PARTS_ARGS, EXTRAS_NONE, 0},
    [0x11] = {OP_SET, PARTS_KEY_VALUE, EXTRAS_STORE, QUIET},
    [0x12] = {OP_ADD, PARTS_KEY_VALUE, EXTRAS_STORE, QUIET},
    [0x13] = {OP_REPLACE, PARTS_KEY_VALUE, EXTRAS_STORE, QUIET},
    [0x14] = {OP_DELETE, PARTS_KEY, EXTRAS_NONE, QUIET},
    [0x15] = {OP_INCR, PARTS_KEY, EXTRAS_COUNT, QUIET},
    [0x16] = {OP_DECR, PARTS_KEY, EXTRAS_COUNT, QUIET},
    [0x17] = {OP_QUIT, PARTS_NONE, EXTRAS_NONE, QUIET},
    [0x18] = {OP_FLUSH_ALL, PARTS_NONE, EXTRAS_OPTIONAL, QUIET},
    [0x19] = {OP_APPEND, PARTS_KEY_VALUE, EXTRAS_NONE, QUIET},
    [0x1a] = {OP_PREPEND, PARTS_KEY_VALUE, EXTRAS_NONE, QUIET},
    [0x1c] = {OP_TOUCH, PARTS_KEY, EXTRAS_EXPTIME, 0},
    [0x1d] = {OP_GET, PARTS_KEY, EXTRAS_EXPTIME, TOUCH},
    [0x1e] = {OP_GET, PARTS_KEY, EXTRAS_EXPTIME, TOUCH | QUIET},
    [0x20] = {OP_SASL_LIST, PARTS_NONE, EXTRAS_NONE, 0},
    [0x21] = {OP_SASL_AUTH, PARTS_SASL, EXTRAS_NONE, 0},
    [0x22] = {OP_SASL_STEP, PARTS_SASL, EXTRAS_NONE, 0},
    [0x23] = {OP_GET, PARTS_KEY, EXTRAS_EXPTIME, TOUCH | KEY},
    [0x24] = {OP_GET, PARTS_KEY, EXTRAS_EXPTIME, TOUCH | KEY | QUIET},
};

/* An incr with this expiry does not create the counter. */
#define EXPTIME_DO_NOT_CREATE UINT32_MAX

struct input {
    struct binary_parser *parser;
    struct request *request;
    const struct command *command;
    const char *extras; /* key and value follow */
    size_t extras_len, key_len, value_len;
    size_t at_hand; /* bytes after the header that have arrived */
    size_t done;    /* result: bytes that the request takes */
    size_t need;    /* result, with PARSE_PARTIAL: bytes needed; 0: unknown */
};

static uint16_t read16(const char *at)
{
    uint16_t number;
    memcpy(&number, at, sizeof number);
    return be16toh(number);
}

static uint32_t read32(const char *at)
{
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return be32toh(number);
}

static uint64_t read64(const char *at)
{
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return be64toh(number);
}

/* Client and server do not mean the same any more. */
static enum parse_status close_with(struct request *request, enum reply_status error)
{
    request->op = OP_INVALID;
    request->error = error;
    return PARSE_CLOSE;
}

static const struct command *find_command(uint8_t opcode)
{
    static const struct command unknown = {.op = OP_INVALID};
    return opcode < sizeof commands / sizeof *commands ? &commands[opcode] : &unknown;
}

/* True when a request carries what its opcode needs. */
static bool has_shape(const struct input *in)
{
    const struct command *command = in->command;
    bool extras_ok = in->extras_len == extras_lens[command->extras] ||
                     (command->extras == EXTRAS_OPTIONAL && in->extras_len == 0);
    switch (command->parts) {
    case PARTS_NONE: return extras_ok && in->key_len == 0 && in->value_len == 0;
    case PARTS_KEY: return extras_ok && in->key_len > 0 && in->value_len == 0;
    case PARTS_ARGS: return extras_ok && in->value_len == 0;
    default: return extras_ok && in->key_len > 0;
    }
}

static void read_extras(const struct input *in)
{
    struct request *request = in->request;
    const char *at = in->extras;
    switch (in->command->extras) {
    case EXTRAS_NONE: return;
    case EXTRAS_STORE:
        request->client_flags = read32(at);
        at += 4;
        break;
    case EXTRAS_COUNT:
        request->delta = read64(at);
        request->initial = read64(at + 8);
        at += 16;
        break;
    default: break;
    }
    if (in->extras_len == 0)
        return;
    request->exptime = read32(at);
    if (in->command->extras == EXTRAS_COUNT && request->exptime != EXPTIME_DO_NOT_CREATE)
        request->flags |= REQUEST_CREATE;
}

/* A CAS unique makes every replacement of a value conditional. */
static enum request_op storing_op(enum request_op op, uint64_t cas)
{
    bool replaces = op == OP_SET || op == OP_ADD || op == OP_REPLACE;
    return replaces && cas != 0 ? OP_CAS : op;
}

static void read_parts(const struct input *in)
{
    const struct command *command = in->command;
    struct request *request = in->request;
    const struct bytes key = {in->extras + in->extras_len, in->key_len};
    const struct bytes value = {key.data + key.len, in->value_len};
    request->op = storing_op(command->op, request->cas);
    request->flags = command->flags | REQUEST_CAS;
    if (command->parts == PARTS_KEY || command->parts == PARTS_KEY_VALUE)
        request->key = key;
    else
        request->args = key;
    if (command->parts == PARTS_KEY_VALUE || command->parts == PARTS_SASL)
        request->value = value;
    read_extras(in);
}

/* The value is not waited for, nor kept: key and extras are all that is needed to refuse it. */
static enum parse_status refuse_large(struct input *in)
{
    in->parser->swallow = in->value_len;
    read_parts(in);
    in->request->flags |= REQUEST_TOO_LARGE;
    if (in->command->op == OP_SET)
        in->request->op = OP_SET; /* removes the old value whatever its unique, like memcached */
    in->request->value = (struct bytes){0};
    return PARSE_REQUEST;
}

/* After a header whose lengths fit together. */
static enum parse_status parse_body(struct input *in)
{
    uint8_t parts = in->command->parts;
    if (parts == PARTS_SASL && in->value_len > BINARY_SASL_MAX)
        return close_with(in->request, REPLY_SASL_FAILED);

    bool refused =
        parts == PARTS_KEY_VALUE &&
        (uint64_t)in->key_len + in->value_len + ITEM_OVERHEAD > in->parser->item_size_max;
    size_t wanted = in->extras_len + in->key_len + (refused ? 0 : in->value_len);
    if (in->at_hand < wanted) {
        in->done = 0;
        in->need = BINARY_HEADER_LEN + wanted;
        return PARSE_PARTIAL;
    }
    in->done = BINARY_HEADER_LEN + wanted;
    if (refused)
        return refuse_large(in);
    read_parts(in);
    return parts == PARTS_SASL ? PARSE_PAUSE : PARSE_REQUEST;
}

/* From a whole header on. */
static enum parse_status parse_packet(struct input *in, const char *header)
{
    const uint32_t body_len = read32(header + 8);
    const uint64_t allowed = in->parser->allowed;
    struct request *request = in->request;
    in->command = find_command((uint8_t)header[1]);
    in->extras = header + BINARY_HEADER_LEN;
    in->extras_len = (uint8_t)header[4];
    in->key_len = read16(header + 2);
    in->done = BINARY_HEADER_LEN;
    request->protocol = PROTOCOL_BINARY;
    request->binary.opcode = (uint8_t)header[1];
    memcpy(&request->binary.opaque, header + 12, sizeof request->binary.opaque);

    if (allowed && !(allowed & OP_BIT(in->command->op)))
        return close_with(request, REPLY_SASL_FAILED);
    if (in->extras_len + in->key_len > body_len)
        return close_with(request, REPLY_ERROR);
    if (in->key_len > KEY_LEN_MAX)
        return close_with(request, REPLY_BAD_FORMAT);
    if (in->command->op == OP_INVALID) {
        in->parser->swallow = body_len;
        request->error = REPLY_ERROR;
        return PARSE_REQUEST;
    }

    in->value_len = body_len - in->extras_len - in->key_len;
    request->cas = read64(header + 16);
    return has_shape(in) ? parse_body(in) : close_with(request, REPLY_BAD_FORMAT);
}

enum parse_status binary_parse(struct binary_parser *parser, const char *data, size_t len,
                               struct request *request, size_t *consumed, size_t *need)
{
    size_t dropped = parse_drop(&parser->swallow, len);
    data += dropped;
    len -= dropped;
    *consumed = dropped;
    *need = 0;
    memset(request, 0, REQUEST_COMMON_SIZE);
    if (len == 0)
        return PARSE_PARTIAL;
    if ((uint8_t)data[0] != BINARY_MAGIC) { /* the client would not understand an answer */
        *consumed += len;
        return close_with(request, REPLY_NONE);
    }
    if (len < BINARY_HEADER_LEN) {
        *need = BINARY_HEADER_LEN;
        return PARSE_PARTIAL;
    }

    struct input in = {.parser = parser, .request = request, .at_hand = len - BINARY_HEADER_LEN};
    enum parse_status status = parse_packet(&in, data);
    *consumed += in.done;
    *need = in.need;
    return status;
}
