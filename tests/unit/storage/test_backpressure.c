/* test_backpressure.c: when writers are held for the disk, and when the disk is asked to begin
 * (L5). */
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#include "storage/log/backpressure.h"

#define MIB      (UINT64_C(1) << 20)
#define SECOND   UINT64_C(1000000)
#define BEGIN_US (UINT64_C(500) * SECOND)

static struct backpressure made_with(int sync_interval_ms)
{
    struct backpressure backpressure;
    backpressure_init(&backpressure, sync_interval_ms);
    return backpressure;
}

/* A sync of so many bytes, from BEGIN_US on. */
static void sync_took(struct backpressure *backpressure, uint64_t bytes, uint64_t us)
{
    backpressure_begin_sync(backpressure);
    backpressure_end_sync(backpressure, bytes, BEGIN_US, BEGIN_US + us);
}

static enum backpressure_hold look(const struct backpressure *backpressure, uint64_t bytes,
                                   uint64_t now_us)
{
    return backpressure_look(backpressure, bytes, BACKPRESSURE_NONE, now_us);
}

/* As many bytes may wait; found by asking. */
static uint64_t limit_of(const struct backpressure *backpressure)
{
    uint64_t least = 0, most = UINT64_C(1) << 40;
    while (least + 1 < most) {
        uint64_t middle = (least + most) / 2;
        if (look(backpressure, middle, BEGIN_US))
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
    backpressure_note_write(&never, BEGIN_US);
    assert_false(backpressure_wants_sync(&never, UINT64_MAX));
    assert_int_equal(look(&never, UINT64_MAX, UINT64_MAX), BACKPRESSURE_NONE);
}

static void test_a_write_older_than_the_window_holds_writers(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    backpressure_note_write(&backpressure, BEGIN_US);
    backpressure_note_write(&backpressure, BEGIN_US + SECOND / 2);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + SECOND), BACKPRESSURE_NONE);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + SECOND + 1), BACKPRESSURE_AGE);
    assert_int_equal(look(&backpressure, 0, BEGIN_US + SECOND + 1), BACKPRESSURE_NONE);
}

static void test_what_was_never_written_does_not_age(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    sync_took(&backpressure, 0, 1);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + 1000 * SECOND), BACKPRESSURE_NONE);
    backpressure_note_write(&backpressure, BEGIN_US + 1000 * SECOND);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + 1001 * SECOND), BACKPRESSURE_NONE);
}

static void test_age_is_that_of_the_oldest_write_and_not_of_the_last_sync(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    backpressure_note_write(&backpressure, BEGIN_US);
    backpressure_begin_sync(&backpressure);
    backpressure_note_write(&backpressure, BEGIN_US + SECOND * 8 / 10);
    assert_int_equal(look(&backpressure, 2, BEGIN_US + SECOND + 1), BACKPRESSURE_AGE); /* covered */
    backpressure_end_sync(&backpressure, 1, BEGIN_US, BEGIN_US + 2 * SECOND);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + SECOND * 18 / 10), BACKPRESSURE_NONE);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + SECOND * 18 / 10 + 1), BACKPRESSURE_AGE);
}

static void test_what_a_failed_sync_has_covered_goes_on_to_age(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    backpressure_note_write(&backpressure, BEGIN_US);
    backpressure_begin_sync(&backpressure);
    backpressure_note_write(&backpressure, BEGIN_US + SECOND);
    backpressure_begin_sync(&backpressure);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + SECOND + 1), BACKPRESSURE_AGE);
    backpressure_end_sync(&backpressure, 1, BEGIN_US, BEGIN_US + 1);
    assert_int_equal(look(&backpressure, 1, BEGIN_US + 9 * SECOND), BACKPRESSURE_NONE);
}

static void test_a_look_from_before_the_last_write_is_no_harm(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    backpressure_note_write(&backpressure, BEGIN_US);
    assert_int_equal(look(&backpressure, 1, BEGIN_US - 1), BACKPRESSURE_NONE);
}

