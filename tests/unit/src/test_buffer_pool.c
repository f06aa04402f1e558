/* test_buffer_pool.c: which large buffers are kept, and which are freed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "src/net/buffer_pool.h"

static void give(struct buffer_pool *spare, size_t capacity)
{
    struct pool_buffer buffer = {.data = malloc(capacity), .capacity = capacity};
    assert_non_null(buffer.data);
    buffer_pool_give(spare, buffer);
}

static size_t take(struct buffer_pool *spare, size_t capacity)
{
    struct pool_buffer buffer;
    if (!buffer_pool_take(spare, capacity, &buffer))
        return 0;
    memset(buffer.data, 1, buffer.capacity);
    free(buffer.data);
    return buffer.capacity;
}

static void test_the_smallest_that_is_enough_is_taken(void **state)
{
    (void)state;
    struct buffer_pool spare = {0};
    assert_int_equal(take(&spare, 1), 0);
    give(&spare, 3000);
    give(&spare, 1000);
    give(&spare, 2000);
    assert_int_equal(take(&spare, 3001), 0);
    assert_int_equal(take(&spare, 1001), 2000);
    assert_int_equal(take(&spare, 1001), 3000);
    assert_int_equal(take(&spare, 1001), 0);
    assert_int_equal(take(&spare, 1000), 1000);
    assert_int_equal(spare.bytes, 0);
    buffer_pool_release(&spare);
}

static void test_small_ones_make_room_for_large_ones(void **state)
{
    (void)state;
    struct buffer_pool spare = {0};
    for (size_t i = 0; i < BUFFER_POOL_BUFFERS + 3; i++)
        give(&spare, 1000);
    assert_int_equal(spare.count, BUFFER_POOL_BUFFERS);
    give(&spare, 2000);
    assert_int_equal(spare.count, BUFFER_POOL_BUFFERS);
    assert_int_equal(take(&spare, 1001), 2000);
    give(&spare, BUFFER_POOL_BYTES_MAX / 2);
    give(&spare, BUFFER_POOL_BYTES_MAX / 2);
    assert_int_equal(spare.count, 2);
    assert_int_equal(spare.bytes, BUFFER_POOL_BYTES_MAX);
    give(&spare, 1000);
    assert_int_equal(spare.count, 2);
    buffer_pool_release(&spare);
}

static void test_none_is_kept_beyond_the_limit(void **state)
{
    (void)state;
    struct buffer_pool spare = {0};
    give(&spare, 1000);
    give(&spare, BUFFER_POOL_BYTES_MAX + 1);
    assert_int_equal(spare.count, 1);
    assert_int_equal(spare.bytes, 1000);
    buffer_pool_release(&spare);
}

static void test_what_nobody_takes_goes_back(void **state)
{
    (void)state;
    struct buffer_pool spare = {0};
    give(&spare, 1000);
    give(&spare, 2000);
    give(&spare, 3000);
    buffer_pool_age(&spare);
    assert_int_equal(spare.count, 3);
    assert_int_equal(take(&spare, 1001), 2000);
    give(&spare, 2000);
    buffer_pool_age(&spare);
    assert_int_equal(spare.count, 1);
    assert_int_equal(spare.bytes, 2000);
    buffer_pool_age(&spare);
    assert_int_equal(spare.count, 0);
    assert_int_equal(spare.bytes, 0);
    buffer_pool_release(&spare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_smallest_that_is_enough_is_taken),
        cmocka_unit_test(test_small_ones_make_room_for_large_ones),
        cmocka_unit_test(test_none_is_kept_beyond_the_limit),
        cmocka_unit_test(test_what_nobody_takes_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
