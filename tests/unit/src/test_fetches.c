/* test_fetched.c: the memory of values from disk: who gets it, who waits, and that it all comes
 * back.
 *
 * The store and the worker are here. A read ends when the test says so (come_back).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/command/fetches.h"
#include "src/base/server_log.h"
#include "src/net/worker.h"

#define MIB    ((size_t)1 << 20)
#define CONNS  40
#define LIMIT  (64 * MIB)
#define A_WAIT WORKER_WAIT_MAX_S

/* The store: a fetch's location is its size. */

static enum store_status fetch_now;

size_t store_fetch_size(const struct store_fetch *fetch)
{
    return (size_t)fetch->location;
}

enum store_status store_fetch_now(struct store_session *session, struct store_fetch *fetch)
{
    (void)session, (void)fetch;
    return fetch_now;
}

static uint32_t started;

void store_fetch_start(struct store_session *session, struct store_fetch *fetch)
{
    (void)session, (void)fetch;
    started++;
}

void store_fetch_release(struct store_fetch *fetch)
{
    memset(fetch, 0, sizeof *fetch);
}

/* The worker. */

static struct server server;
static struct worker worker;
static struct conn conns[CONNS];
static struct conn *resumed[CONNS];
static uint32_t resumed_count, ticks, told;
static struct segment *const some_segment = (struct segment *)&worker;

void worker_resume(struct conn *conn)
{
    resumed[resumed_count++] = conn;
}

void worker_await_disk(struct worker *of, struct conn *conn)
{
    (void)of, (void)conn;
}

void worker_await_tick(struct worker *of)
{
    (void)of;
    ticks++;
}

bool worker_may_report(struct worker *of, _Atomic uint32_t *reported_s)
{
    (void)of, (void)reported_s;
    return true;
}

void server_log(const char *format, ...)
{
    (void)format;
    told++;
}

static int set_up(void **state)
{
    (void)state;
    memset(&worker, 0, sizeof worker);
    memset(conns, 0, sizeof conns);
    worker.server = &server;
    worker.now_s = 1000;
    worker.scratch = calloc(1, sizeof *worker.scratch);
    for (int i = 0; i < CONNS; i++) {
        conns[i].worker = &worker;
        conns[i].next = i + 1 < CONNS ? &conns[i + 1] : NULL;
    }
    worker.conns = conns;
    fetched_init(&worker.fetched, 0, 1);
    fetch_now = STORE_WAIT_READ;
    started = resumed_count = ticks = told = 0;
    return worker.scratch ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < CONNS; i++) {
        conns[i].fetching = 0;
        fetched_end_all(&conns[i]);
        assert_int_equal(conns[i].fetched_bytes, 0);
    }
    assert_int_equal(worker.fetched.bytes, 0);
    assert_null(worker.fetched.first);
    fetched_drop(worker.scratch);
    return 0;
}

/* A request of the connection that meets a cold value of so many bytes. */
static enum fetched_read request(struct conn *conn, uint64_t tag, size_t bytes)
{
    worker.scratch->fetch =
        (struct store_fetch){.tag = tag, .location = bytes, .segment = some_segment};
    return fetched_read(&worker, conn, worker.scratch);
}

static struct fetched *come_back(struct conn *conn, uint64_t tag)
{
    const struct store_key key = {.tag = tag};
    struct fetched *fetched = fetched_find(conn, &key);
    assert_non_null(fetched);
    fetched_came(&worker, &fetched->fetch);
    return fetched;
}

/* Reads that take all of the account, by as many connections from conns[0] on; the values are
 * kept to be sent. */
static struct fetched *kept[CONNS];

static void fill(size_t bytes)
{
    for (int i = 0; (size_t)(i + 1) * bytes <= LIMIT; i++) {
        assert_int_equal(request(&conns[i], 1, bytes), FETCHED_LATER);
        assert_int_equal(conns[i].fetching, 1);
        kept[i] = come_back(&conns[i], 1);
        assert_true(fetched_keep(&worker, &conns[i], kept[i]));
    }
    resumed_count = 0;
}

static void drop(size_t bytes)
{
    for (int i = 0; (size_t)(i + 1) * bytes <= LIMIT; i++)
        fetched_drop(kept[i]);
}

static void test_an_eighth_of_the_memory_and_64_mib_at_least(void **state)
{
    (void)state;
    struct fetched_account account;
    fetched_init(&account, 64 * MIB, 4);
    assert_int_equal(account.limit, 16 * MIB);
    fetched_init(&account, 1024 * MIB, 4);
    assert_int_equal(account.limit, 32 * MIB);
}

