/* stream.h: streams for the tests of a parser, and what the parser made of them, as text.
 *
 * A stream is fed in steps of any size. Each call of the parser sees its bytes right in front of a
 * page that cannot be read, so that one byte too far is a crash, and whatever it answers is checked
 * against what holds for every parser: it consumes no more than there is, makes progress, and gives
 * views into the bytes that it consumed.
 */
#ifndef CACHECASK_TESTS_PROTOCOL_STREAM_H
#define CACHECASK_TESTS_PROTOCOL_STREAM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "protocol/parser.h"

#define STREAM_MAX     65536
#define TRANSCRIPT_MAX 262144

struct transcript {
    char text[TRANSCRIPT_MAX];
    size_t len;
    size_t requests;
};

/* Returns the address of a page that cannot be read, with STREAM_MAX usable bytes in front of it.
 */
static inline char *guard_page(void)
{
    static char *guard;
    if (guard == NULL) {
        char *base =
            mmap(NULL, 2 * STREAM_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(base != MAP_FAILED);
        guard = base + STREAM_MAX;
        assert_int_equal(mprotect(guard, STREAM_MAX, PROT_NONE), 0);
    }
    return guard;
}

/* A copy of the bytes that ends where reading ends. */
static inline const char *at_the_edge(const char *data, size_t len)
{
    assert_true(len <= STREAM_MAX);
    return memcpy(guard_page() - len, data, len);
}

__attribute__((format(printf, 2, 3))) static inline void say(struct transcript *transcript,
                                                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = sizeof(transcript->text) - transcript->len;
    int len = vsnprintf(transcript->text + transcript->len, room, format, args);
    va_end(args);
    assert_true(len >= 0 && (size_t)len < room);
    transcript->len += (size_t)len;
}

static inline const char *op_name(enum request_op op)
{
    static const char *const names[] = {
        [OP_INVALID] = "invalid",
        [OP_GET] = "get",
        [OP_SET] = "set",
        [OP_ADD] = "add",
        [OP_REPLACE] = "replace",
        [OP_APPEND] = "append",
        [OP_PREPEND] = "prepend",
        [OP_CAS] = "cas",
        [OP_INCR] = "incr",
        [OP_DECR] = "decr",
        [OP_TOUCH] = "touch",
        [OP_DELETE] = "delete",
        [OP_FLUSH_ALL] = "flush_all",
        [OP_VERSION] = "version",
        [OP_VERBOSITY] = "verbosity",
        [OP_STATS] = "stats",
        [OP_QUIT] = "quit",
        [OP_SHUTDOWN] = "shutdown",
        [OP_CACHE_MEMLIMIT] = "cache_memlimit",
        [OP_CACHE_DISKLIMIT] = "cache_disklimit",
        [OP_WATCH] = "watch",
        [OP_LRU] = "lru",
        [OP_LRU_CRAWLER] = "lru_crawler",
        [OP_SLABS] = "slabs",
        [OP_REFRESH_CERTS] = "refresh_certs",
        [OP_AUTHENTICATE] = "authenticate",
        [OP_NOOP] = "noop",
        [OP_SASL_LIST] = "sasl_list",
        [OP_SASL_AUTH] = "sasl_auth",
        [OP_SASL_STEP] = "sasl_step",
        [OP_META_GET] = "mg",
        [OP_META_SET] = "ms",
        [OP_META_DELETE] = "md",
        [OP_META_ARITHMETIC] = "ma",
        [OP_META_DEBUG] = "me",
        [OP_META_NOOP] = "mn",
    };
    return names[op];
}

static inline void say_error(struct transcript *transcript, const struct request *request)
{
    const struct request loud = {0};
    const struct reply reply = {.status = request->error};
    char line[TEXT_REPLY_MAX];
    size_t len = text_reply_head(&loud, &reply, line);
    say(transcript, "%.*s", len > 2 ? (int)len - 2 : 0, line);
}

static inline void say_bytes(struct transcript *transcript, const char *name, struct bytes bytes)
{
    if (bytes.data != NULL)
        say(transcript, " %s=%.*s", name, (int)bytes.len, bytes.data);
}

static inline void say_number(struct transcript *transcript, const char *name, uint64_t number)
{
    if (number != 0)
        say(transcript, " %s=%llu", name, (unsigned long long)number);
}

static inline void say_flags(struct transcript *transcript, uint32_t flags)
{
    static const char *const names[] = {"noreply", "show-cas", "touch", "more", "too-large"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (flags & 1U << i)
            say(transcript, " %s", names[i]);
    }
    say(transcript, "%s%s%s", flags & REQUEST_QUIET ? " quiet" : "",
        flags & REQUEST_SHOW_KEY ? " show-key" : "", flags & REQUEST_CREATE ? " create" : "");
}

/* Fields of meta commands only; their flags are args. */
static inline void say_meta(struct transcript *transcript, const struct request *request)
{
    if (request->mode != '\0')
        say(transcript, " mode=%c", request->mode);
    say_number(transcript, "new-cas", request->new_cas);
    if (request->vivify_exptime != 0)
        say(transcript, " vivify=%lld", (long long)request->vivify_exptime);
    if (request->recache_s != 0)
        say(transcript, " recache=%lld", (long long)request->recache_s);
}

/* One request in words; what is zero is left out. */
static inline void say_request(struct transcript *transcript, const struct request *request)
{
    if (transcript->len > 0)
        say(transcript, " | ");
    if (request->op == OP_INVALID) {
        say_error(transcript, request);
        say_flags(transcript, request->flags);
        return;
    }
    say(transcript, "%s", op_name(request->op));
    say_bytes(transcript, "key", request->key);
    say_number(transcript, "flags", request->client_flags);
    if (request->exptime != 0)
        say(transcript, " exptime=%lld", (long long)request->exptime);
    say_number(transcript, "cas", request->cas);
    say_number(transcript, "delta", request->delta);
    say_number(transcript, "initial", request->initial);
    say_bytes(transcript, "value", request->value);
    if (request->args.len > 0)
        say_bytes(transcript, "args", request->args);
    if (request->flags & REQUEST_META)
        say_meta(transcript, request);
    say_flags(transcript, request->flags);
}

static inline void check_view(struct bytes view, const char *data, size_t consumed)
{
    if (view.data == NULL)
        assert_int_equal(view.len, 0);
    else
        assert_true(view.data >= data && view.data + view.len <= data + consumed);
}

/* Holds after every call, whatever the bytes. */
static inline void check_result(enum parse_status status, const char *data, size_t len,
                                const struct request *request, size_t consumed, size_t need)
{
    assert_true(consumed <= len);
    if (status == PARSE_PARTIAL) {
        assert_true(need == 0 || need > len - consumed);
        return;
    }
    assert_int_equal(need, 0);
    assert_true(consumed > 0);
    if (request->op == OP_INVALID)
        return;
    if (request->key.data != request->key_room)
        check_view(request->key, data, consumed);
    check_view(request->value, data, consumed);
    check_view(request->args, data, consumed);
    assert_true(request->key.len <= KEY_LEN_MAX);
}

/* Parses what lies in data until the parser wants more. Returns the bytes consumed; *status is
 * PARSE_PARTIAL or PARSE_CLOSE. */
static inline size_t parse_all(struct parser *parser, const char *data, size_t len,
                               struct transcript *transcript, enum parse_status *status)
{
    size_t at = 0;
    for (;;) {
        const char *edge = at_the_edge(data + at, len - at);
        struct request request;
        size_t consumed;
        size_t need;
        *status = parser_next(parser, edge, len - at, &request, &consumed, &need);
        check_result(*status, edge, len - at, &request, consumed, need);
        at += consumed;
        if (*status == PARSE_PARTIAL)
            return at;
        transcript->requests++;
        say_request(transcript, &request);
        if (*status == PARSE_CLOSE) {
            say(transcript, " close");
            return at;
        }
    }
}

/* Feeds the stream `step` bytes at a time, as a connection would. */
static inline void feed_as(enum protocol protocol, const char *stream, size_t len, size_t step,
                           uint32_t item_size_max, struct transcript *transcript)
{
    struct parser parser;
    parser_init(&parser, protocol, item_size_max);
    transcript->len = 0;
    transcript->requests = 0;
    transcript->text[0] = '\0';
    enum parse_status status = PARSE_PARTIAL;
    size_t at = 0;
    for (size_t end = 0; end < len && status == PARSE_PARTIAL;) {
        end = len - end > step ? end + step : len;
        at += parse_all(&parser, stream + at, end - at, transcript, &status);
    }
}

/* The same, of a client that speaks text. */
static inline void feed(const char *stream, size_t len, size_t step, uint32_t item_size_max,
                        struct transcript *transcript)
{
    feed_as(PROTOCOL_TEXT, stream, len, step, item_size_max, transcript);
}

#endif
