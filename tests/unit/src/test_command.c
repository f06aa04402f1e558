/* test_command.c: the commands on a store that answers whatever the test wants: each status has one
 * answer, in every command, and none is asked for ever.
 *
 * The functions of the store are here, and those of others that a command may call.
 */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/server_log.h"
#include "src/command/internal.h"

#define UNREADABLE "SERVER_ERROR cannot read the value from disk\r\n"
#define NO_ROOM    "SERVER_ERROR out of memory reading the value\r\n"
#define READ_ONLY  "SERVER_ERROR the disk refuses writes\r\n"
#define FULL       "SERVER_ERROR out of memory storing object\r\n"
#define CONTENDED  "SERVER_ERROR the item keeps changing, try again\r\n"

/* The store. */

static struct {
    enum store_status get, write, fetch_now;
    uint8_t state; /* of the item */
    uint32_t gets, writes, fetches;
} store;

enum store_status store_get(struct store_session *session, const struct store_key *key,
                            struct store_fetch *fetch, struct store_item *item)
{
    (void)session, (void)key, (void)fetch;
    store.gets++;
    *item = (struct store_item){.value = "7",
                                .value_len = 1,
                                .cas = 5,
                                .location = 8,
                                .in_ram = true,
                                .state = store.state};
    return store.get;
}

enum store_status store_get_no_touch(struct store_session *session, const struct store_key *key,
                                     struct store_fetch *fetch, struct store_item *item)
{
    return store_get(session, key, fetch, item);
}

enum store_status store_put(struct store_session *session, const struct store_key *key,
                            struct store_put *put)
{
    (void)session, (void)key, (void)put;
    store.writes++;
    return store.write;
}

enum store_status store_delete(struct store_session *session, const struct store_key *key,
                               enum store_condition condition, uint64_t location)
{
    (void)session, (void)key, (void)condition, (void)location;
    store.writes++;
    return store.write;
}

enum store_status store_touch(struct store_session *session, const struct store_key *key,
                              uint32_t expire_s, enum store_condition condition, uint64_t location)
{
    (void)expire_s;
    return store_delete(session, key, condition, location);
}

enum store_status store_flush(struct store_session *session, uint32_t when_s)
{
    (void)session, (void)when_s;
    store.writes++;
    return store.write;
}

uint64_t store_item_size(uint32_t key_len, uint64_t value_len)
{
    return key_len + value_len;
}

uint64_t store_answer_lsn(struct store_session *session)
{
    (void)session;
    return 0;
}

enum store_status store_fetch_now(struct store_session *session, struct store_fetch *fetch)
{
    (void)session, (void)fetch;
    return store.fetch_now;
}

void store_fetch_start(struct store_session *session, struct store_fetch *fetch)
{
    (void)session, (void)fetch;
    store.fetches++;
}

size_t store_fetch_size(const struct store_fetch *fetch)
{
    (void)fetch;
    return 1;
}

void store_fetch_release(struct store_fetch *fetch)
{
    memset(fetch, 0, sizeof *fetch);
}

void *store_pin(struct store_session *session, const struct store_item *item)
{
    (void)session, (void)item;
    return NULL;
}

void store_unpin(void *pin)
{
    (void)pin;
}

/* The other functions that commands call. */

void server_log(const char *format, ...)
{
    (void)format;
}

bool server_log_may_repeat(_Atomic uint32_t *last_s, uint32_t now_s)
{
    (void)last_s, (void)now_s;
    return true;
}

enum run_result admin_run(const struct command *command)
{
    (void)command;
    return RUN_DONE;
}

enum run_result binary_run_stats(const struct command *command)
{
    return admin_run(command);
}

enum run_result auth_run_password(const struct command *command)
{
    return admin_run(command);
}

enum run_result auth_run_sasl(const struct command *command)
{
    return admin_run(command);
}

void watch_ran(const struct watch_writer *writer, const struct observed_request *observed)
{
    (void)writer, (void)observed;
}

