/* stream.h: a client's bytes go through a parser, and what must hold for every parser is checked
 * (protocol/README.md).
 *
 * - It reads nothing outside of what it is given, consumes no more than that, and makes progress.
 * - What a request shows lies in the bytes that were consumed.
 * - It waits for no more than a client may send as one request.
 * - Set back to before a call, it answers the same again (worker_round.c relies on it).
 * - How a stream is cut up changes nothing.
 * - Where a request ends is where its length says, whether it is refused or not: no byte of a body
 *   is read as a command.
 * - Every answer fits into the room that is kept for it, and no byte of the client ends its line.
 */
#ifndef CACHECASK_TESTS_FUZZ_STREAM_H
#define CACHECASK_TESTS_FUZZ_STREAM_H

#include "protocol/base64.h"
#include "protocol/parser.h"
#include "protocol/token.h"
#include "tests/fuzz/fuzz.h"

/* A text line of more bytes need not be waited for (LINE_LEN_MAX), so there it matters how a
 * stream is cut. */
#define STREAM_LINE_MAX 2048

/* What a parser may keep without knowing how much will come: a line, and a long one of a get
 * (text_parser.line_seen). */
#define STREAM_WAIT_MAX STREAM_LINE_MAX

/* The requests that a locked parser of the binary protocol lets through. */
#define FOR_STRANGERS                                                                              \
    (OP_BIT(OP_SASL_LIST) | OP_BIT(OP_SASL_AUTH) | OP_BIT(OP_SASL_STEP) | OP_BIT(OP_VERSION))

/* How a stream is fed. */
struct way {
    enum protocol protocol;
    uint32_t item_size_max;
    bool locked;   /* the client must authenticate itself first */
    bool welcome;  /* and what it shows is right */
    uint32_t cuts; /* see fuzz_piece */
};

static inline void check_view(struct bytes view, const char *data, size_t consumed)
{
    if (view.data == NULL)
        FUZZ_CHECK(view.len == 0);
    else
        FUZZ_CHECK(view.data >= data && view.len <= consumed &&
                   view.data + view.len <= data + consumed);
}

/* The bytes a client must send before the parser does more. */
static inline void check_wait(const struct way *way, const struct parser *parser, size_t left,
                              size_t need)
{
    bool long_get = parser->protocol != PROTOCOL_BINARY && parser->text.line_seen > 0;
    size_t block_max = way->item_size_max > BINARY_SASL_MAX ? way->item_size_max : BINARY_SASL_MAX;
    if (need == 0)
        FUZZ_CHECK(long_get ? left == parser->text.line_seen : left <= STREAM_WAIT_MAX);
    else
        FUZZ_CHECK(need > left && need <= left + block_max + STREAM_WAIT_MAX);
}

static inline void check_key(const struct request *request, const char *data, size_t consumed)
{
    char digits[BASE64_LEN(KEY_LEN_MAX)], key[KEY_LEN_MAX];
    FUZZ_CHECK(request->key.len <= KEY_LEN_MAX);
    if (request->key.data != request->key_room) {
        check_view(request->key, data, consumed);
        return;
    }
    size_t len = base64_encode(digits, request->key.data, request->key.len);
    FUZZ_CHECK(base64_decode(key, sizeof key, (struct bytes){digits, len}) == request->key.len);
    FUZZ_CHECK(memcmp(key, request->key.data, request->key.len) == 0);
}

static inline void check_parsed(const struct way *way, const struct parser *parser,
                                enum parse_status status, const char *data, size_t len,
                                const struct request *request, size_t consumed, size_t need)
{
    FUZZ_CHECK(consumed <= len);
    if (status == PARSE_PARTIAL) {
        check_wait(way, parser, len - consumed, need);
        return;
    }
    FUZZ_CHECK(consumed > 0 && need == 0);
    if (request->op == OP_INVALID) {
        FUZZ_CHECK(request->error < REPLY_STATUS_COUNT);
        return;
    }
    check_key(request, data, consumed);
    check_view(request->value, data, consumed);
    check_view(request->args, data, consumed);
    FUZZ_CHECK(request->key.len + request->value.len <= way->item_size_max ||
               request->op == OP_AUTHENTICATE || status == PARSE_PAUSE);
    if (request->flags & REQUEST_TOO_LARGE)
        FUZZ_CHECK(request->value.len == 0);
}

/* Where a binary request ends that begins here. */
static inline uint64_t packet_end(const char *packet)
{
    const unsigned char *at = (const unsigned char *)packet;
    return BINARY_HEADER_LEN +
           ((uint64_t)at[8] << 24 | (uint64_t)at[9] << 16 | (uint64_t)at[10] << 8 | at[11]);
}

