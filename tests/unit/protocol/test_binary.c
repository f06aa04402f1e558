/* test_binary.c: what the binary parser makes of a stream.
 *
 * Packets are written from their parts, and the parser's result is compared as text (stream.h).
 * Every row is parsed alone, all rows as one stream, that stream cut at every byte, and as each of
 * its prefixes.
 */
#include <endian.h>
#include <inttypes.h>
#include <time.h>

#include "tests/unit/protocol/stream.h"
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#define ITEM_SIZE_MAX 4096
#define ANY_LEN       SIZE_MAX

#define K50           "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define K250          K50 K50 K50 K50 K50

struct packet {
    uint8_t opcode;
    const char *extras; /* in hexadecimal; NULL: none */
    const char *key;
    const char *value;
    uint64_t cas;
};

static char stream[STREAM_MAX];
static size_t stream_len;
static struct transcript whole, cut;

/* The header of a packet; lengths as given, whatever follows. */
static size_t write_header(char *out, uint8_t opcode, size_t extras_len, size_t key_len,
                           uint32_t body_len, uint64_t cas)
{
    const uint16_t key_len_be = htobe16((uint16_t)key_len);
    const uint32_t body_len_be = htobe32(body_len);
    const uint64_t cas_be = htobe64(cas);
    memset(out, 0x77, 24); /* data type, virtual bucket and opaque may be anything */
    out[0] = (char)0x80;
    out[1] = (char)opcode;
    memcpy(out + 2, &key_len_be, 2);
    out[4] = (char)extras_len;
    memcpy(out + 8, &body_len_be, 4);
    memcpy(out + 16, &cas_be, 8);
    return 24;
}