void watch_got(const struct watch_writer *writer, const struct observed_request *observed,
               bool found, size_t value_len)
{
    (void)writer, (void)observed, (void)found, (void)value_len;
}

void watch_stored(const struct watch_writer *writer, const struct observed_request *observed,
                  enum reply_status status, uint32_t now_s)
{
    (void)writer, (void)observed, (void)status, (void)now_s;
}

void watch_deleted(const struct watch_writer *writer, const struct observed_request *observed,
                   bool found)
{
    (void)writer, (void)observed, (void)found;
}

void watch_system(const struct watch_writer *writer, const char *type, const char *name,
                  uint64_t number)
{
    (void)writer, (void)type, (void)name, (void)number;
}

/* One command. */

static struct commands commands;
static struct client *const client = &commands.client;
static const char *const answer = commands.answer;

#define SPACE_SINCE_S 999999 /* a second ago: a wait of now goes on */

/* The client has found no space for as long as anybody may wait for some. */
static bool waited_long;

static bool waits_for_space(void)
{
    return client_waits_for(client, WAIT_SPACE);
}

static bool has_written(void)
{
    return client->space_since_s == 0;
}

/* Runs it once, or once more after it has waited. */
static void run_again(void)
{
    client_end_wait(client, WAIT_TO_RUN);
    commands.context.fetches.under_way -= client->fetching;
    client->fetching = 0;
    commands_run(&commands);
}

static void run(const char *line)
{
    commands_parse(&commands, line, strlen(line));
    store.gets = store.writes = store.fetches = 0;
    client->space_since_s =
        waited_long ? commands.context.now_s - CLIENT_WAIT_MAX_S : SPACE_SINCE_S;
    run_again();
}

static void expect(const char *line, const char *wanted)
{
    run(line);
    if (strcmp(answer, wanted) != 0)
        print_error("%s", line);
    assert_string_equal(answer, wanted);
    assert_int_equal(commands.result, RUN_DONE);
}

static int set_up(void **state)
{
    (void)state;
    memset(&store, 0, sizeof store);
    commands_init(&commands);
    waited_long = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    commands_release(&commands);
    return 0;
}

/* Commands that read the value, and their answers when there is none. Those with a second answer
 * create the item. */
static const struct looking {
    const char *line, *miss;
    bool makes, writes; /* on a miss, on a hit */
} looking[] = {
    {"get k\r\n", "END\r\n", false, false},
    {"gets k\r\n", "END\r\n", false, false},
    {"gat 5 k\r\n", "END\r\n", false, true},
    {"cas k 0 0 1 5\r\nx\r\n", "NOT_FOUND\r\n", false, true},
    {"append k 0 0 1\r\n1\r\n", "NOT_STORED\r\n", false, true},
    {"prepend k 0 0 1\r\n1\r\n", "NOT_STORED\r\n", false, true},
    {"incr k 1\r\n", "NOT_FOUND\r\n", false, true},
    {"decr k 1\r\n", "NOT_FOUND\r\n", false, true},
    {"mg k v\r\n", "EN\r\n", false, false},
    {"mg k T5\r\n", "EN\r\n", false, true},
    {"mg k N0 T5 v\r\n", "VA 0 W\r\n\r\n", true, true},
    {"ms k 1 C5\r\nx\r\n", "NF\r\n", false, true},
    {"ms k 1 C4 I\r\nx\r\n", "NF\r\n", false, true},
    {"ms k 1 MA\r\n1\r\n", "NS\r\n", false, true},
    {"ms k 1 MP N0\r\n1\r\n", "HD\r\n", true, true},
    {"md k C5\r\n", "NF\r\n", false, true},
    {"md k I\r\n", "NF\r\n", false, true},
    {"md k x\r\n", "NF\r\n", false, true},
    {"ma k\r\n", "NF\r\n", false, true},
    {"ma k N0 J5 v\r\n", "VA 1\r\n5\r\n", true, true},
    {"me k\r\n", "EN\r\n", false, false},
};

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static void test_only_what_is_not_found_is_absent(void **state)
{
    (void)state;
    static const enum store_status absent[] = {STORE_NOT_FOUND, STORE_CORRUPT};
    for (size_t status = 0; status < COUNT(absent); status++)
        for (size_t row = 0; row < COUNT(looking); row++) {
            store.get = absent[status];
            expect(looking[row].line, looking[row].miss);
            assert_int_equal(store.writes, looking[row].makes);
        }
}

