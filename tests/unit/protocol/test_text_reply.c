/* test_text_reply.c: answers as they go over the wire. The room for an answer ends at a page that
 * cannot be touched. */
#include <inttypes.h>

#include "tests/unit/protocol/stream.h"

/* Head, value and tail, as a client sees them. */
static const char *wire(const struct request *request, const struct reply *reply)
{
    static char text[STREAM_MAX];
    char *room = guard_page() - TEXT_REPLY_MAX;
    size_t len = text_reply_head(request, reply, room);
    assert_true(len <= TEXT_REPLY_MAX);
    memcpy(text, room, len);
    if (reply->value_len > 0)
        memcpy(text + len, reply->value, reply->value_len);
    len += reply->value_len;
    size_t tail = text_reply_tail(request, reply, room);
    memcpy(text + len, room, tail);
    text[len + tail] = '\0';
    return text;
}

static const struct request get = {.op = OP_GET, .key = {"key", 3}};
static const struct request get_more = {.op = OP_GET, .key = {"key", 3}, .flags = REQUEST_MORE};
static const struct request gets = {.op = OP_GET, .key = {"key", 3}, .flags = REQUEST_CAS};
static const struct request set = {.op = OP_SET, .key = {"key", 3}};
static const struct request set_quiet = {.op = OP_SET, .key = {"key", 3}, .flags = REQUEST_NOREPLY};

static const struct reply hit = {
    .status = REPLY_VALUE, .client_flags = 7, .cas = 1234, .value = "hello", .value_len = 5};
static const struct reply miss = {.status = REPLY_MISS};

static void test_a_hit_is_a_value_between_its_line_and_END(void **state)
{
    (void)state;
    assert_string_equal(wire(&get, &hit), "VALUE key 7 5\r\nhello\r\nEND\r\n");
}

static void test_END_stands_behind_the_last_key_only(void **state)
{
    (void)state;
    assert_string_equal(wire(&get_more, &hit), "VALUE key 7 5\r\nhello\r\n");
    assert_string_equal(wire(&get_more, &miss), "");
    assert_string_equal(wire(&get, &miss), "END\r\n");
}

static void test_gets_shows_the_cas(void **state)
{
    (void)state;
    assert_string_equal(wire(&gets, &hit), "VALUE key 7 5 1234\r\nhello\r\nEND\r\n");
}

static void test_an_empty_value_has_its_line_end(void **state)
{
    (void)state;
    const struct reply empty = {.status = REPLY_VALUE};
    assert_string_equal(wire(&get, &empty), "VALUE key 0 0\r\n\r\nEND\r\n");
}

static void test_the_longest_head_fits(void **state)
{
    (void)state;
    static const char key[KEY_LEN_MAX] = {0};
    const struct request longest = {.key = {key, sizeof(key)}, .flags = REQUEST_CAS};
    const struct reply reply = {.status = REPLY_VALUE,
                                .client_flags = UINT32_MAX,
                                .cas = UINT64_MAX,
                                .value_len = SIZE_MAX};
    size_t len = text_reply_head(&longest, &reply, guard_page() - TEXT_REPLY_MAX);
    assert_int_equal(len, 6 + 250 + 1 + 10 + 1 + 20 + 1 + 20 + 2);
}