static size_t write_hex(char *out, const char *hex)
{
    size_t len = hex != NULL ? strlen(hex) / 2 : 0;
    for (size_t i = 0; i < len; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    return len;
}

static size_t write_packet(char *out, const struct packet *packet)
{
    size_t extras_len = write_hex(out + 24, packet->extras);
    size_t key_len = packet->key != NULL ? strlen(packet->key) : 0;
    size_t value_len = packet->value != NULL ? strlen(packet->value) : 0;
    size_t body_len = extras_len + key_len + value_len;
    write_header(out, packet->opcode, extras_len, key_len, (uint32_t)body_len, packet->cas);
    if (key_len > 0)
        memcpy(out + 24 + extras_len, packet->key, key_len);
    if (value_len > 0)
        memcpy(out + 24 + extras_len + key_len, packet->value, value_len);
    return 24 + body_len;
}

static void begin(void)
{
    stream_len = 0;
}

static void add(struct packet packet)
{
    stream_len += write_packet(stream + stream_len, &packet);
}

static void add_header(uint8_t opcode, size_t extras_len, size_t key_len, uint32_t body_len)
{
    stream_len += write_header(stream + stream_len, opcode, extras_len, key_len, body_len, 0);
}

static void add_noop(void)
{
    add((struct packet){.opcode = 0x0a});
}

/* The parser's result for the stream, whole and cut into bytes. */
static void expect(const char *requests)
{
    feed_as(PROTOCOL_BINARY, stream, stream_len, ANY_LEN, ITEM_SIZE_MAX, &whole);
    assert_string_equal(whole.text, requests);
    feed_as(PROTOCOL_BINARY, stream, stream_len, 1, ITEM_SIZE_MAX, &cut);
    assert_string_equal(cut.text, requests);
}

#define STORE "0000000700000009"
#define COUNT "000000000000000500000000000000640000000a"
#define NONE  "00000000000000050000000000000064ffffffff"
#define UNTIL "ffffffff"

static const struct {
    struct packet packet;
    const char *request;
} rows[] = {
    {{0x00, NULL, "a", NULL, 0}, "get key=a show-cas"},
    {{0x01, STORE, "a", "x", 0}, "set key=a flags=7 exptime=9 value=x show-cas"},
    {{0x01, STORE, "a", NULL, 0}, "set key=a flags=7 exptime=9 value= show-cas"},
    {{0x01, STORE, "a", "x", 3}, "cas key=a flags=7 exptime=9 cas=3 value=x show-cas"},
    {{0x02, STORE, "a", "x", 0}, "add key=a flags=7 exptime=9 value=x show-cas"},
    {{0x02, STORE, "a", "x", 3}, "cas key=a flags=7 exptime=9 cas=3 value=x show-cas"},
    {{0x03, STORE, "a", "x", 0}, "replace key=a flags=7 exptime=9 value=x show-cas"},
    {{0x03, STORE, "a", "x", 3}, "cas key=a flags=7 exptime=9 cas=3 value=x show-cas"},
    {{0x04, NULL, "a", NULL, 0}, "delete key=a show-cas"},
    {{0x04, NULL, "a", NULL, 3}, "delete key=a cas=3 show-cas"},
    {{0x05, COUNT, "a", NULL, 0}, "incr key=a exptime=10 delta=5 initial=100 show-cas create"},
    {{0x05, COUNT, "a", NULL, 3},
     "incr key=a exptime=10 cas=3 delta=5 initial=100 show-cas create"},
    {{0x05, NONE, "a", NULL, 0}, "incr key=a exptime=4294967295 delta=5 initial=100 show-cas"},
    {{0x06, COUNT, "a", NULL, 0}, "decr key=a exptime=10 delta=5 initial=100 show-cas create"},
    {{0x07, NULL, NULL, NULL, 0}, "quit show-cas"},
    {{0x08, NULL, NULL, NULL, 0}, "flush_all show-cas"},
    {{0x08, "0000000a", NULL, NULL, 0}, "flush_all exptime=10 show-cas"},
    {{0x09, NULL, "a", NULL, 0}, "get key=a show-cas quiet"},
    {{0x0a, NULL, NULL, NULL, 0}, "noop show-cas"},
    {{0x0b, NULL, NULL, NULL, 0}, "version show-cas"},
    {{0x0c, NULL, "a", NULL, 0}, "get key=a show-cas show-key"},
    {{0x0d, NULL, "a", NULL, 0}, "get key=a show-cas quiet show-key"},
    {{0x0e, NULL, "a", "x", 0}, "append key=a value=x show-cas"},
    {{0x0e, NULL, "a", "x", 3}, "append key=a cas=3 value=x show-cas"},
    {{0x0f, NULL, "a", "x", 0}, "prepend key=a value=x show-cas"},
    {{0x10, NULL, NULL, NULL, 0}, "stats show-cas"},
    {{0x10, NULL, "detail dump", NULL, 0}, "stats args=detail dump show-cas"},
    {{0x11, STORE, "a", "x", 0}, "set key=a flags=7 exptime=9 value=x show-cas quiet"},
    {{0x12, STORE, "a", "x", 0}, "add key=a flags=7 exptime=9 value=x show-cas quiet"},
    {{0x13, STORE, "a", "x", 0}, "replace key=a flags=7 exptime=9 value=x show-cas quiet"},
    {{0x14, NULL, "a", NULL, 0}, "delete key=a show-cas quiet"},
    {{0x15, NONE, "a", NULL, 0},
     "incr key=a exptime=4294967295 delta=5 initial=100 show-cas quiet"},
    {{0x16, NONE, "a", NULL, 0},
     "decr key=a exptime=4294967295 delta=5 initial=100 show-cas quiet"},
    {{0x17, NULL, NULL, NULL, 0}, "quit show-cas quiet"},
    {{0x18, NULL, NULL, NULL, 0}, "flush_all show-cas quiet"},
    {{0x19, NULL, "a", "x", 0}, "append key=a value=x show-cas quiet"},
    {{0x1a, NULL, "a", "x", 0}, "prepend key=a value=x show-cas quiet"},
    {{0x1c, UNTIL, "a", NULL, 0}, "touch key=a exptime=4294967295 show-cas"},
    {{0x1d, UNTIL, "a", NULL, 0}, "get key=a exptime=4294967295 show-cas touch"},
    {{0x1e, UNTIL, "a", NULL, 0}, "get key=a exptime=4294967295 show-cas touch quiet"},
    {{0x20, NULL, NULL, NULL, 0}, "sasl_list show-cas"},
    {{0x21, NULL, "PLAIN", "x", 0}, "sasl_auth value=x args=PLAIN show-cas"},
    {{0x22, NULL, "PLAIN", "x", 0}, "sasl_step value=x args=PLAIN show-cas"},
    {{0x23, UNTIL, "a", NULL, 0}, "get key=a exptime=4294967295 show-cas touch show-key"},
    {{0x24, UNTIL, "a", NULL, 0}, "get key=a exptime=4294967295 show-cas touch quiet show-key"},
    {{0x00, NULL, K250, NULL, 0}, "get key=" K250 " show-cas"},
};

#define ROW_COUNT (sizeof rows / sizeof *rows)

static void test_each_packet_gives_its_request(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        begin();
        add(rows[i].packet);
        expect(rows[i].request);
    }
}

