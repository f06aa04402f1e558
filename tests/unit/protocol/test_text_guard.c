/* test_text_guard.c: streams that begin with a password, and those that do not. Every row is
 * parsed cut at every step. */
#include "tests/unit/protocol/stream.h"

#define REFUSED "CLIENT_ERROR unauthenticated"
#define FORM    "CLIENT_ERROR bad authentication token format"
#define Z100                                                                                       \
    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz" \
    "zzzzzzzz"
#define Z1025 Z100 Z100 Z100 Z100 Z100 Z100 Z100 Z100 Z100 Z100 "1234567890123456789012345"

static const struct {
    const char *says;
    const char *stream;
    const char *requests;
} rows[] = {
    {"a right password opens the stream", "set x 0 0 2\r\nok\r\nget a\r\n",
     "authenticate value=ok | get key=a"},
    {"key, flags and time may be anything, the line end too",
     "set " Z100 Z100 Z100 " a b 2\nok\r\n", "authenticate value=ok"},
    {"more words change nothing, not even noreply", "set x 0 0 2 noreply\r\nok\r\n",
     "authenticate value=ok"},
    {"a wrong one does not open it", "set x 0 0 2\r\nno\r\nget a\r\nset x 0 0 2\r\nok\r\nget b\r\n",
     "authenticate value=no | " REFUSED " | authenticate value=ok | get key=b"},
    {"once open, a set is a set", "set x 0 0 2\r\nok\r\nset x 0 0 2\r\nok\r\n",
     "authenticate value=ok | set key=x value=ok"},
    {"nothing else is a command", "get a\r\nquit\r\nversion\r\n\r\nadd x 0 0 2\r\nok\r\n",
     REFUSED " | " REFUSED " | " REFUSED " | " REFUSED " | " REFUSED},
    {"the block of what is refused is dropped, and no password",
     "add x 0 0 17\r\nset x 0 0 2\r\nok\r\n\r\nms x 17 0\r\nset x 0 0 2\r\nok\r\n\r\ncas x 0 0 2 "
     "1\nok\r\nprepend x a b "
     "2\r\nok\r\nget a\r\nset x 0 0 2\r\nok\r\n",
     REFUSED " | " REFUSED " | " REFUSED " | " REFUSED " | " REFUSED " | authenticate value=ok"},
    {"without a length there is no block",
     "ms x\r\nms x -1\r\nadd x 0 0\r\nappend x 0 0 2147483646\r\nset x 0 0 2\r\nok\r\n",
     REFUSED " | " REFUSED " | " REFUSED " | " REFUSED " | authenticate value=ok"},
    {"a set without a length announces nothing",
     "set x 0 0\r\nset x 0 0 -1\r\nset x 0 0 z\r\nset\r\n",
     REFUSED " | " REFUSED " | " REFUSED " | " REFUSED},
    {"a block of another length", "set x 0 0 1\r\nok\r\nset x 0 0 2\r\nok\r\n",
     "CLIENT_ERROR bad data chunk | " REFUSED " | authenticate value=ok"},
    {"a block that is too long is dropped", "set x 0 0 1025\r\n" Z1025 "\r\nset x 0 0 2\r\nok\r\n",
     FORM " | authenticate value=ok"},
};

/* Feeds `step` bytes at a time; the password is `ok`. */
static void feed_guarded(const char *stream, size_t len, size_t step, struct transcript *transcript)
{
    struct parser parser;
    parser_init(&parser, PROTOCOL_TEXT, 1 << 20);
    parser_lock(&parser, OP_BIT(OP_AUTHENTICATE));
    transcript->len = transcript->requests = 0;
    size_t at = 0;
    for (size_t end = 0; end < len;) {
        end = len - end > step ? end + step : len;
        enum parse_status status;
        do {
            if (parser.text.guard == TEXT_GUARD_ASKED)
                parser.text.guard =
                    memcmp(stream + at - 4, "ok\r\n", 4) == 0 ? TEXT_GUARD_NONE : TEXT_GUARD_CLOSED;
            at += parse_all(&parser, stream + at, end - at, transcript, &status);
        } while (parser.text.guard == TEXT_GUARD_ASKED);
        assert_int_equal(status, PARSE_PARTIAL);
    }
    assert_int_equal(at, len);
}

static void test_each_stream_gives_its_requests_however_it_arrives(void **state)
{
    static struct transcript transcript;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].stream);
        for (size_t step = 1; step <= len; step++) {
            feed_guarded(rows[i].stream, len, step, &transcript);
            if (strcmp(transcript.text, rows[i].requests) != 0)
                fail_msg("%s, %zu at a time:\n  wanted %s\n  got    %s", rows[i].says, step,
                         rows[i].requests, transcript.text);
        }
    }
}

static void test_an_endless_line_closes(void **state)
{
    static struct transcript transcript;
    static char line[2049] = "get ";
    struct parser parser;
    enum parse_status status;
    (void)state;
    memset(line + 4, 'a', sizeof line - 4);
    parser_init(&parser, PROTOCOL_TEXT, 1 << 20);
    parser_lock(&parser, OP_BIT(OP_AUTHENTICATE));
    assert_int_equal(parse_all(&parser, line, 2048, &transcript, &status), 0);
    assert_int_equal(status, PARSE_PARTIAL);
    parse_all(&parser, line, 2049, &transcript, &status);
    assert_int_equal(status, PARSE_CLOSE);
    assert_string_equal(transcript.text, " close");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_stream_gives_its_requests_however_it_arrives),
        cmocka_unit_test(test_an_endless_line_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
