/* test_rights.c: each operation has a row, and each row is kept to: by the parsers, over UDP, with
 * each option. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "protocol/parser.h"
#include "src/command/rights.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static void test_each_operation_has_a_row(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        const struct rights *rights = &rights_of_ops[op];
        if (rights->answer == ANSWER_UNKNOWN)
            fail_msg("operation %d has no row in rights.c", op);
        assert_int_equal(rights->option != OPTION_NONE, rights->refusal != 0);
        assert_int_equal(rights->refusal == REPLY_TEXT, rights->text != NULL);
    }
}

static void parse_line(const char *line, struct request *request)
{
    struct parser parser;
    size_t consumed, need;
    parser_init(&parser, PROTOCOL_TEXT, 1 << 20);
    assert_int_equal(parser_next(&parser, line, strlen(line), request, &consumed, &need),
                     PARSE_REQUEST);
    assert_int_equal(consumed, strlen(line));
}

/* The answer to a line that may not be run: its text, or a stand-in for its status. */
static const char *refusal_of(const char *line, const struct settings *settings, bool udp)
{
    struct request request;
    struct reply refusal;
    parse_line(line, &request);
    bool may = rights_allow(settings, udp, &request, &refusal);
    if (rights_are_free(request.op))
        assert_true(may);
    if (may)
        return "";
    switch (refusal.status) {
    case REPLY_TEXT: assert_int_equal(refusal.text_len, strlen(refusal.text)); return refusal.text;
    case REPLY_ERROR: return "ERROR\r\n";
    case REPLY_FLUSH_DISABLED: return "flush_all";
    case REPLY_SHUTDOWN_DISABLED: return "shutdown";
    default: fail_msg("%s: %d", line, refusal.status); return NULL;
    }
}

#define WATCH    "CLIENT_ERROR watch commands not allowed\r\n"
#define CACHE    "CLIENT_ERROR stats cachedump not allowed\r\n"
#define METADUMP "ERROR metadump not allowed\r\n"
#define MGDUMP   "ERROR mgdump not allowed\r\n"

/* Each line, whether it is answered over UDP, and what it is answered without -A and with -F, -X
 * and -W. */
static const struct {
    const char *line;
    bool udp;
    const char *restricted;
} lines[] = {
    {"get k\r\n", true, ""},
    {"gats 5 k\r\n", true, ""},
    {"set k 0 0 1\r\nx\r\n", true, ""},
    {"add k 0 0 1\r\nx\r\n", true, ""},
    {"replace k 0 0 1\r\nx\r\n", true, ""},
    {"append k 0 0 1\r\nx\r\n", true, ""},
    {"prepend k 0 0 1\r\nx\r\n", true, ""},
    {"cas k 0 0 1 1\r\nx\r\n", true, ""},
    {"incr k 1\r\n", true, ""},
    {"decr k 1\r\n", true, ""},
    {"touch k 1\r\n", true, ""},
    {"delete k\r\n", true, ""},
    {"mg k v\r\n", true, ""},
    {"ms k 1\r\nx\r\n", true, ""},
    {"md k\r\n", true, ""},
    {"ma k\r\n", true, ""},
    {"me k\r\n", true, ""},
    {"mn\r\n", true, ""},
    {"nonsense\r\n", true, ""},
    {"version\r\n", true, ""},
    {"quit\r\n", true, ""},
    {"verbosity 1\r\n", true, ""},
    {"cache_memlimit 64\r\n", true, ""},
    {"cache_disklimit 64\r\n", true, ""},
    {"lru mode flat\r\n", true, ""},
    {"slabs automove 0\r\n", true, ""},
    {"refresh_certs\r\n", true, ""},
    {"flush_all\r\n", true, "flush_all"},
    {"shutdown\r\n", true, "shutdown"},
    {"shutdown graceful\r\n", true, "shutdown"},
    {"watch\r\n", false, WATCH},
    {"watch mutations\r\n", false, WATCH},
    {"stats\r\n", true, ""},
    {"stats   \r\n", true, ""},
    {"stats settings\r\n", true, ""},
    {"stats items\r\n", true, ""},
    {"stats slabs x\r\n", true, ""},
    {"stats store\r\n", true, ""},
    {"stats reset\r\n", true, ""},
    {"stats sizes_enable\r\n", true, ""},
    {"stats sizes_disable\r\n", true, ""},
    {"stats sizes\r\n", false, ""},
    {"stats conns\r\n", false, ""},
    {"stats detail dump\r\n", false, ""},
    {"stats detail on\r\n", false, ""},
    {"stats cachedump\r\n", false, CACHE},
    {"stats   cachedump   1 0\r\n", false, CACHE},
    {"stats a-new-group\r\n", false, ""},
    {"stats conn\r\n", false, ""},
    {"stats settingsx\r\n", false, ""},
    {"lru_crawler\r\n", false, ""},
    {"lru_crawler crawl all\r\n", true, ""},
    {"lru_crawler enable\r\n", true, ""},
    {"lru_crawler disable\r\n", true, ""},
    {"lru_crawler sleep 1\r\n", true, ""},
    {"lru_crawler tocrawl 1\r\n", true, ""},
    {"lru_crawler metadump all\r\n", false, METADUMP},
    {"lru_crawler  metadump  hash\r\n", false, METADUMP},
    {"lru_crawler mgdump 1\r\n", false, MGDUMP},
};

static void test_over_udp_only_what_has_a_bound_is_answered(void **state)
{
    (void)state;
    const struct settings settings = {.enable_shutdown = true};
    for (size_t i = 0; i < COUNT(lines); i++) {
        const char *refusal = refusal_of(lines[i].line, &settings, true);
        if (strcmp(refusal, lines[i].udp ? "" : "ERROR\r\n") != 0)
            fail_msg("%s over UDP: %s", lines[i].line, refusal);
        assert_string_equal(refusal_of(lines[i].line, &settings, false), "");
    }
}