static void test_a_read_takes_its_size_until_it_is_sent(void **state)
{
    (void)state;
    assert_int_equal(request(&conns[0], 7, 3 * MIB), FETCHED_LATER);
    assert_int_equal(worker.fetched.bytes, 3 * MIB);
    assert_int_equal(started, 1);
    struct fetched *fetched = come_back(&conns[0], 7);
    assert_int_equal(resumed_count, 1);
    assert_true(fetched_keep(&worker, &conns[0], fetched));
    assert_int_equal(conns[0].cold_count, 0);
    assert_int_equal(conns[0].fetched_bytes, 3 * MIB);
    fetched_drop(fetched);
    assert_int_equal(worker.fetched.bytes, 0);
}

static void test_what_the_page_cache_has(void **state)
{
    (void)state;
    fetch_now = STORE_OK;
    assert_int_equal(request(&conns[0], 7, 10000), FETCHED_HERE);
    assert_int_equal(worker.fetched.bytes, 0); /* it is copied at once */
    fetched_end(&worker, &conns[0], worker.scratch);
    assert_int_equal(request(&conns[0], 7, MIB), FETCHED_HERE);
    assert_int_equal(worker.fetched.bytes, MIB); /* it is sent from where it lies */
    struct fetched *fetched = worker.scratch;
    assert_true(fetched_keep(&worker, &conns[0], fetched));
    assert_ptr_not_equal(worker.scratch, fetched);
    fetched_drop(fetched);
}

static void test_a_value_that_has_grown_takes_the_difference(void **state)
{
    (void)state;
    request(&conns[0], 7, MIB);
    struct fetched *fetched = come_back(&conns[0], 7);
    fetched->fetch.location = 3 * MIB; /* it was replaced meanwhile */
    assert_int_equal(fetched_read(&worker, &conns[0], fetched), FETCHED_LATER);
    assert_int_equal(worker.fetched.bytes, 3 * MIB);
    assert_int_equal(conns[0].cold_count, 1);
    come_back(&conns[0], 7);
}

static void test_the_largest_has_its_turn_alone(void **state)
{
    (void)state;
    assert_int_equal(request(&conns[0], 1, 3 * LIMIT), FETCHED_LATER);
    assert_int_equal(started, 1);
    assert_int_equal(request(&conns[1], 1, 3 * LIMIT), FETCHED_LATER);
    assert_int_equal(started, 1);
    assert_true(conns[1].in_line);
    fetched_end(&worker, &conns[0], come_back(&conns[0], 1));
    fetched_serve_line(&worker);
    assert_false(conns[1].in_line);
    assert_int_equal(request(&conns[1], 1, 3 * LIMIT), FETCHED_LATER);
    assert_int_equal(started, 2);
    come_back(&conns[1], 1);
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    fill(8 * MIB);
    for (int i = 10; i < 20; i++) {
        assert_int_equal(request(&conns[i], 1, i == 10 ? 16 * MIB : MIB), FETCHED_LATER);
        assert_true(conns[i].in_line);
    }
    assert_true(ticks > 0);
    assert_int_equal(worker.scratch->fetch.location, 0); /* nothing is held in line */
    fetched_drop(kept[0]);
    fetched_serve_line(&worker);
    assert_int_equal(resumed_count, 0); /* the first needs more, and nobody passes it */
    assert_int_equal(request(&conns[30], 1, 10000), FETCHED_LATER);
    assert_true(conns[30].in_line);
    fetched_drop(kept[1]);
    fetched_serve_line(&worker);
    assert_int_equal(resumed_count, 1);
    assert_ptr_equal(resumed[0], &conns[10]);
    assert_int_equal(worker.fetched.bytes, LIMIT); /* it is promised */
    assert_int_equal(request(&conns[31], 1, 10000), FETCHED_LATER);
    assert_true(conns[31].in_line);
    assert_int_equal(request(&conns[10], 1, 16 * MIB), FETCHED_LATER);
    assert_int_equal(worker.fetched.bytes, LIMIT);
    fetched_end(&worker, &conns[10], come_back(&conns[10], 1));
    resumed_count = 0;
    fetched_serve_line(&worker);
    assert_int_equal(resumed_count, 11);
    for (int i = 0; i < 9; i++)
        assert_ptr_equal(resumed[i], &conns[11 + i]);
    for (int i = 2; i < 8; i++)
        fetched_drop(kept[i]);
}

static void test_a_promise_that_is_not_needed_is_given_back(void **state)
{
    (void)state;
    fill(32 * MIB);
    request(&conns[10], 1, MIB);
    drop(32 * MIB);
    fetched_serve_line(&worker);
    assert_int_equal(worker.fetched.bytes, MIB);
    fetched_end_promise(&conns[10]); /* it was in RAM now */
    assert_int_equal(worker.fetched.bytes, 0);
    fetched_end_promise(&conns[10]);
    assert_int_equal(worker.fetched.bytes, 0);
}

static void look_ahead(struct conn *conn, uint64_t tag, size_t bytes)
{
    worker.scratch->fetch =
        (struct store_fetch){.tag = tag, .location = bytes, .segment = some_segment};
    fetched_read_ahead(&worker, conn);
}

