/* test_progress.c: what a long start says, and when. */
#include "src/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define S  UINT64_C(1000000) /* microseconds */
#define GB UINT64_C(1000000000)

static struct progress progress;
static char line[PROGRESS_LINE_MAX];

static int set_up(void **state)
{
    (void)state;
    progress_init(&progress, 100 * S);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    progress_release(&progress);
    return 0;
}

static bool at(uint64_t now_s, uint64_t done_bytes, uint64_t all_bytes)
{
    return progress_line(&progress, now_s * S, done_bytes, all_bytes, line);
}

static void test_a_quick_start_says_nothing(void **state)
{
    (void)state;
    assert_false(at(100, 0, 0));
    assert_false(at(101, 3 * GB, 4 * GB));
    assert_false(at(101, 4 * GB, 4 * GB));
}

static void test_a_long_one_says_how_much_is_read_and_how_long_it_will_take(void **state)
{
    (void)state;
    assert_true(at(104, 4 * GB, 12 * GB));
    assert_string_equal(line, "recovering: 33 % of 12.0 GB read, about 8 s left");
    assert_true(at(110, 12 * GB, 12 * GB));
    assert_string_equal(line, "recovering: 100 % of 12.0 GB read, about 0 s left");
}

static void test_lines_are_seconds_apart(void **state)
{
    (void)state;
    int count = 0;
    for (uint64_t now_us = 100 * S; now_us < 160 * S; now_us += 1000)
        count += progress_line(&progress, now_us, now_us, 160 * S, line);
    assert_in_range(count, 8, 20);
}

static void test_what_a_thread_reports_late_is_left_out(void **state)
{
    (void)state;
    assert_true(at(110, 5 * GB, 9 * GB));
    assert_false(at(120, 4 * GB, 9 * GB));
    assert_true(at(120, 6 * GB, 9 * GB));
}

static void test_before_the_size_is_known_there_is_no_guess(void **state)
{
    (void)state;
    assert_true(at(103, 0, 0));
    assert_string_equal(line, "recovering: opening the segments of the log");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_quick_start_says_nothing),
        TEST(a_long_one_says_how_much_is_read_and_how_long_it_will_take),
        TEST(lines_are_seconds_apart),
        TEST(what_a_thread_reports_late_is_left_out),
        TEST(before_the_size_is_known_there_is_no_guess),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