static void test_what_cannot_be_looked_at_is_an_error_and_nothing_is_written(void **state)
{
    (void)state;
    static const struct {
        enum store_status status;
        const char *error;
    } errors[] = {
        {STORE_IO, UNREADABLE},
        {STORE_NO_MEMORY, NO_ROOM},
        {STORE_READ_ONLY, READ_ONLY},
        {STORE_FULL, FULL},
    };
    for (size_t error = 0; error < COUNT(errors); error++)
        for (size_t row = 0; row < COUNT(looking); row++) {
            store.get = errors[error].status;
            expect(looking[row].line, errors[error].error);
            assert_int_equal(store.writes, 0);
            assert_int_equal(store.gets, 1);
            assert_false(has_written());
        }
    const struct counters *counters = &commands.context.counters;
    assert_int_equal(counters->get_misses + counters->touch_misses + counters->cas_misses +
                         counters->incr_misses + counters->decr_misses + counters->delete_misses,
                     0);
}

/* Those that write without a look. */
static const struct {
    const char *line, *done, *unfit; /* the condition does not hold */
} writing[] = {
    {"set k 0 0 1\r\nx\r\n", "STORED\r\n", NULL},
    {"add k 0 0 1\r\nx\r\n", "STORED\r\n", "NOT_STORED\r\n"},
    {"replace k 0 0 1\r\nx\r\n", "STORED\r\n", "NOT_STORED\r\n"},
    {"delete k\r\n", "DELETED\r\n", "NOT_FOUND\r\n"},
    {"touch k 5\r\n", "TOUCHED\r\n", "NOT_FOUND\r\n"},
    {"flush_all\r\n", "OK\r\n", NULL},
    {"ms k 1\r\nx\r\n", "HD\r\n", NULL},
    {"ms k 1 ME\r\nx\r\n", "HD\r\n", "NS\r\n"},
    {"md k\r\n", "HD\r\n", "NF\r\n"},
};

static void test_each_status_of_a_write_has_one_answer(void **state)
{
    (void)state;
    static const struct {
        enum store_status status;
        const char *error;
    } errors[] = {{STORE_READ_ONLY, READ_ONLY}, {STORE_FULL, FULL}};
    for (size_t row = 0; row < COUNT(writing); row++) {
        store.write = STORE_OK;
        expect(writing[row].line, writing[row].done);
        assert_true(has_written());
        store.write = STORE_NOT_FOUND;
        if (writing[row].unfit)
            expect(writing[row].line, writing[row].unfit);
    }
    for (size_t error = 0; error < COUNT(errors); error++) {
        store.write = errors[error].status;
        for (size_t row = 0; row < COUNT(writing); row++) {
            expect(writing[row].line, errors[error].error);
            assert_false(has_written());
        }
        for (size_t row = 0; row < COUNT(looking); row++)
            if (looking[row].writes)
                expect(looking[row].line, errors[error].error);
    }
}

static void test_a_value_too_large_whose_predecessor_stays_says_why(void **state)
{
    (void)state;
    parser_init(&client->parser, PROTOCOL_TEXT, 100);
    store.write = STORE_READ_ONLY;
    expect("set k 0 0 200\r\n", READ_ONLY);
}

