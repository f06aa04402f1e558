/* test_fetches.c: the memory of values from disk: who gets it, who waits, and that it all comes
 * back.
 *
 * The store is here. A read ends when the test says so (come_back).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "src/command/fetches.h"
#include "src/command/context.h"

#define MIB    ((size_t)1 << 20)
#define CONNS  40
#define LIMIT  (64 * MIB)
#define A_WAIT CLIENT_WAIT_MAX_S

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

void store_unpin(void *pin)
{
    (void)pin;
}

/* The context, and its clients. */

static struct command_context context;
static struct client clients[CONNS];
static struct client *resumed[CONNS];
static uint32_t resumed_count, waits;
static struct segment *const some_segment = (struct segment *)&context;

static void note_wait(struct client *client, enum wait_reason reason)
{
    (void)client, (void)reason;
    waits++;
}

static void note_resumed(struct client *client)
{
    resumed[resumed_count++] = client;
}

static const struct command_host host = {.wait = note_wait, .resume = note_resumed};

static bool is_in_line(const struct client *client)
{
    return client_waits_for(client, WAIT_MEMORY);
}

static int set_up(void **state)
{
    (void)state;
    memset(&context, 0, sizeof context);
    memset(clients, 0, sizeof clients);
    context.host = &host;
    context.now_s = 1000;
    for (int i = 0; i < CONNS; i++)
        clients[i].context = &context;
    fetch_now = STORE_WAIT_READ;
    started = resumed_count = waits = 0;
    return fetches_init(&context.fetches, 0, 1) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < CONNS; i++) {
        clients[i].fetching = 0;
        fetches_end_all(&clients[i]);
        assert_int_equal(clients[i].fetched_bytes, 0);
    }
    assert_int_equal(context.fetches.bytes, 0);
    assert_null(context.fetches.first);
    fetches_release(&context.fetches);
    return 0;
}

/* A request of the connection that meets a cold value of so many bytes. */
static enum fetches_read request(struct client *client, uint64_t tag, size_t bytes)
{
    context.fetches.scratch->fetch =
        (struct store_fetch){.tag = tag, .location = bytes, .segment = some_segment};
    return fetches_read(client, context.fetches.scratch);
}

static struct fetched *come_back(struct client *client, uint64_t tag)
{
    const struct store_key key = {.tag = tag};
    struct fetched *fetched = fetches_find(client, &key);
    assert_non_null(fetched);
    fetches_came(&context, &fetched->fetch);
    return fetched;
}

/* Reads that take all of the account, by as many connections from clients[0] on; the values are
 * kept to be sent. */
static struct fetched *kept[CONNS];

static void fill(size_t bytes)
{
    for (int i = 0; (size_t)(i + 1) * bytes <= LIMIT; i++) {
        assert_int_equal(request(&clients[i], 1, bytes), FETCHES_LATER);
        assert_int_equal(clients[i].fetching, 1);
        kept[i] = come_back(&clients[i], 1);
        assert_true(fetches_keep(&clients[i], kept[i]));
    }
    resumed_count = 0;
}

static void drop(size_t bytes)
{
    for (int i = 0; (size_t)(i + 1) * bytes <= LIMIT; i++)
        fetches_drop(kept[i]);
}

static void test_an_eighth_of_the_memory_and_64_mib_at_least(void **state)
{
    (void)state;
    struct fetches fetches;
    assert_true(fetches_init(&fetches, 64 * MIB, 4));
    assert_int_equal(fetches.limit, 16 * MIB);
    fetches_release(&fetches);
    assert_true(fetches_init(&fetches, 1024 * MIB, 4));
    assert_int_equal(fetches.limit, 32 * MIB);
    fetches_release(&fetches);
}

