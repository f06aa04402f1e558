/* What the commands mean, on a real store in a directory that vanishes, and without a socket: in
 * text, in the meta commands, and in the binary protocol where it differs.
 */
#define _GNU_SOURCE
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/command/internal.h"
#include "src/observe/stats.h"

/* There is no server whose statistics could be reported. */
enum stats_answer stats_each(const struct stats_source *source, const char *args, size_t args_len,
                             const struct stats_receiver *to)
{
    (void)source, (void)args, (void)args_len, (void)to;
    return STATS_UNKNOWN;
}

bool stats_text(const struct stats_source *source, const char *args, size_t args_len, char **text,
                size_t *len)
{
    (void)source, (void)args, (void)args_len, (void)text, (void)len;
    return false;
}

/* The store. */

static char path[] = "/var/tmp/cachecask-semantics-XXXXXX";
static int dir_fd;
static struct store *store;
static sem_t woken;
static _Atomic bool page_cache_is_cold;
static struct file_system files;

static struct commands commands;

static void wake(void *context)
{
    (void)context;
    sem_post(&woken);
}

static ssize_t read_nowait(void *context, int fd, void *data, size_t len, off_t offset)
{
    if (!page_cache_is_cold)
        return file_system_os.pread_nowait(context, fd, data, len, offset);
    errno = EAGAIN;
    return -1;
}

static void open_store(void)
{
    const struct store_options options = {
        .files = &files,
        .dir_fd = dir_fd,
        .dir_name = path,
        .memory_limit = STORE_MEMORY_MIN * 4,
        .segment_size = STORE_SEGMENT_SIZE_MIN * 4,
        .sync_interval_ms = STORE_SYNC_NEVER,
        .shard_count = 16,
        .reader_threads = 1,
        .no_uring = true,
        .now_s = commands.context.now_s,
    };
    assert_int_equal(store_open(&store, &options), STORE_OK);
    commands.context.store = store;
    commands.context.session = store_session_new(store, wake, NULL, -1);
    assert_non_null(commands.context.session);
    store_enter(commands.context.session, commands.context.now_s);
}

static void close_store(void)
{
    store_leave(commands.context.session);
    store_session_free(commands.context.session);
    assert_true(store_close(store));
}

/* Afterwards no value is in RAM. */
static void reopen_store(void)
{
    close_store();
    open_store();
}

/* The next commands run that much later. */
static void pass(uint32_t seconds)
{
    commands.context.now_s += seconds;
    store_leave(commands.context.session);
    store_enter(commands.context.session, commands.context.now_s);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(path + strlen(path) - 6, "XXXXXX");
    files = file_system_os;
    files.pread_nowait = read_nowait;
    page_cache_is_cold = false;
    if (!mkdtemp(path) || (dir_fd = open(path, O_RDONLY | O_DIRECTORY)) < 0 ||
        sem_init(&woken, 0, 0) < 0)
        return -1;
    commands_init(&commands);
    open_store();
    return 0;
}

static void unlink_one(void *context, const char *name)
{
    (void)context;
    unlinkat(dir_fd, name, 0);
}

static int tear_down(void **state)
{
    (void)state;
    commands_release(&commands);
    close_store();
    file_system_os.list(NULL, dir_fd, unlink_one, NULL);
    close(dir_fd);
    sem_destroy(&woken);
    return rmdir(path);
}

/* Requests. */

static void run_bytes(const char *bytes, size_t len)
{
    commands_parse(&commands, bytes, len);
    if (commands.command.key.len)
        store_key_init(store, &commands.command.key, commands.command.request.key.data,
                       commands.command.request.key.len);
    commands_run(&commands);
}

static void expect(const char *request, const char *answer)
{
    run_bytes(request, strlen(request));
    if (strcmp(commands.answer, answer) != 0)
        print_error("%s", request);
    assert_string_equal(commands.answer, answer);
    assert_int_equal(commands.result, RUN_DONE);
}

static uint64_t cas_of(const char *key)
{
    char request[64];
    snprintf(request, sizeof request, "mg %s c\r\n", key);
    run_bytes(request, strlen(request));
    assert_memory_equal(commands.answer, "HD c", 4);
    return strtoull(commands.answer + 4, NULL, 10);
}

