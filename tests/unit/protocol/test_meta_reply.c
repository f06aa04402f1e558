/* test_meta_reply.c: answers to meta commands. The request is parsed from a line, the room for
 * an answer ends at a page that cannot be touched. */
#include "tests/unit/protocol/stream.h"

#define K50  "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define K250 K50 K50 K50 K50 K50
#define O31  "ooooooooooooooooooooooooooooooo"

static const char *answer_to(const char *line, const struct reply *reply)
{
    static char text[2 * TEXT_REPLY_MAX];
    struct text_parser parser = {.item_size_max = 1 << 20};
    struct request request;
    size_t consumed;
    size_t need;
    assert_int_equal(text_parse(&parser, line, strlen(line), &request, &consumed, &need),
                     PARSE_REQUEST);
    assert_int_not_equal(request.op, OP_INVALID);
    char *room = guard_page() - TEXT_REPLY_MAX;
    size_t len = text_reply_head(&request, reply, room);
    memcpy(text, room, len);
    if (reply->status == REPLY_VALUE) {
        memcpy(text + len, reply->value, reply->value_len);
        len += reply->value_len;
    }
    size_t tail = text_reply_tail(&request, reply, room);
    memcpy(text + len, room, tail);
    text[len + tail] = '\0';
    return text;
}

static const struct reply_meta plain = {.size = 5, .ttl_s = -1, .new_ttl_s = 30, .idle_s = 7};
static const struct reply hit = {.status = REPLY_VALUE,
                                 .client_flags = 3,
                                 .cas = 99,
                                 .value = "hello",
                                 .value_len = 5,
                                 .meta = &plain};
static const struct reply done = {.status = REPLY_OK, .client_flags = 3, .cas = 99, .meta = &plain};

static void test_flags_come_back_in_the_order_asked(void **state)
{
    (void)state;
    assert_string_equal(answer_to("mg a v s c\r\n", &hit), "VA 5 s5 c99\r\nhello\r\n");
    assert_string_equal(answer_to("mg a c v h t l f s k Oabc\r\n", &hit),
                        "VA 5 c99 h0 t-1 l7 f3 s5 ka Oabc\r\nhello\r\n");
    assert_string_equal(answer_to("mg a\r\n", &done), "HD\r\n");
}

static void test_t_behind_T_shows_the_new_time(void **state)
{
    (void)state;
    assert_string_equal(answer_to("mg a t T30\r\n", &done), "HD t-1\r\n");
    assert_string_equal(answer_to("mg a T30 t\r\n", &done), "HD t30\r\n");
}

