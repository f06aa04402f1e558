/* test_histogram.c: percentiles are never too low, and at most a quarter too high. */
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#include <stdlib.h>

#include "storage/base/histogram.h"

static void test_an_empty_histogram_says_0(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    assert_int_equal(histogram_percentile(&histogram, 0), 0);
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
    assert_int_equal(histogram_percentile(&histogram, 100), 0);
}

static void check_one(uint64_t us)
{
    struct histogram histogram = {0};
    histogram_add(&histogram, us);
    for (int percent = 0; percent <= 100; percent += 25) {
        uint64_t estimate = histogram_percentile(&histogram, percent);
        assert_true(estimate >= us);
        assert_true(estimate <= us + us / 4);
    }
}

static void test_one_time_is_told_within_a_quarter(void **state)
{
    (void)state;
    for (uint64_t us = 0; us < 10000; us++)
        check_one(us);
    for (int shift = 13; shift <= 40; shift++)
        for (int by = -1; by <= 1; by++)
            check_one((UINT64_C(1) << shift) + (uint64_t)by);
}

static void test_times_beyond_all_buckets_are_counted_in_the_last(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    histogram_add(&histogram, UINT64_MAX);
    assert_true(histogram_percentile(&histogram, 50) >= UINT64_C(1) << 40);
    histogram_add(&histogram, 1);
    assert_int_equal(histogram_percentile(&histogram, 50), 1);
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void test_percentiles_are_those_of_the_sorted_times(void **state)
{
    (void)state;
    static uint64_t times[1000];
    struct histogram histogram = {0};
    struct rng rng = {3};
    for (int i = 0; i < 1000; i++) {
        times[i] = rng_next(&rng) >> (30 + rng_below(&rng, 30));
        histogram_add(&histogram, times[i]);
    }
    qsort(times, 1000, sizeof *times, by_value);
    for (int rank = 1; rank <= 1000; rank++) {
        uint64_t exact = times[rank - 1];
        /* Half a rank less than rank / 1000, so that no rounding of the quotient matters. */
        uint64_t estimate = histogram_percentile(&histogram, (rank - 0.5) / 10);
        assert_true(estimate >= exact && estimate <= exact + exact / 4);
    }
    assert_true(histogram_percentile(&histogram, 100) >= times[999]);
}

static void test_a_rare_slow_one_shows_only_in_the_high_percentiles(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    for (int i = 0; i < 99; i++)
        histogram_add(&histogram, 2);
    histogram_add(&histogram, 1000000);
    assert_int_equal(histogram_percentile(&histogram, 50), 2);
    assert_int_equal(histogram_percentile(&histogram, 99), 2);
    assert_true(histogram_percentile(&histogram, 99.5) >= 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_histogram_says_0),
        cmocka_unit_test(test_one_time_is_told_within_a_quarter),
        cmocka_unit_test(test_times_beyond_all_buckets_are_counted_in_the_last),
        cmocka_unit_test(test_percentiles_are_those_of_the_sorted_times),
        cmocka_unit_test(test_a_rare_slow_one_shows_only_in_the_high_percentiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