static void test_a_read_takes_its_size_until_it_is_sent(void **state)
{
    (void)state;
    assert_int_equal(request(&clients[0], 7, 3 * MIB), FETCHES_LATER);
    assert_int_equal(context.fetches.bytes, 3 * MIB);
    assert_int_equal(started, 1);
    struct fetched *fetched = come_back(&clients[0], 7);
    assert_int_equal(resumed_count, 1);
    assert_true(fetches_keep(&clients[0], fetched));
    assert_int_equal(clients[0].cold_count, 0);
    assert_int_equal(clients[0].fetched_bytes, 3 * MIB);
    fetches_drop(fetched);
    assert_int_equal(context.fetches.bytes, 0);
}

static void test_what_the_page_cache_has(void **state)
{
    (void)state;
    fetch_now = STORE_OK;
    assert_int_equal(request(&clients[0], 7, 10000), FETCHES_HERE);
    assert_int_equal(context.fetches.bytes, 0); /* it is copied at once */
    fetches_end(&clients[0], context.fetches.scratch);
    assert_int_equal(request(&clients[0], 7, MIB), FETCHES_HERE);
    assert_int_equal(context.fetches.bytes, MIB); /* it is sent from where it lies */
    struct fetched *fetched = context.fetches.scratch;
    assert_true(fetches_keep(&clients[0], fetched));
    assert_ptr_not_equal(context.fetches.scratch, fetched);
    fetches_drop(fetched);
}

static void test_a_value_that_has_grown_takes_the_difference(void **state)
{
    (void)state;
    request(&clients[0], 7, MIB);
    struct fetched *fetched = come_back(&clients[0], 7);
    fetched->fetch.location = 3 * MIB; /* it was replaced meanwhile */
    assert_int_equal(fetches_read(&clients[0], fetched), FETCHES_LATER);
    assert_int_equal(context.fetches.bytes, 3 * MIB);
    assert_int_equal(clients[0].cold_count, 1);
    come_back(&clients[0], 7);
}

static void test_the_largest_has_its_turn_alone(void **state)
{
    (void)state;
    assert_int_equal(request(&clients[0], 1, 3 * LIMIT), FETCHES_LATER);
    assert_int_equal(started, 1);
    assert_int_equal(request(&clients[1], 1, 3 * LIMIT), FETCHES_LATER);
    assert_int_equal(started, 1);
    assert_true(is_in_line(&clients[1]));
    fetches_end(&clients[0], come_back(&clients[0], 1));
    fetches_serve_line(&context);
    assert_false(is_in_line(&clients[1]));
    assert_int_equal(request(&clients[1], 1, 3 * LIMIT), FETCHES_LATER);
    assert_int_equal(started, 2);
    come_back(&clients[1], 1);
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    fill(8 * MIB);
    for (int i = 10; i < 20; i++) {
        assert_int_equal(request(&clients[i], 1, i == 10 ? 16 * MIB : MIB), FETCHES_LATER);
        assert_true(is_in_line(&clients[i]));
    }
    assert_true(waits > 0);
    assert_int_equal(context.fetches.scratch->fetch.location, 0); /* nothing is held in line */
    fetches_drop(kept[0]);
    fetches_serve_line(&context);
    assert_int_equal(resumed_count, 0); /* the first needs more, and nobody passes it */
    assert_int_equal(request(&clients[30], 1, 10000), FETCHES_LATER);
    assert_true(is_in_line(&clients[30]));
    fetches_drop(kept[1]);
    fetches_serve_line(&context);
    assert_int_equal(resumed_count, 1);
    assert_ptr_equal(resumed[0], &clients[10]);
    assert_int_equal(context.fetches.bytes, LIMIT); /* it is promised */
    assert_int_equal(request(&clients[31], 1, 10000), FETCHES_LATER);
    assert_true(is_in_line(&clients[31]));
    assert_int_equal(request(&clients[10], 1, 16 * MIB), FETCHES_LATER);
    assert_int_equal(context.fetches.bytes, LIMIT);
    fetches_end(&clients[10], come_back(&clients[10], 1));
    resumed_count = 0;
    fetches_serve_line(&context);
    assert_int_equal(resumed_count, 11);
    for (int i = 0; i < 9; i++)
        assert_ptr_equal(resumed[i], &clients[11 + i]);
    for (int i = 2; i < 8; i++)
        fetches_drop(kept[i]);
}