static void add_all_rows(void)
{
    begin();
    for (size_t i = 0; i < ROW_COUNT; i++)
        add(rows[i].packet);
}

static void test_it_does_not_matter_how_the_bytes_arrive(void **state)
{
    (void)state;
    add_all_rows();
    feed_as(PROTOCOL_BINARY, stream, stream_len, ANY_LEN, ITEM_SIZE_MAX, &whole);
    assert_int_equal(whole.requests, ROW_COUNT);
    for (size_t step = 1; step < stream_len; step++) {
        feed_as(PROTOCOL_BINARY, stream, stream_len, step, ITEM_SIZE_MAX, &cut);
        assert_string_equal(cut.text, whole.text);
    }
}

static void test_a_prefix_gives_the_requests_that_are_whole(void **state)
{
    (void)state;
    size_t ends[ROW_COUNT];
    begin();
    for (size_t i = 0; i < ROW_COUNT; i++) {
        add(rows[i].packet);
        ends[i] = stream_len;
    }
    feed_as(PROTOCOL_BINARY, stream, stream_len, ANY_LEN, ITEM_SIZE_MAX, &whole);
    size_t requests = 0;
    for (size_t prefix = 0; prefix <= stream_len; prefix++) {
        while (requests < ROW_COUNT && ends[requests] <= prefix)
            requests++;
        feed_as(PROTOCOL_BINARY, stream, prefix, ANY_LEN, ITEM_SIZE_MAX, &cut);
        assert_int_equal(cut.requests, requests);
        assert_memory_equal(cut.text, whole.text, cut.len);
    }
}

static void check_needs(size_t from, size_t to, size_t want)
{
    for (size_t have = from; have < to; have++) {
        struct parser parser;
        struct request request;
        size_t consumed, need;
        parser_init(&parser, PROTOCOL_BINARY, ITEM_SIZE_MAX);
        assert_int_equal(
            parser_next(&parser, at_the_edge(stream, have), have, &request, &consumed, &need),
            PARSE_PARTIAL);
        assert_int_equal(consumed, 0);
        assert_int_equal(need, want);
    }
}

static void test_a_partial_request_tells_how_much_it_needs(void **state)
{
    (void)state;
    begin();
    add((struct packet){.opcode = 0x01, .extras = STORE, .key = "key", .value = "a value"});
    check_needs(1, 24, 24);
    check_needs(24, stream_len, stream_len);
    begin();
    add_header(0x01, 8, 3, 8 + 3 + ITEM_SIZE_MAX);
    stream_len += 11;
    check_needs(24, stream_len, 24 + 11); /* of a value that is refused nothing */
}

static void test_bad_extras_close(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct packet packet = rows[i].packet;
        packet.extras = "aabbcc";
        begin();
        add(packet);
        add_noop();
        expect("CLIENT_ERROR bad command line format close");
    }
}

