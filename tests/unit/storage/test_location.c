/* test_location.c: places and sizes in eight bytes. */
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#include "storage/index/location.h"
#include "storage/log/segment.h"

static void test_sizes_up_to_8_kib_are_exact(void **state)
{
    (void)state;
    for (uint64_t size = 0; size <= 8192; size += 8)
        assert_true(size_of_code(size_code(size)) == size);
}

static void check_rounding(uint64_t size)
{
    uint64_t rounded = size_of_code(size_code(size));
    assert_true(rounded >= size);
    assert_true((double)(rounded - size) < 0.004 * (double)size + 8);
    if (size % 8 == 0)
        assert_true((double)(rounded - size) <= 0.004 * (double)size);
    assert_int_equal(size_code(rounded), size_code(size));
}

static void test_sizes_are_rounded_up_by_less_than_0_4_percent(void **state)
{
    (void)state;
    struct rng rng = {1};
    for (uint64_t size = 1; size < 100000; size++)
        check_rounding(size);
    for (int i = 0; i < 1000000; i++)
        check_rounding(1 + rng_next(&rng) % SEGMENT_SIZE_MAX);
    for (int shift = 3; shift <= 31; shift++)
        for (int by = -8; by <= 8; by++)
            if ((1LL << shift) + by > 0)
                check_rounding((uint64_t)((1LL << shift) + by));
}

static void test_codes_grow_with_sizes(void **state)
{
    (void)state;
    uint32_t last = 0;
    for (uint64_t size = 0; size <= SEGMENT_SIZE_MAX; size += size < 1 << 20 ? 8 : 1000) {
        uint32_t code = size_code(size);
        assert_true(code == last || code == last + 1);
        last = code;
    }
    for (uint32_t code = 1; code < 1 << 14; code++)
        assert_true(size_of_code(code) > size_of_code(code - 1));
}

static void test_the_largest_segment_has_a_code(void **state)
{
    (void)state;
    assert_true(size_code(SEGMENT_SIZE_MAX) < 1 << 14);
    assert_int_equal(size_code(0), 0);
    assert_int_equal(size_code(1), 1);
}

static void test_each_place_goes_round(void **state)
{
    (void)state;
    struct rng rng = {2};
    for (int i = 0; i < 1000000; i++) {
        uint32_t segment_index = rng_below(&rng, SEGMENT_INDEXES_MAX);
        uint32_t offset = rng_below(&rng, SEGMENT_SIZE_MAX / 8) * 8;
        uint64_t size = 1 + rng_next(&rng) % SEGMENT_SIZE_MAX;
        uint64_t location = location_of(segment_index, offset, size);
        assert_int_equal(location_segment_index(location), segment_index);
        assert_int_equal(location_offset(location), offset);
        assert_true(location_size(location) == size_of_code(size_code(size)));
        assert_false(location_in_ram(location));
        assert_false(location & LOCATION_VISITED);
        assert_true(location_same_address(location, location_of(segment_index, offset, 8) |
                                                        LOCATION_VISITED));
    }
}

static void test_places_compare_as_their_order_in_the_log(void **state)
{
    (void)state;
    uint64_t last = location_of(1, SEGMENT_SIZE_MAX - 8, 8) & LOCATION_ADDRESS_MASK;
    uint64_t next = location_of(2, SEGMENT_HEADER_SIZE, 8) & LOCATION_ADDRESS_MASK;
    assert_true(last < next);
    assert_false(location_same_address(last, next));
}

static void test_an_item_in_ram_keeps_the_size_of_its_record(void **state)
{
    (void)state;
    static uint64_t item;
    uint64_t disk = location_of(3, 4096, 123456);
    uint64_t location = location_of_item(&item, disk);
    assert_true(location_in_ram(location));
    assert_ptr_equal(location_item(location), &item);
    assert_true(location_size(location) == location_size(disk));
    assert_ptr_equal(location_item(location | LOCATION_VISITED), &item);
    assert_true(location_in_ram(location | LOCATION_VISITED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_up_to_8_kib_are_exact),
        cmocka_unit_test(test_sizes_are_rounded_up_by_less_than_0_4_percent),
        cmocka_unit_test(test_codes_grow_with_sizes),
        cmocka_unit_test(test_the_largest_segment_has_a_code),
        cmocka_unit_test(test_each_place_goes_round),
        cmocka_unit_test(test_places_compare_as_their_order_in_the_log),
        cmocka_unit_test(test_an_item_in_ram_keeps_the_size_of_its_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