/* As expect, with a CAS unique in the request. */
static void expect_with(const char *before, uint64_t cas, const char *after, const char *answer)
{
    char request[128];
    snprintf(request, sizeof request, "%s%llu%s", before, (unsigned long long)cas, after);
    expect(request, answer);
}

static void test_get_answers_what_set_has_stored(void **state)
{
    (void)state;
    expect("get k\r\n", "END\r\n");
    expect("set k 7 0 5\r\nvalue\r\n", "STORED\r\n");
    expect("get k\r\n", "VALUE k 7 5\r\nvalue\r\nEND\r\n");
    expect("set k 0 0 0\r\n\r\n", "STORED\r\n");
    expect("get k\r\n", "VALUE k 0 0\r\n\r\nEND\r\n");
    expect("mg k v f\r\n", "VA 0 f0\r\n\r\n");
    assert_int_equal(commands.context.counters.get_hits, 3);
    assert_int_equal(commands.context.counters.get_misses, 1);
    assert_int_equal(commands.context.counters.cmd_set, 2);
}

static void test_what_has_expired_is_gone(void **state)
{
    (void)state;
    expect("set k 0 10 1\r\nx\r\n", "STORED\r\n");
    expect("set past 0 -1 1\r\nx\r\n", "STORED\r\n");
    expect("get past\r\n", "END\r\n");
    pass(9);
    expect("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    pass(1);
    expect("get k\r\n", "END\r\n");
}

static void test_add_and_replace_look_whether_the_key_is_there(void **state)
{
    (void)state;
    expect("replace k 0 0 1\r\na\r\n", "NOT_STORED\r\n");
    expect("add k 0 0 1\r\nb\r\n", "STORED\r\n");
    expect("add k 0 0 1\r\nc\r\n", "NOT_STORED\r\n");
    expect("get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n");
    expect("replace k 0 0 1\r\nd\r\n", "STORED\r\n");
    expect("ms k 1 ME\r\ne\r\n", "NS\r\n");
    expect("ms k 1 MR\r\nf\r\n", "HD\r\n");
    expect("get k\r\n", "VALUE k 0 1\r\nf\r\nEND\r\n");
}

static void test_cas_stores_only_over_what_was_read(void **state)
{
    (void)state;
    expect("cas k 0 0 1 1\r\nx\r\n", "NOT_FOUND\r\n");
    expect("set k 0 0 1\r\na\r\n", "STORED\r\n");
    uint64_t cas = cas_of("k");
    expect_with("cas k 0 0 1 ", cas, "\r\nb\r\n", "STORED\r\n");
    expect_with("cas k 0 0 1 ", cas, "\r\nc\r\n", "EXISTS\r\n");
    expect_with("ms k 1 C", cas, "\r\nd\r\n", "EX\r\n");
    expect("get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n");
    expect_with("md k C", cas, "\r\n", "EX\r\n");
    expect_with("md k C", cas_of("k"), "\r\n", "HD\r\n");
    assert_int_equal(commands.context.counters.cas_hits, 1);
    assert_int_equal(commands.context.counters.cas_badval, 2);
    assert_int_equal(commands.context.counters.cas_misses, 1);
}

static void test_append_and_prepend_keep_flags_and_expiry(void **state)
{
    (void)state;
    expect("append k 0 0 1\r\nx\r\n", "NOT_STORED\r\n");
    expect("set k 5 10 1\r\nb\r\n", "STORED\r\n");
    expect("append k 9 99 1\r\nc\r\n", "STORED\r\n");
    expect("prepend k 9 99 1\r\na\r\n", "STORED\r\n");
    expect("get k\r\n", "VALUE k 5 3\r\nabc\r\nEND\r\n");
    expect("mg k t\r\n", "HD t10\r\n");
    expect("ms k 1 MA\r\nd\r\n", "HD\r\n");
    expect("ms k 1 MP\r\n-\r\n", "HD\r\n");
    expect("mg k v\r\n", "VA 5\r\n-abcd\r\n");
    commands.settings.item_size_max = 5 + 1 + ITEM_OVERHEAD;
    expect("append k 0 0 1\r\ne\r\n", "NOT_STORED\r\n");
}

static void test_a_value_that_is_too_large_takes_the_old_one_away(void **state)
{
    (void)state;
    expect("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    expect("add k 0 0 2000000\r\n", "SERVER_ERROR object too large for cache\r\n");
    commands_speak(&commands, PROTOCOL_TEXT); /* else it would swallow the value */
    expect("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    expect("set k 0 0 2000000\r\n", "SERVER_ERROR object too large for cache\r\n");
    commands_speak(&commands, PROTOCOL_TEXT);
    expect("get k\r\n", "END\r\n");
}

static void test_incr_and_decr_count_in_64_bits(void **state)
{
    (void)state;
    expect("incr k 1\r\n", "NOT_FOUND\r\n");
    expect("set k 3 0 2\r\n10\r\n", "STORED\r\n");
    expect("incr k 5\r\n", "15\r\n");
    expect("decr k 6\r\n", "9\r\n");
    expect("get k\r\n", "VALUE k 3 2\r\n9 \r\nEND\r\n"); /* it stays as long as it was */
    expect("decr k 100\r\n", "0\r\n");
    expect("incr k 18446744073709551615\r\n", "18446744073709551615\r\n");
    expect("incr k 2\r\n", "1\r\n");
    expect("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    expect("incr k 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n");
    expect("ma new N0 J7 v\r\n", "VA 1\r\n7\r\n");
    expect("ma new D2 v\r\n", "VA 1\r\n9\r\n");
    expect("ma new MD D4 v\r\n", "VA 1\r\n5\r\n");
    assert_int_equal(commands.context.counters.incr_misses, 1);
}

static void test_touch_and_gat_set_the_expiry(void **state)
{
    (void)state;
    expect("touch k 5\r\n", "NOT_FOUND\r\n");
    expect("gat 5 k\r\n", "END\r\n");
    expect("set k 0 5 1\r\nx\r\n", "STORED\r\n");
    uint64_t cas = cas_of("k");
    expect("touch k 20\r\n", "TOUCHED\r\n");
    expect("mg k t\r\n", "HD t20\r\n");
    expect("gat 40 k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    expect("mg k t\r\n", "HD t40\r\n");
    expect("mg k T60 t\r\n", "HD t60\r\n");
    assert_int_equal(cas_of("k"), cas); /* it is still the same item */
    pass(59);
    expect("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    pass(1);
    expect("get k\r\n", "END\r\n");
    assert_int_equal(commands.context.counters.touch_hits, 3);
    assert_int_equal(commands.context.counters.touch_misses, 2);
}

static void test_delete_and_flush_all(void **state)
{
    (void)state;
    expect("delete k\r\n", "NOT_FOUND\r\n");
    expect("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    expect("delete k\r\n", "DELETED\r\n");
    expect("get k\r\n", "END\r\n");
    expect("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    expect("flush_all\r\n", "OK\r\n");
    expect("get k\r\n", "END\r\n");
    expect("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    expect("flush_all 10\r\n", "OK\r\n");
    expect("get k\r\n", "VALUE k 0 1\r\nx\r\nEND\r\n");
    pass(10);
    expect("get k\r\n", "END\r\n");
    commands.settings.disable_flush = true;
    expect("flush_all\r\n", "CLIENT_ERROR flush_all not allowed\r\n");
}

static void test_a_stale_item_is_made_anew_by_one_client(void **state)
{
    (void)state;
    expect("set k 0 0 1\r\nx\r\n", "STORED\r\n");
    expect("md k I T30\r\n", "HD\r\n");
    expect("mg k v\r\n", "VA 1 X W\r\nx\r\n");
    expect("mg k v\r\n", "VA 1 Z X\r\nx\r\n");
    expect("ms k 1\r\ny\r\n", "HD\r\n");
    expect("mg k v\r\n", "VA 1\r\ny\r\n");
    expect("mg none N30 v\r\n", "VA 0 W\r\n\r\n");
    expect("mg none v\r\n", "VA 0 Z\r\n\r\n");
}

/* The binary protocol. */

struct packet {
    uint8_t opcode;
    const char *extras, *key, *value;
    uint8_t extras_len;
    uint64_t cas;
};

static void put_big_endian(char *at, uint64_t number, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, number >>= 8)
        at[i] = (char)number;
}

static uint64_t big_endian(const char *at, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number = number << 8 | (uint8_t)at[i];
    return number;
}

/* Returns the status of the answer; 0xffff: there is none. */
static uint32_t run_packet(const struct packet *packet)
{
    char bytes[256] = {(char)0x80, (char)packet->opcode};
    size_t key_len = packet->key ? strlen(packet->key) : 0;
    size_t value_len = packet->value ? strlen(packet->value) : 0;
    char *at = bytes + 24;
    put_big_endian(bytes + 2, key_len, 2);
    bytes[4] = (char)packet->extras_len;
    put_big_endian(bytes + 8, packet->extras_len + key_len + value_len, 4);
    put_big_endian(bytes + 16, packet->cas, 8);
    if (packet->extras_len)
        memcpy(at, packet->extras, packet->extras_len);
    at += packet->extras_len;
    if (key_len)
        memcpy(at, packet->key, key_len);
    if (value_len)
        memcpy(at + key_len, packet->value, value_len);
    run_bytes(bytes, (size_t)(at - bytes) + key_len + value_len);
    return commands.answer_len ? (uint32_t)big_endian(commands.answer + 6, 2) : 0xffff;
}

#define NO_FLAGS "\0\0\0\0\0\0\0\0"

static void test_the_binary_protocol_says_the_same_in_its_own_words(void **state)
{
    (void)state;
    const struct packet get = {.opcode = 0x00, .key = "k"}, getq = {.opcode = 0x09, .key = "k"};
    struct packet set = {0x01, NO_FLAGS, "k", "10", 8, 0};
    const struct packet add = {0x02, NO_FLAGS, "k", "1", 8, 0};
    const struct packet append = {.opcode = 0x0e, .key = "k", .value = "5"};
    const struct packet noop = {.opcode = 0x0a};
    struct packet incr = {0x05,
                          "\0\0\0\0\0\0\0\1"
                          "\0\0\0\0\0\0\0\7"
                          "\0\0\0\0",
                          "n",
                          NULL,
                          20,
                          0};
    commands_speak(&commands, PROTOCOL_BINARY);
    assert_int_equal(run_packet(&get), 1);       /* not found */
    assert_int_equal(run_packet(&getq), 0xffff); /* a quiet miss says nothing */
    assert_int_equal(run_packet(&set), 0);
    uint64_t cas = big_endian(commands.answer + 16, 8);
    assert_int_not_equal(cas, 0);          /* text does not tell it */
    assert_int_equal(run_packet(&add), 2); /* exists */
    set.cas = cas + 1;
    assert_int_equal(run_packet(&set), 2);
    set.cas = cas;
    assert_int_equal(run_packet(&set), 0); /* with a CAS unique a set is a cas */
    assert_int_equal(run_packet(&append), 0);
    assert_int_equal(run_packet(&get), 0);
    assert_memory_equal(commands.answer + 28, "105", 3);
    assert_int_equal(run_packet(&incr), 0); /* a counter that is missing begins */
    assert_int_equal(big_endian(commands.answer + 24, 8), 7);
    assert_int_equal(run_packet(&incr), 0);
    assert_int_equal(big_endian(commands.answer + 24, 8), 8);
    incr.key = "other";
    incr.extras = "\0\0\0\0\0\0\0\1"
                  "\0\0\0\0\0\0\0\7"
                  "\377\377\377\377";
    assert_int_equal(run_packet(&incr), 1); /* but not with this expiry */
    assert_int_equal(run_packet(&noop), 0);
}

/* Waiting. */

static void finish_reads(void)
{
    store_fetch_submit(commands.context.session);
    while (commands.context.fetches.under_way) {
        struct store_fetch *fetch;
        while (sem_wait(&woken) < 0)
            ;
        while ((fetch = store_fetch_next(commands.context.session)))
            fetches_came(&commands.context, fetch);
    }
}

/* Commands that read a value, and their answers once it has been read. */
static const struct {
    const char *request, *answer;
} looking[] = {
    {"get cold\r\n", "VALUE cold 0 2\r\n10\r\nEND\r\n"},
    {"gat 50 cold\r\n", "VALUE cold 0 2\r\n10\r\nEND\r\n"},
    {"incr cold 1\r\n", "11\r\n"},
    {"append cold 0 0 1\r\n1\r\n", "STORED\r\n"},
    {"cas cold 0 0 1 1\r\nx\r\n", "EXISTS\r\n"},
    {"mg cold v\r\n", "VA 2\r\n10\r\n"},
    {"ma cold v\r\n", "VA 2\r\n11\r\n"},
    {"md cold I\r\n", "HD\r\n"},
};

static void test_a_value_on_disk_is_waited_for_and_then_answered(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof looking / sizeof *looking; i++) {
        page_cache_is_cold = false;
        expect("set cold 0 0 2\r\n10\r\n", "STORED\r\n");
        reopen_store();
        page_cache_is_cold = true;
        commands.resumed = 0;
        run_bytes(looking[i].request, strlen(looking[i].request));
        assert_int_equal(commands.result, RUN_WAIT);
        assert_string_equal(commands.answer, "");
        assert_true(client_waits_for(&commands.client, WAIT_READ));

        finish_reads();
        assert_false(client_is_held(&commands.client));
        assert_int_equal(commands.resumed, 1);
        commands_run(&commands);
        assert_int_equal(commands.result, RUN_DONE);
        assert_string_equal(commands.answer, looking[i].answer);
        assert_int_equal(commands.client.cold_count, 0);
    }
}

static void test_what_is_not_looked_at_is_not_waited_for(void **state)
{
    (void)state;
    expect("set cold 0 0 2\r\n10\r\n", "STORED\r\n");
    reopen_store();
    page_cache_is_cold = true;
    expect("touch cold 50\r\n", "TOUCHED\r\n");
    expect("set cold 0 0 1\r\nx\r\n", "STORED\r\n");
    page_cache_is_cold = false; /* it may have found no page in RAM */
    expect("get cold\r\n", "VALUE cold 0 1\r\nx\r\nEND\r\n");
}

static void test_a_value_for_which_there_is_no_memory_is_waited_for_in_line(void **state)
{
    (void)state;
    expect("set cold 0 0 2\r\n10\r\n", "STORED\r\n");
    reopen_store();
    page_cache_is_cold = true;
    commands.context.fetches.bytes = commands.context.fetches.limit; /* of others */
    run_bytes("get cold\r\n", 10);
    assert_int_equal(commands.result, RUN_WAIT);
    assert_true(client_waits_for(&commands.client, WAIT_MEMORY));
    commands.context.now_s += CLIENT_WAIT_MAX_S;
    fetches_tick(&commands.context);
    assert_false(client_is_held(&commands.client));
    commands_run(&commands);
    assert_int_equal(commands.result, RUN_DONE);
    assert_string_equal(commands.answer, "SERVER_ERROR out of memory reading the value\r\n");

    commands.context.fetches.bytes = 0;
    run_bytes("get cold\r\n", 10);
    finish_reads();
    commands_run(&commands);
    assert_string_equal(commands.answer, "VALUE cold 0 2\r\n10\r\nEND\r\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(get_answers_what_set_has_stored),
        TEST(what_has_expired_is_gone),
        TEST(add_and_replace_look_whether_the_key_is_there),
        TEST(cas_stores_only_over_what_was_read),
        TEST(append_and_prepend_keep_flags_and_expiry),
        TEST(a_value_that_is_too_large_takes_the_old_one_away),
        TEST(incr_and_decr_count_in_64_bits),
        TEST(touch_and_gat_set_the_expiry),
        TEST(delete_and_flush_all),
        TEST(a_stale_item_is_made_anew_by_one_client),
        TEST(the_binary_protocol_says_the_same_in_its_own_words),
        TEST(a_value_on_disk_is_waited_for_and_then_answered),
        TEST(what_is_not_looked_at_is_not_waited_for),
        TEST(a_value_for_which_there_is_no_memory_is_waited_for_in_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