static void test_what_nobody_asked_for_stands_behind(void **state)
{
    (void)state;
    static const struct {
        struct reply_meta meta;
        const char *want;
    } rows[] = {
        {{.won = true}, "HD c0 W\r\n"},
        {{.win_sent = true}, "HD c0 Z\r\n"},
        {{.won = true, .stale = true}, "HD c0 X W\r\n"},
        {{.win_sent = true, .stale = true}, "HD c0 Z X\r\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct reply reply = {.status = REPLY_OK, .meta = &rows[i].meta};
        assert_string_equal(answer_to("mg a c\r\n", &reply), rows[i].want);
    }
}

static void test_a_miss_gives_back_key_and_opaque_alone(void **state)
{
    (void)state;
    const struct reply miss = {.status = REPLY_MISS};
    const struct reply not_found = {.status = REPLY_NOT_FOUND};
    assert_string_equal(answer_to("mg a s v t Oabc k\r\n", &miss), "EN Oabc ka\r\n");
    assert_string_equal(answer_to("md a k O\r\n", &not_found), "NF ka O\r\n");
    assert_string_equal(answer_to("ma a t k\r\n", &not_found), "NF ka\r\n");
}

static void test_a_set_tells_size_and_cas_whatever_came_of_it(void **state)
{
    (void)state;
    const struct reply not_stored = {.status = REPLY_NOT_STORED, .meta = &plain};
    const struct reply exists = {.status = REPLY_EXISTS, .meta = &plain};
    assert_string_equal(answer_to("ms a 1 s c T5 F5\r\nx\r\n", &done), "HD s5 c99\r\n");
    assert_string_equal(answer_to("ms a 1 c s k\r\nx\r\n", &not_stored), "NS c0 s5 ka\r\n");
    assert_string_equal(answer_to("ms a 1 s\r\nx\r\n", &exists), "EX s5\r\n");
}

static void test_a_key_comes_back_as_it_was_sent(void **state)
{
    (void)state;
    assert_string_equal(answer_to("mg Zm9v k\r\n", &done), "HD kZm9v\r\n");
    assert_string_equal(answer_to("mg Zm9v b k c\r\n", &done), "HD kZm9v b c99\r\n");
    assert_string_equal(answer_to("mg Zg== k b\r\n", &done), "HD kZg== b\r\n");
}

static void test_debug(void **state)
{
    (void)state;
    const struct reply_meta fetched = {.size = 64, .ttl_s = 30, .fetched = true};
    const struct reply debug = {.status = REPLY_OK, .cas = 9, .meta = &fetched};
    assert_string_equal(answer_to("me a\r\n", &debug),
                        "ME a exp=30 la=0 cas=9 fetch=yes cls=1 size=64\r\n");
    assert_string_equal(answer_to("me Zm9v b\r\n", &done),
                        "ME foo exp=-1 la=7 cas=99 fetch=no cls=1 size=5\r\n");
    assert_string_equal(answer_to("me Cgo= b\r\n", &done), /* two line ends */
                        "ME Cgo= exp=-1 la=7 cas=99 fetch=no cls=1 size=5\r\n");
    assert_string_equal(answer_to("me a\r\n", &(struct reply){.status = REPLY_MISS}), "EN\r\n");
}

static void test_errors_have_their_usual_line(void **state)
{
    (void)state;
    const struct reply too_large = {.status = REPLY_TOO_LARGE};
    const struct reply noop = {.status = REPLY_OK};
    assert_string_equal(answer_to("ms a 1 q\r\nx\r\n", &too_large),
                        "SERVER_ERROR object too large for cache\r\n");
    assert_string_equal(answer_to("mn\r\n", &noop), "MN\r\n");
}

static void test_the_longest_answers_fit(void **state)
{
    (void)state;
    static char line[1024];
    char digits[400];
    memset(digits, 'A', sizeof(digits));
    snprintf(line, sizeof(line), "mg %.334s== b v c f h k l s t O%s P L\r\n", digits, O31);
    const struct reply_meta most = {.size = SIZE_MAX,
                                    .ttl_s = UINT32_MAX,
                                    .idle_s = UINT32_MAX,
                                    .fetched = true,
                                    .stale = true,
                                    .win_sent = true,
                                    .won = true};
    struct reply reply = {.status = REPLY_VALUE,
                          .client_flags = UINT32_MAX,
                          .cas = UINT64_MAX,
                          .value = "",
                          .meta = &most};
    assert_true(strlen(answer_to(line, &reply)) > 440);
    snprintf(line, sizeof(line), "me %.334s== b\r\n", digits);
    reply.status = REPLY_OK;
    assert_true(strlen(answer_to(line, &reply)) > 410);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags_come_back_in_the_order_asked),
        cmocka_unit_test(test_t_behind_T_shows_the_new_time),
        cmocka_unit_test(test_what_nobody_asked_for_stands_behind),
        cmocka_unit_test(test_a_miss_gives_back_key_and_opaque_alone),
        cmocka_unit_test(test_a_set_tells_size_and_cas_whatever_came_of_it),
        cmocka_unit_test(test_a_key_comes_back_as_it_was_sent),
        cmocka_unit_test(test_debug),
        cmocka_unit_test(test_errors_have_their_usual_line),
        cmocka_unit_test(test_the_longest_answers_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
