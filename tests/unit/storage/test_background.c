/* test_background.c: the background thread finds what has expired or was flushed, and looks at
 * nothing else. */
#include <stdio.h>
#include <stdlib.h>

#include "storage/store_internal.h"
#include "tests/unit/storage/support/fixture.h"

#define KEYS 2000

static struct fixture fixture;

static int set_up(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_open(&fixture);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_release(&fixture);
    return 0;
}

static void put_many(uint32_t count)
{
    char name[32];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "key-%u", i);
        fixture_put(&fixture, name, "value");
    }
    fixture_commit(&fixture);
}

static bool has_reclaimed(void *count)
{
    return fixture_stats(&fixture).crawler_reclaimed >= *(uint64_t *)count;
}

/* The time comes, and so many keys have been reclaimed ever. */
static void reclaim(uint32_t now_s, uint64_t count)
{
    store_tick(fixture.store, now_s);
    fixture.now_s = now_s;
    assert_true(wait_until(has_reclaimed, &count));
    assert_true(fixture_stats(&fixture).crawler_reclaimed == count);
}

static void test_only_shards_in_which_something_has_expired_are_visited(void **state)
{
    (void)state;
    put_many(KEYS);
    fixture_put_until(&fixture, "short", "x", FIXTURE_NOW + 10);
    fixture_put_until(&fixture, "long", "x", FIXTURE_NOW + 100000);
    reclaim(FIXTURE_NOW + 20, 1);
    uint64_t checked = fixture_stats(&fixture).crawler_checked;
    assert_in_range(checked, 1, KEYS / 4); /* of one shard in sixteen */
    fixture_put_until(&fixture, "other", "x", FIXTURE_NOW + 30);
    reclaim(FIXTURE_NOW + 40, 2);
    assert_in_range(fixture_stats(&fixture).crawler_checked, checked, 2 * (KEYS / 4));
}

/* Entries that a visit leaves, or that a touch, a put or a start adds, are found when their own
 * time comes. */
static void test_each_expiry_is_met_in_its_time(void **state)
{
    (void)state;
    char name[32];
    put_many(400);
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "key-%u", i);
        if (i < 100)
            fixture_put_until(&fixture, name, "later", FIXTURE_NOW + 100 * (1 + i % 2));
        else if (i < 200)
            fixture_touch(&fixture, name, FIXTURE_NOW + 300);
        else
            fixture_put_until(&fixture, name, "until after a restart", FIXTURE_NOW + 400);
    }
    fixture_commit(&fixture);
    reclaim(FIXTURE_NOW + 110, 50);
    reclaim(FIXTURE_NOW + 210, 100);
    reclaim(FIXTURE_NOW + 310, 200);
    fixture_reopen(&fixture);
    reclaim(FIXTURE_NOW + 410, 100);
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 100);
}

static bool is_swept(void *context)
{
    (void)context;
    return atomic_load(&fixture.store->swept_flush_lsn) >=
           atomic_load(&fixture.store->log.flush_lsn);
}

static void test_a_flush_empties_the_index_beside_writers(void **state)
{
    (void)state;
    put_many(KEYS);
    fixture_flush(&fixture, 0);
    put_many(10);
    assert_true(wait_until(is_swept, NULL));
    assert_int_equal(fixture_stats(&fixture).keydir_entries, 10);
    store_check(fixture.store);
}

static void test_what_happens_many_times_is_told_twice(void **state)
{
    (void)state;
    const uint64_t minute_us = 60000000;
    struct report_episode episode = {0};
    assert_int_equal(report_episode_ends(&episode, 10 * minute_us), 0);
    assert_true(report_episode_begins(&episode, 10 * minute_us));
    for (uint64_t i = 1; i <= 77; i++)
        assert_false(report_episode_begins(&episode, 10 * minute_us + i));
    assert_int_equal(report_episode_ends(&episode, 11 * minute_us), 0);
    assert_int_equal(report_episode_ends(&episode, 11 * minute_us + 77), 78);
    assert_int_equal(report_episode_ends(&episode, 11 * minute_us + 78), 0);
    assert_true(report_episode_begins(&episode, 12 * minute_us));
    assert_int_equal(report_episode_ends(&episode, REPORT_EPISODE_LAST), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_shards_in_which_something_has_expired_are_visited),
        TEST(each_expiry_is_met_in_its_time),
        TEST(a_flush_empties_the_index_beside_writers),
        TEST(what_happens_many_times_is_told_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