static void test_a_promise_that_is_not_needed_is_given_back(void **state)
{
    (void)state;
    fill(32 * MIB);
    request(&clients[10], 1, MIB);
    drop(32 * MIB);
    fetches_serve_line(&context);
    assert_int_equal(context.fetches.bytes, MIB);
    fetches_end_promise(&clients[10]); /* it was in RAM now */
    assert_int_equal(context.fetches.bytes, 0);
    fetches_end_promise(&clients[10]);
    assert_int_equal(context.fetches.bytes, 0);
}

static void look_ahead(struct client *client, uint64_t tag, size_t bytes)
{
    context.fetches.scratch->fetch =
        (struct store_fetch){.tag = tag, .location = bytes, .segment = some_segment};
    fetches_read_ahead(client);
}

static void test_who_reads_ahead_takes_little_and_holds_nothing_in_line(void **state)
{
    (void)state;
    request(&clients[0], 1, MIB);
    look_ahead(&clients[0], 2, MIB);
    look_ahead(&clients[0], 3, MIB);
    assert_int_equal(clients[0].fetching, 2);
    assert_int_equal(context.fetches.scratch->fetch.location, 0);
    for (int i = 1; i < 32; i++) {
        request(&clients[i], 1, 10000);
        look_ahead(&clients[i], 2, FETCHES_AHEAD_MAX - 10000);
    }
    assert_in_range(context.fetches.bytes, LIMIT / 2 - 2 * MIB, LIMIT / 2 + MIB);
    come_back(&clients[0], 1);
    come_back(&clients[0], 2);
    assert_int_equal(clients[0].cold_count, 2);
    assert_int_equal(request(&clients[0], 9, LIMIT), FETCHES_LATER);
    assert_true(is_in_line(&clients[0]));
    assert_int_equal(clients[0].cold_count, 0);
    assert_int_equal(clients[0].fetched_bytes, 0);
}

static void test_who_waits_too_long_is_refused(void **state)
{
    (void)state;
    fill(64 * MIB);
    assert_int_equal(request(&clients[5], 1, MIB), FETCHES_LATER);
    context.now_s += A_WAIT - 1;
    fetches_tick(&context);
    assert_int_equal(resumed_count, 0);
    context.now_s++;
    fetches_tick(&context);
    assert_ptr_equal(resumed[0], &clients[5]);
    assert_int_equal(request(&clients[5], 1, MIB), FETCHES_NO_MEMORY);
    fetches_end(&clients[5], context.fetches.scratch);
    assert_int_equal(context.counters.response_obj_oom, 1);
    assert_int_equal(request(&clients[5], 2, MIB),
                     FETCHES_NO_MEMORY); /* the next of its pipeline */
    fetches_end(&clients[5], context.fetches.scratch);
    context.now_s += A_WAIT;
    assert_int_equal(request(&clients[5], 2, MIB),
                     FETCHES_LATER); /* and much later it waits again */
    assert_true(is_in_line(&clients[5]));
    drop(64 * MIB);
}

static void test_who_closes_leaves_the_line(void **state)
{
    (void)state;
    fill(64 * MIB);
    for (int i = 5; i < 9; i++)
        request(&clients[i], 1, MIB);
    fetches_end_all(&clients[6]); /* in the middle, the first, the last */
    fetches_end_all(&clients[5]);
    fetches_end_all(&clients[8]);
    assert_ptr_equal(context.fetches.first, &clients[7]);
    request(&clients[9], 1, MIB);
    drop(64 * MIB);
    fetches_serve_line(&context);
    assert_int_equal(resumed_count, 2);
    assert_ptr_equal(resumed[1], &clients[9]);
    assert_null(context.fetches.first);
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
        TEST(test_who_closes_leaves_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
