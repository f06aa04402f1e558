/* test_binary_reply.c: binary answers as they go over the wire. The room for an answer ends at a
 * page that cannot be touched. */
#include "tests/unit/protocol/stream.h"

#define OPAQUE "\x01\x02\x03\x04"

struct wire {
    char data[STREAM_MAX];
    size_t len;
};

static struct wire wire;

/* Head and value, as a client sees them. */
static void answer(const struct request *request, const struct reply *reply)
{
    char *room = guard_page() - BINARY_REPLY_MAX;
    wire.len = reply_head(request, reply, room);
    assert_true(wire.len <= BINARY_REPLY_MAX);
    memcpy(wire.data, room, wire.len);
    if (wire.len > 0 && reply->status == REPLY_VALUE && reply->value_len > 0) {
        memcpy(wire.data + wire.len, reply->value, reply->value_len);
        wire.len += reply->value_len;
    }
    assert_int_equal(reply_tail(request, reply, room), 0);
}

static struct request request_of(uint8_t opcode, enum request_op op, uint32_t flags)
{
    struct request request = {
        .op = op, .flags = flags, .key = {"key", 3}, .protocol = PROTOCOL_BINARY};
    request.binary.opcode = opcode;
    memcpy(&request.binary.opaque, OPAQUE, 4);
    return request;
}

/* The bytes of the answer, all of them: those of the header that never change are put in here. */
static void expect(const char *opcode, const char *lens_and_status, const char *body_len,
                   const char *cas, const char *body, size_t body_size)
{
    char want[512] = {(char)0x81};
    want[1] = opcode[0];
    memcpy(want + 2, lens_and_status, 6);
    memcpy(want + 8, body_len, 4);
    memcpy(want + 12, OPAQUE, 4);
    memcpy(want + 16, cas, 8);
    memcpy(want + 24, body, body_size);
    assert_int_equal(wire.len, 24 + body_size);
    assert_memory_equal(wire.data, want, wire.len);
}

#define CAS_0    "\0\0\0\0\0\0\0\0"
#define CAS_1234 "\0\0\0\0\0\0\x04\xd2"

static const struct reply hit = {.status = REPLY_VALUE,
                                 .client_flags = 0xa0b0c0d,
                                 .cas = 1234,
                                 .value = "hello",
                                 .value_len = 5};
static const struct reply miss = {.status = REPLY_MISS};

static void test_a_hit_has_flags_and_value(void **state)
{
    (void)state;
    const struct request get = request_of(0x00, OP_GET, 0);
    answer(&get, &hit);
    expect("\x00", "\0\0\4\0\0\0", "\0\0\0\x09", CAS_1234, "\x0a\x0b\x0c\x0dhello", 9);
}

static void test_the_hit_of_a_getk_has_the_key(void **state)
{
    (void)state;
    const struct request getkq = request_of(0x0d, OP_GET, REQUEST_SHOW_KEY | REQUEST_QUIET);
    answer(&getkq, &hit);
    expect("\x0d", "\0\3\4\0\0\0", "\0\0\0\x0c", CAS_1234, "\x0a\x0b\x0c\x0dkeyhello", 12);
}

static void test_a_miss_says_so_or_shows_the_key(void **state)
{
    (void)state;
    const struct request get = request_of(0x00, OP_GET, 0);
    answer(&get, &miss);
    expect("\x00", "\0\0\0\0\0\1", "\0\0\0\x09", CAS_0, "Not found", 9);
    const struct request getk = request_of(0x0c, OP_GET, REQUEST_SHOW_KEY);
    answer(&getk, &miss);
    expect("\x0c", "\0\3\0\0\0\1", "\0\0\0\x03", CAS_0, "key", 3);
}

static void test_a_quiet_get_hides_its_miss_alone(void **state)
{
    (void)state;
    const struct request getq = request_of(0x09, OP_GET, REQUEST_QUIET);
    const struct request getkq = request_of(0x0d, OP_GET, REQUEST_QUIET | REQUEST_SHOW_KEY);
    answer(&getq, &miss);
    assert_int_equal(wire.len, 0);
    answer(&getkq, &miss);
    assert_int_equal(wire.len, 0);
    answer(&getq, &hit);
    assert_int_equal(wire.len, 24 + 9);
}