/* The words between a storage command and its length; -1: it is none. */
static inline int words_before_length(struct bytes word)
{
    static const char *const names[] = {"set", "add", "replace", "append", "prepend", "cas"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (token_is(word, names[i], strlen(names[i])))
            return 3;
    return token_is(word, "ms", 2) ? 1 : -1;
}

/* Where a storage command of text ends that begins here; 0: it is none, or announces nothing. */
static inline uint64_t block_end(const char *line, size_t len)
{
    const char *newline = memchr(line, '\n', len);
    if (newline == NULL)
        return 0;
    const char *at = line, *end = newline > line && newline[-1] == '\r' ? newline - 1 : newline;
    uint64_t block_len;
    int words = words_before_length(token_next(&at, end));
    if (words < 0)
        return 0;
    for (int i = 0; i < words; i++)
        token_next(&at, end);
    struct bytes word = token_next(&at, end);
    if (!token_uint64(word, &block_len) || block_len > INT32_MAX - 2)
        return 0;
    return (uint64_t)(newline + 1 - line) + block_len + 2;
}

/* Of a request that was taken or refused, and did not end the connection. */
static inline void check_framing(const struct parser *before, const struct parser *after,
                                 const char *data, size_t len, size_t consumed)
{
    uint64_t dropped = parser_swallows(before) < len ? parser_swallows(before) : len;
    uint64_t taken = consumed - dropped + parser_swallows(after);
    if (after->protocol == PROTOCOL_BINARY) {
        FUZZ_CHECK(dropped + BINARY_HEADER_LEN <= len);
        FUZZ_CHECK(taken == packet_end(data + dropped));
        return;
    }
    uint64_t end = parser_is_in_line(before) ? 0 : block_end(data + dropped, len - dropped);
    if (end)
        FUZZ_CHECK(taken == end);
}

/* An answer to a request of text is a line, and ends where we end it. */
static inline void check_line(const struct request *request, const char *head, size_t len)
{
    if (request->flags & REQUEST_NOREPLY)
        FUZZ_CHECK(len == 0);
    const char *end = len > 0 ? memchr(head, '\n', len) : NULL;
    FUZZ_CHECK(len == 0 || (len >= 2 && end == head + len - 1 && end[-1] == '\r'));
}

static inline void check_packet(const struct request *request, const struct reply *reply,
                                const char *head, size_t len)
{
    if (len == 0)
        return;
    const unsigned char *at = (const unsigned char *)head;
    FUZZ_CHECK(len >= BINARY_HEADER_LEN && at[0] == 0x81 && at[1] == request->binary.opcode);
    FUZZ_CHECK(memcmp(at + 12, &request->binary.opaque, 4) == 0);
    size_t key_len = (size_t)at[2] << 8 | at[3], extras_len = at[4];
    size_t body_len = (size_t)at[8] << 24 | (size_t)at[9] << 16 | (size_t)at[10] << 8 | at[11];
    size_t behind = body_len + BINARY_HEADER_LEN - len;
    FUZZ_CHECK(key_len + extras_len <= body_len);
    FUZZ_CHECK(behind == 0 || behind == reply->value_len); /* sent after this */
}

/* The longest answer of a status that there can be. */
static inline struct reply longest_reply(const struct request *request, enum reply_status status,
                                         const struct reply_meta *meta)
{
    bool found = status == REPLY_VALUE || request->op == OP_META_SET ||
                 (status == REPLY_OK && request->op != OP_META_NOOP);
    return (struct reply){
        .status = status,
        .client_flags = UINT32_MAX,
        .cas = UINT64_MAX,
        .number = UINT64_MAX,
        .value = "",
        .value_len = status == REPLY_VALUE ? 1 << 30 : 0,
        .text = "abc",
        .text_len = 3,
        .meta = found && request->flags & REQUEST_META ? meta : NULL,
    };
}

static inline void check_reply(const struct request *request, enum reply_status status)
{
    static char *text_room, *binary_room; /* of just the size that is promised to be enough */
    const struct reply_meta meta = {SIZE_MAX, INT64_MAX, INT64_MAX, UINT32_MAX,
                                    true,     true,      true,      true};
    const struct reply reply = longest_reply(request, status, &meta);
    if (!text_room) {
        text_room = malloc(TEXT_REPLY_MAX);
        binary_room = malloc(BINARY_REPLY_MAX);
        FUZZ_CHECK(text_room && binary_room);
    }
    if (request->protocol == PROTOCOL_BINARY) {
        check_packet(request, &reply, binary_room, reply_head(request, &reply, binary_room));
        return;
    }
    check_line(request, text_room, reply_head(request, &reply, text_room));
    FUZZ_CHECK(reply_tail(request, &reply, text_room) <= TEXT_REPLY_MAX);
}

static inline void check_replies(const struct request *request)
{
    static const enum reply_status some[] = {
        REPLY_MISS,      REPLY_OK,     REPLY_STORED,  REPLY_NOT_STORED, REPLY_EXISTS,
        REPLY_NOT_FOUND, REPLY_NUMBER, REPLY_VERSION, REPLY_NO_MEMORY,
    };
    if (request->op == OP_INVALID) {
        check_reply(request, request->error);
        return;
    }
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        check_reply(request, some[i]);
    if (request->key.len) /* others have no value to show */
        check_reply(request, REPLY_VALUE);
}

static inline void note_bytes(struct summary *summary, struct bytes bytes)
{
    summary_add_number(summary, bytes.len);
    summary_add(summary, bytes.data, bytes.len);
}

/* All that a request says. */
static inline void note_request(struct summary *summary, enum parse_status status,
                                const struct request *request)
{
    const uint64_t numbers[] = {
        status,
        request->op,
        request->flags,
        request->error,
        request->protocol,
        request->client_flags,
        (uint64_t)request->exptime,
        request->cas,
        request->delta,
        request->initial,
        request->binary.opaque,
        request->binary.opcode,
    };
    summary_add(summary, numbers, sizeof numbers);
    note_bytes(summary, request->key);
    note_bytes(summary, request->value);
    note_bytes(summary, request->args);
    if (!(request->flags & REQUEST_META))
        return;
    summary_add_number(summary, request->meta_flags);
    summary_add_number(summary, request->new_cas);
    summary_add_number(summary, (uint64_t)request->vivify_exptime);
    summary_add_number(summary, (uint64_t)request->recache_s);
    summary_add_number(summary, (uint64_t)request->mode);
}

/* Parses from data[0..len), twice: from a copy of the parser too. Takes note of a request. */
static inline enum parse_status step(const struct way *way, struct parser *parser, const char *data,
                                     size_t len, size_t *consumed, struct summary *summary)
{
    struct block block = block_of(data, len);
    const struct parser before = *parser;
    struct parser copy = *parser;
    struct request request, again;
    struct summary once = {0}, twice = {0};
    size_t need, consumed_again, need_again;
    memset(&request, 0xa5, sizeof request); /* whatever the last one has left */
    memset(&again, 0x5a, sizeof again);
    enum parse_status status = parser_next(parser, block.data, len, &request, consumed, &need);
    check_parsed(way, parser, status, block.data, len, &request, *consumed, need);
    FUZZ_CHECK(parser_next(&copy, block.data, len, &again, &consumed_again, &need_again) == status);
    FUZZ_CHECK(consumed_again == *consumed && need_again == need);
    FUZZ_CHECK(parser_swallows(&copy) == parser_swallows(parser));
    if (status == PARSE_REQUEST || status == PARSE_PAUSE)
        check_framing(&before, parser, block.data, len, *consumed);
    if (status != PARSE_PARTIAL) {
        note_request(&once, status, &request);
        note_request(&twice, status, &again);
        FUZZ_CHECK(summary_equals(&once, &twice));
        check_replies(&request);
        summary_add(summary, once.data, once.len);
    }
    if (status == PARSE_PAUSE || (status == PARSE_REQUEST && request.op == OP_AUTHENTICATE))
        parser_lock(parser, way->welcome ? 0 : FOR_STRANGERS);
    summary_release(&once);
    summary_release(&twice);
    block_free(block);
    return status;
}

/* A connection's life. */
static inline void feed(const struct way *way, const char *data, size_t len,
                        struct summary *summary)
{
    struct parser parser;
    uint32_t dice = way->cuts;
    size_t at = 0, end = 0;
    parser_init(&parser, way->protocol, way->item_size_max);
    if (way->locked)
        parser_lock(&parser, FOR_STRANGERS);
    while (end < len) {
        end += fuzz_piece(way->cuts, &dice, len - end);
        enum parse_status status;
        do {
            size_t consumed;
            status = step(way, &parser, data + at, end - at, &consumed, summary);
            at += consumed;
        } while (status == PARSE_REQUEST || status == PARSE_PAUSE);
        if (status == PARSE_CLOSE)
            return;
    }
}

static inline bool has_long_line(const char *data, size_t len)
{
    size_t line = 0;
    for (size_t i = 0; i < len; i++) {
        line = data[i] == '\n' ? 0 : line + 1;
        if (line > STREAM_LINE_MAX)
            return true;
    }
    return false;
}

/* Feeds it whole and cut up. */
static inline void feed_both(struct way way, const char *data, size_t len, bool must_agree)
{
    struct summary whole = {0}, cut = {0};
    uint32_t cuts = way.cuts;
    way.cuts = 0;
    feed(&way, data, len, &whole);
    way.cuts = cuts;
    feed(&way, data, len, &cut);
    if (must_agree)
        FUZZ_CHECK(summary_equals(&whole, &cut));
    summary_release(&whole);
    summary_release(&cut);
}

#endif
