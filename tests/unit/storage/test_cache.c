/* test_cache.c: what leaves the cache, what stays, and when memory comes back (C1 to C3). */
#include "tests/unit/storage/support/fixture.h"

#include <stdio.h>

/* Of the smallest pages, which a small cache has. */
#define PAGE_SIZE (64 << 10)

static struct fixture fixture;

static bool cache_is_ready(void *context)
{
    (void)context;
    return fixture_stats(&fixture).cache_pages >= 2;
}

static int set_up(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.options.memory_limit = 4 << 20;
    fixture.options.segment_size = 1 << 20;
    fixture_open(&fixture);
    return wait_until(cache_is_ready, NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_release(&fixture);
    return 0;
}

static char value[1000];

/* Stores values of 1000 bytes, number `from` up to `to`. */
static void put_range(int from, int to)
{
    char key[32];
    for (int i = from; i < to; i++) {
        snprintf(key, sizeof key, "key %d", i);
        fill_pattern(value, sizeof value, (uint64_t)i);
        fixture_put_bytes(&fixture, key, value, sizeof value);
        if (i % 20 == 0)
            fixture_commit(&fixture);
    }
    fixture_commit(&fixture);
}

static bool something_was_evicted(void *context)
{
    static int next = 100000;
    (void)context;
    put_range(next, next + 100);
    next += 100;
    return fixture_stats(&fixture).cache_items_evicted > 0;
}

static void test_what_is_evicted_is_found_on_disk(void **state)
{
    char key[32];
    (void)state;
    put_range(0, 10000);
    assert_true(wait_until(something_was_evicted, NULL));
    store_check(fixture.store);
    for (int i = 0; i < 10000; i += 7) {
        snprintf(key, sizeof key, "key %d", i);
        fill_pattern(value, sizeof value, (uint64_t)i);
        fixture_expect_bytes(&fixture, key, value, sizeof value);
    }
    assert_true(fixture.cold > 0);
    assert_true(fixture_stats(&fixture).cache_bytes <= 5 << 20);
}

static void test_an_item_is_good_until_its_reader_leaves(void **state)
{
    (void)state;
    struct store_session *writer = fixture.session;
    struct store_session *reader = store_session_new(fixture.store, NULL, NULL, -1);
    struct store_key key = fixture_key(&fixture, "read");
    struct store_fetch fetch = {0};
    struct store_item item;
    fixture_put(&fixture, "read", "a value that is being read");
    store_enter(reader, fixture.now_s);
    assert_int_equal(store_get(at(reader, fixture.now_s), &key, &fetch, &item), STORE_OK);
    assert_ptr_equal(fixture.session, writer);
    put_range(0, 10000);
    assert_memory_equal(item.value, "a value that is being read", 26);
    store_leave(reader);
    store_session_free(reader);
    assert_true(wait_until(something_was_evicted, NULL));
}

static void test_a_pinned_item_is_good_until_it_is_unpinned(void **state)
{
    (void)state;
    struct store_key key = fixture_key(&fixture, "pinned");
    struct store_fetch fetch = {0};
    struct store_item item;
    fixture_put(&fixture, "pinned", "a value that is being sent");
    assert_int_equal(store_get(at(fixture.session, fixture.now_s), &key, &fetch, &item), STORE_OK);
    void *pin = store_pin(fixture.session, &item);
    put_range(0, 10000);
    assert_true(wait_until(something_was_evicted, NULL));
    assert_memory_equal(item.value, "a value that is being sent", 26);
    store_unpin(pin);
}

static bool cache_is_small(void *context)
{
    (void)context;
    fixture_commit(&fixture);
    return fixture_stats(&fixture).cache_bytes <= 1 << 20;
}

static bool cache_is_large(void *context)
{
    static int next = 200000;
    (void)context;
    put_range(next, next + 100);
    next += 100;
    return fixture_stats(&fixture).cache_bytes > 3 << 20;
}

static void test_a_lower_limit_gives_memory_back_and_a_higher_one_takes_it(void **state)
{
    (void)state;
    assert_true(wait_until(cache_is_large, NULL));
    assert_true(store_set_memory_limit(fixture.store, 1 << 20));
    assert_true(wait_until(cache_is_small, NULL));
    assert_true(store_set_memory_limit(fixture.store, 8 << 20));
    assert_true(wait_until(cache_is_large, NULL));
}

static bool memory_is_ahead(void *context)
{
    (void)context;
    struct store_stats stats = fixture_stats(&fixture);
    if (stats.cache_pages < 20) { /* a value that finds no free page is not cached */
        static int next = 300000;
        put_range(next, next + 100);
        next += 100;
    }
    return stats.cache_bytes >= (stats.cache_pages + 2) * PAGE_SIZE;
}

static void test_memory_is_touched_ahead_and_given_back_under_a_lower_limit(void **state)
{
    (void)state;
    assert_true(wait_until(memory_is_ahead, NULL));
    assert_true(store_set_memory_limit(fixture.store, 1 << 20));
    assert_true(wait_until(cache_is_small, NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_evicted_is_found_on_disk),
        TEST(an_item_is_good_until_its_reader_leaves),
        TEST(a_pinned_item_is_good_until_it_is_unpinned),
        TEST(a_lower_limit_gives_memory_back_and_a_higher_one_takes_it),
        TEST(memory_is_touched_ahead_and_given_back_under_a_lower_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