static void test_a_quiet_write_hides_success_alone(void **state)
{
    (void)state;
    const struct request setq = request_of(0x11, OP_SET, REQUEST_QUIET);
    static const enum reply_status hidden[] = {REPLY_NONE,    REPLY_STORED, REPLY_DELETED,
                                               REPLY_TOUCHED, REPLY_NUMBER, REPLY_OK};
    static const enum reply_status shown[] = {
        REPLY_NOT_STORED, REPLY_EXISTS,     REPLY_NOT_FOUND,      REPLY_ERROR,
        REPLY_BAD_FORMAT, REPLY_TOO_LARGE,  REPLY_NON_NUMERIC,    REPLY_NO_MEMORY,
        REPLY_READ_ONLY,  REPLY_UNREADABLE, REPLY_READ_NO_MEMORY, REPLY_CONTENDED};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        const struct reply reply = {.status = hidden[i]};
        answer(&setq, &reply);
        assert_int_equal(wire.len, 0);
    }
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const struct reply reply = {.status = shown[i]};
        answer(&setq, &reply);
        assert_true(wire.len > 24);
        assert_true(wire.data[7] != 0);
    }
}

static void test_a_write_shows_its_cas(void **state)
{
    (void)state;
    const struct request set = request_of(0x01, OP_SET, 0);
    const struct reply stored = {.status = REPLY_STORED, .cas = 1234};
    answer(&set, &stored);
    expect("\x01", "\0\0\0\0\0\0", "\0\0\0\0", CAS_1234, "", 0);
}

static void test_a_number_has_8_bytes(void **state)
{
    (void)state;
    const struct request incr = request_of(0x05, OP_INCR, 0);
    const struct reply number = {.status = REPLY_NUMBER, .number = 0x0102030405060708, .cas = 1234};
    answer(&incr, &number);
    expect("\x05", "\0\0\0\0\0\0", "\0\0\0\x08", CAS_1234, "\1\2\3\4\5\6\7\x08", 8);
}

static void test_a_touch_shows_flags_and_cas(void **state)
{
    (void)state;
    const struct request touch = request_of(0x1c, OP_TOUCH, 0);
    const struct reply touched = {.status = REPLY_TOUCHED, .client_flags = 7, .cas = 1234};
    answer(&touch, &touched);
    expect("\x1c", "\0\0\4\0\0\0", "\0\0\0\x04", CAS_1234, "\0\0\0\7", 4);
}

static void test_why_nothing_was_stored(void **state)
{
    (void)state;
    const struct reply not_stored = {.status = REPLY_NOT_STORED};
    const struct request add = request_of(0x02, OP_ADD, 0);
    const struct request replace = request_of(0x03, OP_REPLACE, 0);
    const struct request append = request_of(0x0e, OP_APPEND, 0);
    answer(&add, &not_stored);
    expect("\x02", "\0\0\0\0\0\2", "\0\0\0\x14", CAS_0, "Data exists for key.", 20);
    answer(&replace, &not_stored);
    expect("\x03", "\0\0\0\0\0\1", "\0\0\0\x09", CAS_0, "Not found", 9);
    answer(&append, &not_stored);
    expect("\x0e", "\0\0\0\0\0\5", "\0\0\0\x0b", CAS_0, "Not stored.", 11);
}