static void test_a_missing_key_or_one_too_many_closes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct packet packet = rows[i].packet;
        if (packet.opcode == 0x10)
            continue;
        packet.key = packet.key != NULL ? NULL : "k";
        begin();
        add(packet);
        add_noop();
        expect("CLIENT_ERROR bad command line format close");
    }
}

static void test_a_value_where_there_is_none_closes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct packet packet = rows[i].packet;
        if (packet.value != NULL || packet.opcode == 0x01)
            continue;
        packet.value = "x";
        begin();
        add(packet);
        add_noop();
        expect("CLIENT_ERROR bad command line format close");
    }
}

static void test_a_key_over_250_bytes_closes_at_its_header(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        begin();
        add_header((uint8_t)opcode, 0, 251, 251);
        expect("CLIENT_ERROR bad command line format close");
        begin();
        add_header((uint8_t)opcode, 0, 65535, UINT32_MAX);
        expect("CLIENT_ERROR bad command line format close");
    }
}

static void test_lengths_that_do_not_fit_together_close(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        begin();
        add_header((uint8_t)opcode, 8, 3, 10);
        expect("ERROR close");
        begin();
        add_header((uint8_t)opcode, 255, 65535, 0);
        expect("ERROR close");
    }
}

static bool is_known(unsigned opcode)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (rows[i].packet.opcode == opcode)
            return true;
    return false;
}

static void test_an_unknown_opcode_is_an_error_and_its_body_is_dropped(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        if (is_known(opcode))
            continue;
        begin();
        add((struct packet){(uint8_t)opcode, "00", "key", "\x80 a value\n", 5});
        add_noop();
        expect("ERROR | noop show-cas");
    }
}

static void test_a_body_of_4_gib_is_dropped_as_it_comes(void **state)
{
    (void)state;
    struct parser parser;
    struct request request;
    size_t consumed, need;
    uint64_t left = UINT32_MAX;
    static char block[1 << 20];
    memset(block, 0x80, sizeof block);
    parser_init(&parser, PROTOCOL_BINARY, ITEM_SIZE_MAX);
    begin();
    add_header(0x30, 0, 0, UINT32_MAX);
    assert_int_equal(parser_next(&parser, stream, 24, &request, &consumed, &need), PARSE_REQUEST);
    while (left > sizeof block) {
        assert_int_equal(parser_next(&parser, block, sizeof block, &request, &consumed, &need),
                         PARSE_PARTIAL);
        assert_int_equal(consumed, sizeof block);
        left -= sizeof block;
    }
    assert_int_equal(parser_next(&parser, block, left, &request, &consumed, &need), PARSE_PARTIAL);
    begin();
    add_noop();
    assert_int_equal(parser_next(&parser, stream, 24, &request, &consumed, &need), PARSE_REQUEST);
    assert_int_equal(request.op, OP_NOOP);
}

/* A set of a value of that length, followed by a noop. */
static void add_large(uint8_t opcode, size_t value_len, uint64_t cas)
{
    static char value[2 * ITEM_SIZE_MAX];
    memset(value, 'x', value_len);
    value[value_len] = '\0';
    begin();
    add((struct packet){opcode, opcode == 0x0e ? NULL : STORE, "key", value, cas});
    add_noop();
}

static void test_a_value_of_exactly_the_item_limit_is_stored(void **state)
{
    (void)state;
    add_large(0x01, ITEM_SIZE_MAX - ITEM_OVERHEAD - 3, 0);
    feed_as(PROTOCOL_BINARY, stream, stream_len, ANY_LEN, ITEM_SIZE_MAX, &whole);
    assert_int_equal(whole.requests, 2);
    assert_null(strstr(whole.text, "too-large"));
}

