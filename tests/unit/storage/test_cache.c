/* test_cache.c: what leaves the cache, what stays, and when memory comes back (C1 to C3). */
#include "tests/unit/storage/support.h"

#include <stdio.h>

/* Of the smallest pages, which a small cache has. */
#define PAGE_SIZE (64 << 10)

static struct rig rig;

static bool cache_is_ready(void *context)
{
    (void)context;
    return rig_stats(&rig).cache_pages >= 2;
}

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig);
    rig.options.memory_limit = 4 << 20;
    rig.options.segment_size = 1 << 20;
    rig_open(&rig);
    return wait_until(cache_is_ready, NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rig_release(&rig);
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
        rig_put_bytes(&rig, key, value, sizeof value);
        if (i % 20 == 0)
            rig_commit(&rig);
    }
    rig_commit(&rig);
}

static bool something_was_evicted(void *context)
{
    static int next = 100000;
    (void)context;
    put_range(next, next + 100);
    next += 100;
    return rig_stats(&rig).cache_items_evicted > 0;
}

static void test_what_is_evicted_is_found_on_disk(void **state)
{
    char key[32];
    (void)state;
    put_range(0, 10000);
    assert_true(wait_until(something_was_evicted, NULL));
    store_check(rig.store);
    for (int i = 0; i < 10000; i += 7) {
        snprintf(key, sizeof key, "key %d", i);
        fill_pattern(value, sizeof value, (uint64_t)i);
        rig_expect_bytes(&rig, key, value, sizeof value);
    }
    assert_true(rig.cold > 0);
    assert_true(rig_stats(&rig).cache_bytes <= 5 << 20);
}

static void test_an_item_is_good_until_its_reader_leaves(void **state)
{
    (void)state;
    struct store_session *writer = rig.session;
    struct store_session *reader = store_session_new(rig.store, NULL, NULL, -1);
    struct store_key key = rig_key(&rig, "read");
    struct store_fetch fetch = {0};
    struct store_item item;
    rig_put(&rig, "read", "a value that is being read");
    store_enter(reader);
    assert_int_equal(store_get(reader, &key, rig.now_s, &fetch, &item), STORE_OK);
    assert_ptr_equal(rig.session, writer);
    put_range(0, 10000);
    assert_memory_equal(item.value, "a value that is being read", 26);
    store_leave(reader);
    store_session_free(reader);
    assert_true(wait_until(something_was_evicted, NULL));
}

static void test_a_pinned_item_is_good_until_it_is_unpinned(void **state)
{
    (void)state;
    struct store_key key = rig_key(&rig, "pinned");
    struct store_fetch fetch = {0};
    struct store_item item;
    rig_put(&rig, "pinned", "a value that is being sent");
    assert_int_equal(store_get(rig.session, &key, rig.now_s, &fetch, &item), STORE_OK);
    void *pin = store_pin(rig.session, &item);
    put_range(0, 10000);
    assert_true(wait_until(something_was_evicted, NULL));
    assert_memory_equal(item.value, "a value that is being sent", 26);
    store_unpin(pin);
}

static bool cache_is_small(void *context)
{
    (void)context;
    rig_commit(&rig);
    return rig_stats(&rig).cache_bytes <= 1 << 20;
}

static bool cache_is_large(void *context)
{
    static int next = 200000;
    (void)context;
    put_range(next, next + 100);
    next += 100;
    return rig_stats(&rig).cache_bytes > 3 << 20;
}

static void test_a_lower_limit_gives_memory_back_and_a_higher_one_takes_it(void **state)
{
    (void)state;
    assert_true(wait_until(cache_is_large, NULL));
    assert_true(store_set_memory_limit(rig.store, 1 << 20));
    assert_true(wait_until(cache_is_small, NULL));
    assert_true(store_set_memory_limit(rig.store, 8 << 20));
    assert_true(wait_until(cache_is_large, NULL));
}

static bool memory_is_ahead(void *context)
{
    (void)context;
    struct store_stats stats = rig_stats(&rig);
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
    assert_true(store_set_memory_limit(rig.store, 1 << 20));
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