static void test_what_must_wait_for_room_is_parked_and_says_nothing(void **state)
{
    (void)state;
    store.write = STORE_WAIT_SPACE;
    for (size_t row = 0; row < COUNT(looking); row++) {
        if (!looking[row].writes)
            continue;
        run(looking[row].line);
        assert_int_equal(commands.result, RUN_WAIT);
        assert_string_equal(answer, "");
        assert_true(waits_for_space());
    }
    for (size_t row = 0; row < COUNT(writing); row++) {
        run(writing[row].line);
        assert_int_equal(commands.result, RUN_WAIT);
    }
}

/* The right to recreate an item is granted only if the grant can be written to the log. If it
 * cannot, even after a wait, the get goes on. */
static void test_a_get_of_a_stale_item_is_answered_where_nothing_can_be_written(void **state)
{
    (void)state;
    static const enum store_status statuses[] = {STORE_FULL, STORE_WAIT_SPACE, STORE_READ_ONLY};
    store.state = STORE_STATE_STALE;
    expect("mg k v\r\n", "VA 1 X W\r\n7\r\n");
    store.write = STORE_WAIT_SPACE;
    run("mg k v\r\n");
    assert_int_equal(commands.result, RUN_WAIT);
    assert_int_equal(commands.waits[__builtin_ctz(WAIT_SPACE)], 1);
    waited_long = true;
    for (size_t i = 0; i < COUNT(statuses); i++) {
        store.write = statuses[i];
        expect("mg k v\r\n", "VA 1 X\r\n7\r\n");
        assert_int_equal(store.writes, 1);
        assert_false(waits_for_space() || has_written());
    }
    store.write = STORE_FULL;
    expect("mg k T5 v\r\n", FULL);
}

/* G8. */
static void test_what_has_waited_long_enough_is_refused(void **state)
{
    (void)state;
    store.write = STORE_WAIT_SPACE;
    waited_long = true;
    for (size_t row = 0; row < COUNT(writing); row++) {
        run(writing[row].line);
        assert_int_equal(commands.result, RUN_DONE);
        assert_false(waits_for_space());
        assert_non_null(strstr(answer, "SERVER_ERROR out of memory storing object"));
    }
}

/* The condition of a write never holds: others have always been faster, or two keys look the same
 * to the store. */
static void test_an_item_that_keeps_changing_is_given_up(void **state)
{
    (void)state;
    static const enum store_status gets[] = {STORE_OK, STORE_NOT_FOUND};
    static const enum store_status writes[] = {STORE_EXISTS, STORE_NOT_FOUND};
    for (size_t get = 0; get < COUNT(gets); get++)
        for (size_t write = 0; write < COUNT(writes); write++)
            for (size_t row = 0; row < COUNT(looking); row++) {
                store.get = gets[get];
                store.write = writes[write];
                if (!(get ? looking[row].makes : looking[row].writes))
                    continue;
                if (get && write)
                    continue; /* what makes an item never finds that it is missing */
                expect(looking[row].line, CONTENDED);
                assert_int_equal(store.gets, COMMAND_LOOK_UPS_MAX);
                expect("get none\r\n", get ? "END\r\n" : "VALUE none 0 1\r\n7\r\nEND\r\n");
            }
}

static void test_a_place_that_keeps_changing_is_given_up_when_it_is_read_at_once(void **state)
{
    (void)state;
    store.get = STORE_WAIT_READ;
    for (size_t row = 0; row < COUNT(looking); row++) {
        expect(looking[row].line, CONTENDED);
        assert_int_equal(store.gets, COMMAND_LOOK_UPS_MAX);
    }
}

static void test_a_place_that_keeps_changing_is_given_up_when_it_is_waited_for(void **state)
{
    (void)state;
    store.get = STORE_WAIT_READ;
    store.fetch_now = STORE_WAIT_READ;
    for (size_t row = 0; row < COUNT(looking); row++) {
        commands_parse(&commands, looking[row].line, strlen(looking[row].line));
        uint32_t turns = 0;
        for (run_again(); commands.result == RUN_WAIT && turns < 1000; run_again()) {
            assert_true(client_waits_for(client, WAIT_READ));
            turns++;
        }
        assert_int_equal(turns, COMMAND_LOOK_UPS_MAX);
        assert_string_equal(answer, CONTENDED);
        assert_int_equal(client->cold_count, 0);
    }
}

