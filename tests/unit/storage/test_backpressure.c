/* test_backpressure.c: when writers are held for the disk, and when the disk is asked to begin (L5). */
#include "tests/unit/storage/support.h"

#include "storage/backpressure.h"

#define MIB      (UINT64_C(1) << 20)
#define SECOND   UINT64_C(1000000)
#define BEGIN_US (UINT64_C(500) * SECOND)

static struct backpressure made_with(int sync_interval_ms)
{
    struct backpressure backpressure;
    backpressure_init(&backpressure, sync_interval_ms, BEGIN_US);
    return backpressure;
}

/* A sync of so many bytes, from BEGIN_US on. */
static void sync_took(struct backpressure *backpressure, uint64_t bytes, uint64_t us)
{
    backpressure_note_sync(backpressure, bytes, BEGIN_US, BEGIN_US + us);
}

/* As many bytes may wait; found by asking. */
static uint64_t limit_of(const struct backpressure *backpressure)
{
    uint64_t least = 0, most = UINT64_C(1) << 40;
    while (least + 1 < most) {
        uint64_t middle = (least + most) / 2;
        if (backpressure_is_behind(backpressure, middle, BEGIN_US))
            most = middle;
        else
            least = middle;
    }
    assert_false(backpressure_wants_sync(backpressure, least / 2));
    assert_true(backpressure_wants_sync(backpressure, least / 2 + 1));
    return least;
}

static void test_a_log_that_is_not_synced_holds_nobody(void **state)
{
    (void)state;
    struct backpressure never = made_with(-1);
    assert_false(backpressure_wants_sync(&never, UINT64_MAX));
    assert_false(backpressure_is_behind(&never, UINT64_MAX, UINT64_MAX));
}

static void test_a_write_older_than_the_window_holds_writers(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    assert_false(backpressure_is_behind(&backpressure, 1, BEGIN_US + SECOND));
    assert_true(backpressure_is_behind(&backpressure, 1, BEGIN_US + SECOND + 1));
    assert_false(backpressure_is_behind(&backpressure, 0, BEGIN_US + SECOND + 1));
    backpressure_note_sync(&backpressure, 1, BEGIN_US + SECOND, BEGIN_US + 9 * SECOND);
    assert_false(backpressure_is_behind(&backpressure, 1, BEGIN_US + 2 * SECOND));
    assert_true(backpressure_is_behind(&backpressure, 1, BEGIN_US + 9 * SECOND));
}

static void test_a_look_from_before_the_last_sync_is_no_harm(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    assert_false(backpressure_is_behind(&backpressure, 1, BEGIN_US - 1));
}

static void test_where_replies_wait_for_the_disk_age_is_no_matter(void **state)
{
    (void)state;
    struct backpressure always = made_with(0);
    assert_false(backpressure_is_behind(&always, 1, BEGIN_US + 1000 * SECOND));
    assert_true(backpressure_is_behind(&always, BACKPRESSURE_LIMIT_MAX + 1, BEGIN_US));
}

static void test_as_much_may_wait_as_the_disk_takes_in_a_window(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    assert_int_equal(limit_of(&backpressure), BACKPRESSURE_LIMIT_MIN);
    for (int i = 0; i < 30; i++)
        sync_took(&backpressure, 50 * MIB, SECOND / 2); /* 100 MiB/s */
    assert_int_equal(limit_of(&backpressure), 100 * MIB);
    sync_took(&backpressure, 50 * MIB, SECOND);
    assert_int_equal(limit_of(&backpressure), 50 * MIB);
    sync_took(&backpressure, 50 * MIB, 100 * SECOND);
    assert_int_equal(limit_of(&backpressure), BACKPRESSURE_LIMIT_MIN);
    for (int i = 0; i < 30; i++)
        sync_took(&backpressure, 500 * MIB, 1);
    assert_int_equal(limit_of(&backpressure), BACKPRESSURE_LIMIT_MAX);
}

static void test_one_fast_sync_does_not_make_a_fast_disk(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    sync_took(&backpressure, 10 * MIB, 1);
    assert_int_equal(limit_of(&backpressure), BACKPRESSURE_LIMIT_MIN + BACKPRESSURE_LIMIT_MIN / 4);
}

static void test_a_sync_of_little_says_nothing_of_speed(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    for (int i = 0; i < 30; i++)
        sync_took(&backpressure, 500 * MIB, SECOND);
    sync_took(&backpressure, MIB, SECOND);
    assert_int_equal(limit_of(&backpressure), BACKPRESSURE_LIMIT_MAX);
}

static void test_a_short_window_takes_less_and_a_long_one_not_more_than_a_second_gives(void **state)
{
    (void)state;
    struct backpressure brief = made_with(200), lasting = made_with(60000);
    for (int i = 0; i < 30; i++) {
        sync_took(&brief, 200 * MIB, SECOND);
        sync_took(&lasting, 200 * MIB, SECOND);
    }
    assert_int_equal(limit_of(&brief), 40 * MIB);
    assert_int_equal(limit_of(&lasting), 200 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_log_that_is_not_synced_holds_nobody),
        cmocka_unit_test(test_a_write_older_than_the_window_holds_writers),
        cmocka_unit_test(test_a_look_from_before_the_last_sync_is_no_harm),
        cmocka_unit_test(test_where_replies_wait_for_the_disk_age_is_no_matter),
        cmocka_unit_test(test_as_much_may_wait_as_the_disk_takes_in_a_window),
        cmocka_unit_test(test_one_fast_sync_does_not_make_a_fast_disk),
        cmocka_unit_test(test_a_sync_of_little_says_nothing_of_speed),
        cmocka_unit_test(
            test_a_short_window_takes_less_and_a_long_one_not_more_than_a_second_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