static void test_who_reads_ahead_takes_little_and_holds_nothing_in_line(void **state)
{
    (void)state;
    request(&conns[0], 1, MIB);
    look_ahead(&conns[0], 2, MIB);
    look_ahead(&conns[0], 3, MIB);
    assert_int_equal(conns[0].fetching, 2);
    assert_int_equal(worker.scratch->fetch.location, 0);
    for (int i = 1; i < 32; i++) {
        request(&conns[i], 1, 10000);
        look_ahead(&conns[i], 2, FETCHED_AHEAD_MAX - 10000);
    }
    assert_in_range(worker.fetched.bytes, LIMIT / 2 - 2 * MIB, LIMIT / 2 + MIB);
    come_back(&conns[0], 1);
    come_back(&conns[0], 2);
    assert_int_equal(conns[0].cold_count, 2);
    assert_int_equal(request(&conns[0], 9, LIMIT), FETCHED_LATER);
    assert_true(conns[0].in_line);
    assert_int_equal(conns[0].cold_count, 0);
    assert_int_equal(conns[0].fetched_bytes, 0);
}

static void test_who_waits_too_long_is_refused(void **state)
{
    (void)state;
    fill(64 * MIB);
    assert_int_equal(request(&conns[5], 1, MIB), FETCHED_LATER);
    worker.now_s += A_WAIT - 1;
    fetched_tick(&worker);
    assert_int_equal(resumed_count, 0);
    worker.now_s++;
    fetched_tick(&worker);
    assert_ptr_equal(resumed[0], &conns[5]);
    assert_int_equal(request(&conns[5], 1, MIB), FETCHED_NO_MEMORY);
    fetched_end(&worker, &conns[5], worker.scratch);
    assert_int_equal(worker.counters.response_obj_oom, 1);
    assert_int_equal(request(&conns[5], 2, MIB), FETCHED_NO_MEMORY); /* the next of its pipeline */
    fetched_end(&worker, &conns[5], worker.scratch);
    worker.now_s += A_WAIT;
    assert_int_equal(request(&conns[5], 2, MIB), FETCHED_LATER); /* and much later it waits again */
    assert_true(conns[5].in_line);
    drop(64 * MIB);
}

static int pair[2];

static bool is_shut(void)
{
    char byte;
    return recv(pair[1], &byte, 1, MSG_DONTWAIT) == 0;
}

static void test_who_holds_memory_and_takes_nothing_is_closed_while_others_wait(void **state)
{
    (void)state;
    struct piece piece = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fill(64 * MIB);
    conns[0].pending = &piece;
    conns[0].sent_s = worker.now_s;
    conns[0].fd = pair[0];
    worker.now_s += 100;
    fetched_tick(&worker);
    assert_false(is_shut()); /* nobody waits */
    conns[0].sent_s = worker.now_s;
    request(&conns[5], 1, MIB);
    worker.now_s += FETCHED_STALLED_S - 1;
    fetched_tick(&worker);
    assert_false(is_shut()); /* it has taken something shortly before */
    worker.now_s++;
    conns[0].syncing = true;
    fetched_tick(&worker);
    assert_false(is_shut()); /* it could not take anything */
    conns[0].syncing = false;
    fetched_tick(&worker);
    assert_true(is_shut());
    assert_int_equal(told, 1);
    conns[0].pending = NULL;
    drop(64 * MIB);
    close(pair[0]);
    close(pair[1]);
}

static void test_who_closes_leaves_the_line(void **state)
{
    (void)state;
    fill(64 * MIB);
    for (int i = 5; i < 9; i++)
        request(&conns[i], 1, MIB);
    fetched_end_all(&conns[6]); /* in the middle, the first, the last */
    fetched_end_all(&conns[5]);
    fetched_end_all(&conns[8]);
    assert_ptr_equal(worker.fetched.first, &conns[7]);
    request(&conns[9], 1, MIB);
    drop(64 * MIB);
    fetched_serve_line(&worker);
    assert_int_equal(resumed_count, 2);
    assert_ptr_equal(resumed[1], &conns[9]);
    assert_null(worker.fetched.first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_an_eighth_of_the_memory_and_64_mib_at_least),
        TEST(test_a_read_takes_its_size_until_it_is_sent),
        TEST(test_what_the_page_cache_has),
        TEST(test_a_value_that_has_grown_takes_the_difference),
        TEST(test_the_largest_has_its_turn_alone),
        TEST(test_first_come_first_served),
        TEST(test_a_promise_that_is_not_needed_is_given_back),
        TEST(test_who_reads_ahead_takes_little_and_holds_nothing_in_line),
        TEST(test_who_waits_too_long_is_refused),
        TEST(test_who_holds_memory_and_takes_nothing_is_closed_while_others_wait),
        TEST(test_who_closes_leaves_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