static void test_who_is_held_for_age_stays_so_until_little_is_old(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    uint64_t now_us = BEGIN_US + SECOND * 7 / 10;
    backpressure_note_write(&backpressure, BEGIN_US);
    assert_int_equal(backpressure_look(&backpressure, 1, BACKPRESSURE_AGE, now_us),
                     BACKPRESSURE_AGE);
    assert_int_equal(backpressure_look(&backpressure, 1, BACKPRESSURE_BYTES, now_us),
                     BACKPRESSURE_NONE);
    assert_int_equal(
        backpressure_look(&backpressure, 1, BACKPRESSURE_AGE, BEGIN_US + SECOND * 6 / 10),
        BACKPRESSURE_NONE);
}

static void test_a_sync_is_due_when_a_write_is_half_a_window_old(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    assert_int_equal(backpressure_due_us(&backpressure, BEGIN_US), BEGIN_US + SECOND / 2);
    backpressure_note_write(&backpressure, BEGIN_US);
    assert_int_equal(backpressure_due_us(&backpressure, BEGIN_US + 9), BEGIN_US + SECOND / 2);
    backpressure_begin_sync(&backpressure);
    assert_int_equal(backpressure_due_us(&backpressure, BEGIN_US + 9), BEGIN_US + SECOND / 2 + 9);
}

static void test_where_replies_wait_for_the_disk_age_is_no_matter(void **state)
{
    (void)state;
    struct backpressure always = made_with(0);
    backpressure_note_write(&always, BEGIN_US);
    assert_int_equal(look(&always, 1, BEGIN_US + 1000 * SECOND), BACKPRESSURE_NONE);
    assert_int_equal(look(&always, BACKPRESSURE_LIMIT_MAX + 1, BEGIN_US), BACKPRESSURE_BYTES);
}

/* Writers who write whenever they may, and a syncer whose syncs take so long, as log_sync.c
 * drives it. */
struct run {
    struct backpressure backpressure;
    enum backpressure_hold held;
    uint64_t now_us, begin_us, end_us; /* of the running sync; end_us 0: none runs */
    uint64_t waiting, covered;         /* writes, of a byte each */
    uint64_t oldest_us;                /* of them; UINT64_MAX: none */
    uint64_t first_us;                 /* since the sync began */
    uint64_t accepted, ticks;
};

#define TICK_US 1000

static void sync_begins(struct run *run, uint64_t sync_us)
{
    backpressure_begin_sync(&run->backpressure);
    run->covered = run->waiting;
    run->first_us = UINT64_MAX;
    run->begin_us = run->now_us;
    run->end_us = run->now_us + sync_us;
}

static void sync_ends(struct run *run)
{
    backpressure_end_sync(&run->backpressure, run->covered, run->begin_us, run->end_us);
    run->waiting -= run->covered;
    run->oldest_us = run->first_us;
    run->end_us = 0;
    run->held = backpressure_look(&run->backpressure, run->waiting, run->held, run->now_us);
}

/* L5: whoever may write, no write that is not synced is older than the window, but for the tick
 * in which that is found. */
static void write_one(struct run *run)
{
    if (run->waiting)
        assert_true(run->now_us - run->oldest_us <= run->backpressure.window_us + TICK_US);
    if (run->waiting == 0)
        run->oldest_us = run->now_us;
    if (run->first_us == UINT64_MAX)
        run->first_us = run->now_us;
    run->waiting++;
    run->accepted++;
    backpressure_note_write(&run->backpressure, run->now_us);
    run->held = look(&run->backpressure, run->waiting, run->now_us);
}