static void test_errors_are_memcacheds(void **state)
{
    (void)state;
    static const struct {
        enum reply_status status;
        uint16_t code;
        const char *text;
    } rows[] = {
        {REPLY_EXISTS, 0x02, "Data exists for key."},
        {REPLY_NOT_FOUND, 0x01, "Not found"},
        {REPLY_TOO_LARGE, 0x03, "Too large."},
        {REPLY_BAD_FORMAT, 0x04, "Invalid arguments"},
        {REPLY_NON_NUMERIC, 0x06, "Non-numeric server-side value for incr or decr"},
        {REPLY_SASL_FAILED, 0x20, "Auth failure."},
        {REPLY_FLUSH_DISABLED, 0x20, "Auth failure."},
        {REPLY_ERROR, 0x81, "Unknown command"},
        {REPLY_NO_MEMORY, 0x82, "Out of memory"},
        {REPLY_READ_ONLY, 0x84, "The disk refuses writes"},
        {REPLY_UNREADABLE, 0x84, "Cannot read the value from disk"},
        {REPLY_READ_NO_MEMORY, 0x82, "Out of memory"},
        {REPLY_CONTENDED, 0x85, "The item keeps changing, try again"},
    };
    const struct request set = request_of(0x01, OP_SET, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct reply reply = {.status = rows[i].status};
        answer(&set, &reply);
        assert_int_equal(wire.data[6] << 8 | (unsigned char)wire.data[7], rows[i].code);
        assert_int_equal(wire.len, 24 + strlen(rows[i].text));
        assert_memory_equal(wire.data + 24, rows[i].text, wire.len - 24);
    }
}

static void test_the_version_and_one_that_is_too_long(void **state)
{
    (void)state;
    const struct request version = request_of(0x0b, OP_VERSION, 0);
    static char text[2 * BINARY_REPLY_MAX];
    const struct reply reply = {.status = REPLY_VERSION, .text = "1.6.45", .text_len = 6};
    answer(&version, &reply);
    expect("\x0b", "\0\0\0\0\0\0", "\0\0\0\6", CAS_0, "1.6.45", 6);
    const struct reply longer = {.status = REPLY_VERSION, .text = text, .text_len = sizeof text};
    answer(&version, &longer);
    assert_int_equal(wire.len, BINARY_REPLY_MAX);
}

static void test_sasl_leaves_its_value_to_the_caller(void **state)
{
    (void)state;
    const struct request auth = request_of(0x21, OP_SASL_AUTH, 0);
    const struct reply more = {.status = REPLY_SASL_CONTINUE, .value = "more", .value_len = 4};
    answer(&auth, &more);
    expect("\x21", "\0\0\0\0\0\x21", "\0\0\0\4", CAS_0, "", 0);
}

static void test_the_longest_head_fits(void **state)
{
    (void)state;
    static const char key[KEY_LEN_MAX] = {0};
    struct request longest = request_of(0x0c, OP_GET, REQUEST_SHOW_KEY);
    longest.key = (struct bytes){key, sizeof key};
    const struct reply reply = {.status = REPLY_VALUE, .value_len = 1 << 30};
    assert_int_equal(reply_head(&longest, &reply, guard_page() - BINARY_REPLY_MAX), 24 + 4 + 250);
}

static void test_a_part_of_several(void **state)
{
    (void)state;
    const struct request stat = request_of(0x10, OP_STATS, 0);
    char *room = guard_page() - BINARY_REPLY_MAX;
    wire.len = binary_reply_part(&stat, (struct bytes){"pid", 3}, 5, room);
    memcpy(wire.data, room, wire.len);
    expect("\x10", "\0\3\0\0\0\0", "\0\0\0\x08", CAS_0, "pid", 3);
    wire.len = binary_reply_part(&stat, (struct bytes){0}, 0, room);
    memcpy(wire.data, room, wire.len);
    expect("\x10", "\0\0\0\0\0\0", "\0\0\0\0", CAS_0, "", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hit_has_flags_and_value),
        cmocka_unit_test(test_the_hit_of_a_getk_has_the_key),
        cmocka_unit_test(test_a_miss_says_so_or_shows_the_key),
        cmocka_unit_test(test_a_quiet_get_hides_its_miss_alone),
        cmocka_unit_test(test_a_quiet_write_hides_success_alone),
        cmocka_unit_test(test_a_write_shows_its_cas),
        cmocka_unit_test(test_a_number_has_8_bytes),
        cmocka_unit_test(test_a_touch_shows_flags_and_cas),
        cmocka_unit_test(test_why_nothing_was_stored),
        cmocka_unit_test(test_errors_are_memcacheds),
        cmocka_unit_test(test_the_version_and_one_that_is_too_long),
        cmocka_unit_test(test_sasl_leaves_its_value_to_the_caller),
        cmocka_unit_test(test_the_longest_head_fits),
        cmocka_unit_test(test_a_part_of_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