static void test_a_larger_value_is_refused_and_dropped(void **state)
{
    (void)state;
    const size_t len = ITEM_SIZE_MAX - ITEM_OVERHEAD - 3 + 1;
    add_large(0x01, len, 0);
    expect("set key=key flags=7 exptime=9 show-cas too-large | noop show-cas");
    add_large(0x02, len, 0);
    expect("add key=key flags=7 exptime=9 show-cas too-large | noop show-cas");
    add_large(0x0e, len, 0);
    expect("append key=key show-cas too-large | noop show-cas");
    add_large(0x01, len, 3); /* removes the old value as any set does */
    expect("set key=key flags=7 exptime=9 cas=3 show-cas too-large | noop show-cas");
    add_large(0x03, len, 3);
    expect("cas key=key flags=7 exptime=9 cas=3 show-cas too-large | noop show-cas");
}

static void test_another_first_byte_closes_in_silence(void **state)
{
    (void)state;
    begin();
    add_noop();
    add_noop();
    stream[24] = (char)0x81;
    expect("noop show-cas |  close");
    memcpy(stream, "get a\r\n", 7);
    stream_len = 7;
    expect(" close");
}

static void test_auto_goes_by_the_first_byte(void **state)
{
    (void)state;
    begin();
    add_noop();
    feed_as(PROTOCOL_AUTO, stream, stream_len, 1, ITEM_SIZE_MAX, &whole);
    assert_string_equal(whole.text, "noop show-cas");
    feed_as(PROTOCOL_AUTO, "get a\r\n", 7, 1, ITEM_SIZE_MAX, &whole);
    assert_string_equal(whole.text, "get key=a");
    feed_as(PROTOCOL_AUTO, "\x81\n", 2, 1, ITEM_SIZE_MAX, &whole);
    assert_non_null(strstr(whole.text, "ERROR"));
    feed_as(PROTOCOL_TEXT, "\x80\n", 2, 1, ITEM_SIZE_MAX, &whole);
    assert_non_null(strstr(whole.text, "ERROR"));
}

#define FOR_STRANGERS                                                                              \
    (OP_BIT(OP_SASL_LIST) | OP_BIT(OP_SASL_AUTH) | OP_BIT(OP_SASL_STEP) | OP_BIT(OP_VERSION))

static void test_a_locked_parser_lets_only_what_it_was_told_through(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        struct parser parser;
        struct request request;
        size_t consumed, need;
        bool stranger = opcode == 0x0b || (opcode >= 0x20 && opcode <= 0x22);
        parser_init(&parser, PROTOCOL_BINARY, ITEM_SIZE_MAX);
        parser_lock(&parser, FOR_STRANGERS);
        begin();
        add_header((uint8_t)opcode, 0, 0, UINT32_MAX);
        enum parse_status status =
            parser_next(&parser, at_the_edge(stream, 24), 24, &request, &consumed, &need);
        assert_int_equal(status, PARSE_CLOSE);
        assert_int_equal(request.error == REPLY_SASL_FAILED, !stranger);
    }
}

static void test_what_follows_an_auth_waits_for_it(void **state)
{
    (void)state;
    struct parser parser;
    struct request request;
    size_t consumed, need;
    parser_init(&parser, PROTOCOL_BINARY, ITEM_SIZE_MAX);
    parser_lock(&parser, FOR_STRANGERS);
    begin();
    add((struct packet){.opcode = 0x21, .key = "PLAIN", .value = "x"});
    add_noop();
    assert_int_equal(parser_next(&parser, stream, stream_len, &request, &consumed, &need),
                     PARSE_PAUSE);
    parser_lock(&parser, 0);
    assert_int_equal(parser_next(&parser, stream + consumed, 24, &request, &consumed, &need),
                     PARSE_REQUEST);
    assert_int_equal(request.op, OP_NOOP);
}