/* The share of time in which writes are accepted; syncs take from `least_us` to `most_us`. */
static double share_accepted(uint64_t least_us, uint64_t most_us, uint64_t seed)
{
    struct rng rng = {seed};
    struct run run = {.backpressure = made_with(1000),
                      .now_us = BEGIN_US,
                      .oldest_us = UINT64_MAX,
                      .first_us = UINT64_MAX};
    for (; run.now_us < BEGIN_US + 300 * SECOND; run.now_us += TICK_US, run.ticks++) {
        if (run.end_us && run.now_us >= run.end_us)
            sync_ends(&run);
        bool due = run.held || run.now_us >= backpressure_due_us(&run.backpressure, run.now_us);
        if (!run.end_us && due)
            sync_begins(&run, least_us + rng_next(&rng) % (most_us - least_us + 1));
        if (!run.held)
            write_one(&run);
    }
    return (double)run.accepted / (double)run.ticks;
}

static void test_a_disk_with_half_a_window_for_a_sync_holds_nobody(void **state)
{
    (void)state;
    for (uint64_t sync_us = 1000; sync_us < SECOND / 2; sync_us += 7000)
        assert_true(share_accepted(sync_us, sync_us, 1) > 0.999);
    assert_true(share_accepted(0, SECOND / 2 - 2000, 1) > 0.999);
}

static void test_a_slower_disk_takes_less_and_never_nothing(void **state)
{
    (void)state;
    double before = 1;
    for (uint64_t sync_us = SECOND / 20; sync_us <= 3 * SECOND; sync_us += SECOND / 20) {
        double share = share_accepted(sync_us, sync_us, 1), seconds = (double)sync_us / 1e6;
        assert_true(share <= before + 0.01); /* the slower, the less */
        assert_true(share >= before - 0.2);  /* and no step is high */
        assert_true(share >= 0.95 / (0.5 + 2 * seconds) || share > 0.57);
        before = share;
    }
}

static void test_a_disk_that_is_now_fast_and_now_slow_takes_what_its_mean_would(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        assert_true(share_accepted(0, SECOND, seed) > 0.5);
        assert_true(share_accepted(SECOND / 2, SECOND, seed) > 0.4);
        assert_true(share_accepted(SECOND / 2, 3 * SECOND, seed) > 0.2);
    }
}

static void test_a_sync_is_slow_when_it_leaves_less_than_half_of_the_window(void **state)
{
    (void)state;
    struct backpressure backpressure = made_with(1000);
    assert_false(backpressure_is_slow(&backpressure, SECOND / 2));
    assert_true(backpressure_is_slow(&backpressure, SECOND / 2 + 1));
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
        cmocka_unit_test(test_what_was_never_written_does_not_age),
        cmocka_unit_test(test_age_is_that_of_the_oldest_write_and_not_of_the_last_sync),
        cmocka_unit_test(test_what_a_failed_sync_has_covered_goes_on_to_age),
        cmocka_unit_test(test_a_look_from_before_the_last_write_is_no_harm),
        cmocka_unit_test(test_who_is_held_for_age_stays_so_until_little_is_old),
        cmocka_unit_test(test_a_sync_is_due_when_a_write_is_half_a_window_old),
        cmocka_unit_test(test_a_disk_with_half_a_window_for_a_sync_holds_nobody),
        cmocka_unit_test(test_a_slower_disk_takes_less_and_never_nothing),
        cmocka_unit_test(test_a_disk_that_is_now_fast_and_now_slow_takes_what_its_mean_would),
        cmocka_unit_test(test_a_sync_is_slow_when_it_leaves_less_than_half_of_the_window),
        cmocka_unit_test(test_where_replies_wait_for_the_disk_age_is_no_matter),
        cmocka_unit_test(test_as_much_may_wait_as_the_disk_takes_in_a_window),
        cmocka_unit_test(test_one_fast_sync_does_not_make_a_fast_disk),
        cmocka_unit_test(test_a_sync_of_little_says_nothing_of_speed),
        cmocka_unit_test(
            test_a_short_window_takes_less_and_a_long_one_not_more_than_a_second_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