static void test_fixed_answers(void **state)
{
    (void)state;
    static const struct {
        enum reply_status status;
        const char *line;
    } rows[] = {
        {REPLY_NONE, ""},
        {REPLY_TEXT, ""},
        {REPLY_STORED, "STORED\r\n"},
        {REPLY_NOT_STORED, "NOT_STORED\r\n"},
        {REPLY_EXISTS, "EXISTS\r\n"},
        {REPLY_NOT_FOUND, "NOT_FOUND\r\n"},
        {REPLY_DELETED, "DELETED\r\n"},
        {REPLY_TOUCHED, "TOUCHED\r\n"},
        {REPLY_OK, "OK\r\n"},
        {REPLY_ERROR, "ERROR\r\n"},
        {REPLY_BAD_FORMAT, "CLIENT_ERROR bad command line format\r\n"},
        {REPLY_BAD_DELETE,
         "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"},
        {REPLY_BAD_CHUNK, "CLIENT_ERROR bad data chunk\r\n"},
        {REPLY_BAD_DELTA, "CLIENT_ERROR invalid numeric delta argument\r\n"},
        {REPLY_BAD_EXPTIME, "CLIENT_ERROR invalid exptime argument\r\n"},
        {REPLY_NON_NUMERIC, "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"},
        {REPLY_FLUSH_DISABLED, "CLIENT_ERROR flush_all not allowed\r\n"},
        {REPLY_MEMLIMIT_TOO_SMALL, "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"},
        {REPLY_SHUTDOWN_DISABLED, "SERVER_ERROR: shutdown not enabled\r\n"},
        {REPLY_TOO_LARGE, "SERVER_ERROR object too large for cache\r\n"},
        {REPLY_NO_MEMORY, "SERVER_ERROR out of memory storing object\r\n"},
        {REPLY_READ_ONLY, "SERVER_ERROR the disk refuses writes\r\n"},
        {REPLY_UNREADABLE, "SERVER_ERROR cannot read the value from disk\r\n"},
        {REPLY_READ_NO_MEMORY, "SERVER_ERROR out of memory reading the value\r\n"},
        {REPLY_CONTENDED, "SERVER_ERROR the item keeps changing, try again\r\n"},
        {REPLY_LINE_TOO_LONG, "CLIENT_ERROR line too long\r\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct reply reply = {.status = rows[i].status};
        assert_string_equal(wire(&set, &reply), rows[i].line);
    }
}

static void test_noreply_hides_every_answer(void **state)
{
    (void)state;
    for (int status = 0; status < REPLY_STATUS_COUNT; status++) {
        const struct reply reply = {
            .status = (enum reply_status)status, .text = "x", .text_len = 1};
        if (status != REPLY_VALUE)
            assert_string_equal(wire(&set_quiet, &reply), "");
    }
}

static void test_every_answer_but_none_and_text_has_bytes(void **state)
{
    (void)state;
    for (int status = 0; status < REPLY_STATUS_COUNT; status++) {
        const struct reply reply = {
            .status = (enum reply_status)status, .text = "x", .text_len = 1};
        bool silent = status == REPLY_NONE || status == REPLY_TEXT ||
                      (status >= REPLY_SASL_DONE && status <= REPLY_SASL_FAILED);
        assert_int_equal(wire(&set, &reply)[0] == '\0', silent);
    }
}

static void test_the_version(void **state)
{
    (void)state;
    const struct reply reply = {.status = REPLY_VERSION, .text = "1.6.45", .text_len = 6};
    assert_string_equal(wire(&set, &reply), "VERSION 1.6.45\r\n");
}

static void test_a_version_that_is_too_long_is_cut(void **state)
{
    (void)state;
    static char text[2 * TEXT_REPLY_MAX];
    memset(text, '1', sizeof(text));
    const struct reply reply = {.status = REPLY_VERSION, .text = text, .text_len = sizeof(text)};
    const char *line = wire(&set, &reply);
    assert_true(strlen(line) <= TEXT_REPLY_MAX);
    assert_string_equal(line + strlen(line) - 3, "1\r\n");
}

static void check_number(uint64_t number)
{
    char want[32];
    snprintf(want, sizeof(want), "%" PRIu64 "\r\n", number);
    const struct reply reply = {.status = REPLY_NUMBER, .number = number};
    assert_string_equal(wire(&set, &reply), want);
}

static void test_numbers_of_every_length(void **state)
{
    (void)state;
    check_number(0);
    check_number(UINT64_MAX);
    for (uint64_t power = 1; power <= UINT64_MAX / 10; power *= 10) {
        check_number(power - 1);
        check_number(power);
        check_number(power + 1);
        check_number(power * 7 + power / 3);
    }
    check_number(UINT64_C(10000000000000000000));
    check_number(UINT64_C(9999999999999999999));
    for (unsigned bit = 0; bit < 64; bit++)
        check_number(UINT64_C(1) << bit);
    for (uint64_t number = 0; number < 2000; number++)
        check_number(number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hit_is_a_value_between_its_line_and_END),
        cmocka_unit_test(test_END_stands_behind_the_last_key_only),
        cmocka_unit_test(test_gets_shows_the_cas),
        cmocka_unit_test(test_an_empty_value_has_its_line_end),
        cmocka_unit_test(test_the_longest_head_fits),
        cmocka_unit_test(test_fixed_answers),
        cmocka_unit_test(test_noreply_hides_every_answer),
        cmocka_unit_test(test_every_answer_but_none_and_text_has_bytes),
        cmocka_unit_test(test_the_version),
        cmocka_unit_test(test_a_version_that_is_too_long_is_cut),
        cmocka_unit_test(test_numbers_of_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