static void test_what_the_operator_has_switched_off_is_refused(void **state)
{
    (void)state;
    const struct settings settings = {
        .disable_flush = true, .disable_dump = true, .disable_watch = true};
    for (size_t i = 0; i < COUNT(lines); i++) {
        const char *refusal = refusal_of(lines[i].line, &settings, false);
        if (strcmp(refusal, lines[i].restricted) != 0)
            fail_msg("%s: %s", lines[i].line, refusal);
    }
}

static void test_each_option_refuses_what_is_its_own(void **state)
{
    (void)state;
    const struct settings flush = {.disable_flush = true, .enable_shutdown = true};
    const struct settings dump = {.disable_dump = true, .enable_shutdown = true};
    const struct settings watch = {.disable_watch = true, .enable_shutdown = true};
    const struct settings shutdown = {0};
    for (size_t i = 0; i < COUNT(lines); i++) {
        const char *line = lines[i].line, *wanted = lines[i].restricted;
        bool dumps = wanted == strstr(wanted, CACHE) || strstr(wanted, "dump not allowed");
        assert_string_equal(refusal_of(line, &flush, false),
                            strcmp(wanted, "flush_all") == 0 ? wanted : "");
        assert_string_equal(refusal_of(line, &dump, false), dumps ? wanted : "");
        assert_string_equal(refusal_of(line, &watch, false),
                            strcmp(wanted, WATCH) == 0 ? wanted : "");
        assert_string_equal(refusal_of(line, &shutdown, false),
                            strcmp(wanted, "shutdown") == 0 ? wanted : "");
    }
}

static void test_lines_of_all_operations_of_text_were_tried(void **state)
{
    (void)state;
    static const enum request_op others[] = {OP_AUTHENTICATE, OP_NOOP, OP_SASL_LIST, OP_SASL_AUTH,
                                             OP_SASL_STEP};
    uint64_t tried = 0;
    for (size_t i = 0; i < COUNT(others); i++)
        tried |= OP_BIT(others[i]);
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct request request;
        parse_line(lines[i].line, &request);
        tried |= OP_BIT(request.op);
    }
    assert_int_equal(tried, UINT64_MAX >> (64 - OP_COUNT));
}

/* A text has no place in a binary answer. */
static void test_a_binary_request_is_refused_with_a_status(void **state)
{
    (void)state;
    const struct settings settings = {.disable_flush = true, .disable_dump = true};
    struct request request = {.protocol = PROTOCOL_BINARY, .op = OP_STATS};
    struct reply refusal;
    request.args = (struct bytes){"cachedump", 9};
    assert_false(rights_allow(&settings, false, &request, &refusal));
    assert_int_equal(refusal.status, REPLY_NOT_FOUND);
    assert_false(rights_allow(&settings, true, &request, &refusal));
    assert_int_equal(refusal.status, REPLY_ERROR);
    request.op = OP_FLUSH_ALL;
    assert_false(rights_allow(&settings, false, &request, &refusal));
    assert_int_equal(refusal.status, REPLY_FLUSH_DISABLED);
}

static void test_strangers_may_ask_for_version_and_authentication_alone(void **state)
{
    (void)state;
    assert_int_equal(rights_of_strangers(), OP_BIT(OP_VERSION) | OP_BIT(OP_AUTHENTICATE) |
                                                OP_BIT(OP_SASL_LIST) | OP_BIT(OP_SASL_AUTH) |
                                                OP_BIT(OP_SASL_STEP));
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        static const unsigned char opened[] = {0x0b, 0x20, 0x21, 0x22};
        char packet[BINARY_HEADER_LEN] = {(char)BINARY_MAGIC, (char)opcode, [8] = 127};
        struct parser parser;
        struct request request;
        size_t consumed, need;
        parser_init(&parser, PROTOCOL_BINARY, 1 << 20);
        parser_lock(&parser, rights_of_strangers());
        enum parse_status status =
            parser_next(&parser, packet, sizeof packet, &request, &consumed, &need);
        assert_int_equal(status,
                         PARSE_CLOSE); /* of the length that it announces, if it may be asked */
        assert_int_equal(request.error == REPLY_SASL_FAILED,
                         !memchr(opened, (int)opcode, sizeof opened));
    }
}

static void test_strangers_of_text_may_show_a_password_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct parser parser;
        struct request request;
        size_t consumed, need;
        bool set = strncmp(lines[i].line, "set ", 4) == 0;
        parser_init(&parser, PROTOCOL_TEXT, 1 << 20);
        parser_lock(&parser, rights_of_strangers());
        assert_int_equal(
            parser_next(&parser, lines[i].line, strlen(lines[i].line), &request, &consumed, &need),
            PARSE_REQUEST);
        assert_int_equal(request.op, set ? OP_AUTHENTICATE : OP_INVALID);
        assert_true(set || request.error == REPLY_UNAUTHENTICATED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_operation_has_a_row),
        cmocka_unit_test(test_over_udp_only_what_has_a_bound_is_answered),
        cmocka_unit_test(test_what_the_operator_has_switched_off_is_refused),
        cmocka_unit_test(test_each_option_refuses_what_is_its_own),
        cmocka_unit_test(test_lines_of_all_operations_of_text_were_tried),
        cmocka_unit_test(test_a_binary_request_is_refused_with_a_status),
        cmocka_unit_test(test_strangers_may_ask_for_version_and_authentication_alone),
        cmocka_unit_test(test_strangers_of_text_may_show_a_password_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