static void test_who_waits_for_room_may_look_as_often_as_there_is_none(void **state)
{
    (void)state;
    static const char line[] = "incr k 1\r\n";
    store.write = STORE_WAIT_SPACE;
    commands_parse(&commands, line, strlen(line));
    for (int i = 0; i < 5 * COMMAND_LOOK_UPS_MAX; i++) {
        run_again();
        assert_int_equal(commands.result, RUN_WAIT);
        assert_true(waits_for_space());
    }
    store.write = STORE_OK;
    run_again();
    assert_string_equal(answer, "8\r\n");
}

/* The first of a pipeline waits, its next requests are refused at once, and much later one waits
 * again. */
static void test_who_finds_no_space_waits_and_is_refused_and_waits_again_later(void **state)
{
    (void)state;
    static const char line[] = "set k 0 0 1\r\nx\r\n";
    static const struct {
        uint32_t later_s;
        enum run_result result;
    } runs[] = {
        {0, RUN_WAIT}, {CLIENT_WAIT_MAX_S - 1, RUN_WAIT}, {1, RUN_DONE},
        {0, RUN_DONE}, {CLIENT_WAIT_MAX_S - 1, RUN_DONE}, {1, RUN_WAIT},
    };
    store.write = STORE_WAIT_SPACE;
    for (size_t i = 0; i < COUNT(runs); i++) {
        commands.context.now_s += runs[i].later_s;
        commands_parse(&commands, line, strlen(line));
        run_again();
        assert_int_equal(commands.result, runs[i].result);
        assert_int_equal(waits_for_space(), runs[i].result == RUN_WAIT);
        assert_string_equal(answer, runs[i].result == RUN_WAIT ? "" : FULL);
    }
    store.write = STORE_OK;
    run_again();
    assert_string_equal(answer, "STORED\r\n");
    assert_int_equal(client->space_since_s, 0);
}

static void test_an_error_closes_a_line_of_several_keys(void **state)
{
    (void)state;
    static const char line[] = "get a b\r\n";
    struct command *command = &commands.command;
    size_t consumed, need = 0;
    store.get = STORE_IO;
    assert_int_equal(
        parser_next(&client->parser, line, strlen(line), &command->request, &consumed, &need),
        PARSE_REQUEST);
    command->key.len = 1;
    run_again();
    assert_int_equal(commands.result, RUN_CLOSE);
    command->parser_before = client->parser;
    assert_int_equal(parser_next(&client->parser, line + consumed, strlen(line) - consumed,
                                 &command->request, &consumed, &need),
                     PARSE_REQUEST);
    run_again();
    assert_int_equal(commands.result, RUN_CLOSE);
    assert_string_equal(answer, UNREADABLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_is_not_found_is_absent),
        TEST(what_cannot_be_looked_at_is_an_error_and_nothing_is_written),
        TEST(each_status_of_a_write_has_one_answer),
        TEST(a_value_too_large_whose_predecessor_stays_says_why),
        TEST(what_must_wait_for_room_is_parked_and_says_nothing),
        TEST(a_get_of_a_stale_item_is_answered_where_nothing_can_be_written),
        TEST(what_has_waited_long_enough_is_refused),
        TEST(an_item_that_keeps_changing_is_given_up),
        TEST(a_place_that_keeps_changing_is_given_up_when_it_is_read_at_once),
        TEST(a_place_that_keeps_changing_is_given_up_when_it_is_waited_for),
        TEST(who_waits_for_room_may_look_as_often_as_there_is_none),
        TEST(who_finds_no_space_waits_and_is_refused_and_waits_again_later),
        TEST(an_error_closes_a_line_of_several_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