static void test_a_stranger_cannot_announce_more_than_a_password(void **state)
{
    (void)state;
    begin();
    add_header(0x21, 0, 5, 5 + BINARY_SASL_MAX + 1);
    feed_as(PROTOCOL_BINARY, stream, stream_len, 1, ITEM_SIZE_MAX, &whole);
    assert_non_null(strstr(whole.text, "close"));
    begin();
    add_header(0x21, 0, 5, 5 + BINARY_SASL_MAX);
    feed_as(PROTOCOL_BINARY, stream, stream_len, 1, ITEM_SIZE_MAX, &whole);
    assert_string_equal(whole.text, "");
}

static void test_what_an_answer_repeats(void **state)
{
    (void)state;
    struct parser parser;
    struct request request;
    size_t consumed, need;
    parser_init(&parser, PROTOCOL_BINARY, ITEM_SIZE_MAX);
    begin();
    add((struct packet){.opcode = 0x0c, .key = "k"});
    memcpy(stream + 12, "\x01\x02\x03\x04", 4);
    parser_next(&parser, stream, stream_len, &request, &consumed, &need);
    assert_int_equal(request.protocol, PROTOCOL_BINARY);
    assert_int_equal(request.binary.opcode, 0x0c);
    assert_memory_equal(&request.binary.opaque, "\x01\x02\x03\x04", 4);
}

static struct rng rng;

/* Mostly packets in order; then a length that lies, or any byte changed. */
static void random_stream(void)
{
    begin();
    while (rng_below(&rng, 8) != 0) {
        size_t at = stream_len;
        add(rows[rng_below(&rng, ROW_COUNT)].packet);
        if (rng_below(&rng, 6) == 0)
            stream[at + 1] = (char)rng_below(&rng, 64);
        if (rng_below(&rng, 6) == 0)
            stream[at + rng_below(&rng, 12)] = (char)rng_below(&rng, 256);
        if (rng_below(&rng, 6) == 0)
            stream_len += rng_below(&rng, 64);
    }
}

static void test_random_streams_break_nothing_however_they_are_cut(void **state)
{
    (void)state;
    rng.state = number_from_env("SEED", (uint64_t)time(NULL));
    print_message("SEED=%" PRIu64 "\n", rng.state);
    for (int round = 0; round < 20000; round++) {
        random_stream();
        feed_as(PROTOCOL_BINARY, stream, stream_len, ANY_LEN, 400, &whole);
        feed_as(PROTOCOL_BINARY, stream, stream_len, 1 + rng_below(&rng, 64), 400, &cut);
        assert_string_equal(whole.text, cut.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_packet_gives_its_request),
        cmocka_unit_test(test_it_does_not_matter_how_the_bytes_arrive),
        cmocka_unit_test(test_a_prefix_gives_the_requests_that_are_whole),
        cmocka_unit_test(test_a_partial_request_tells_how_much_it_needs),
        cmocka_unit_test(test_bad_extras_close),
        cmocka_unit_test(test_a_missing_key_or_one_too_many_closes),
        cmocka_unit_test(test_a_value_where_there_is_none_closes),
        cmocka_unit_test(test_a_key_over_250_bytes_closes_at_its_header),
        cmocka_unit_test(test_lengths_that_do_not_fit_together_close),
        cmocka_unit_test(test_an_unknown_opcode_is_an_error_and_its_body_is_dropped),
        cmocka_unit_test(test_a_body_of_4_gib_is_dropped_as_it_comes),
        cmocka_unit_test(test_a_value_of_exactly_the_item_limit_is_stored),
        cmocka_unit_test(test_a_larger_value_is_refused_and_dropped),
        cmocka_unit_test(test_another_first_byte_closes_in_silence),
        cmocka_unit_test(test_auto_goes_by_the_first_byte),
        cmocka_unit_test(test_a_locked_parser_lets_only_what_it_was_told_through),
        cmocka_unit_test(test_what_follows_an_auth_waits_for_it),
        cmocka_unit_test(test_a_stranger_cannot_announce_more_than_a_password),
        cmocka_unit_test(test_what_an_answer_repeats),
        cmocka_unit_test(test_random_streams_break_nothing_however_they_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
