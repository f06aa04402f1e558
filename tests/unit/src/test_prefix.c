/* test_prefix.c: counting by prefixes, as many as there may be and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "src/observe/prefix.h"

struct found {
    char text[256];
    uint64_t counts[PREFIX_COUNTERS];
    uint64_t all;
};

static void count(struct prefixes *prefixes, const char *key, enum prefix_counter counter)
{
    prefixes_count(prefixes, key, strlen(key), counter);
}

static void keep_last(void *context, const char *prefix, size_t len,
                      const uint64_t counts[PREFIX_COUNTERS])
{
    struct found *found = context;
    memcpy(found->text, prefix, len);
    found->text[len] = '\0';
    memcpy(found->counts, counts, sizeof found->counts);
    found->all++;
}

static void test_each_counter_is_its_own(void **state)
{
    (void)state;
    struct prefixes *prefixes = prefixes_new('/');
    struct found found = {.all = 0};
    for (int counter = 0; counter < PREFIX_COUNTERS; counter++)
        for (int i = 0; i <= counter; i++)
            count(prefixes, "user/1/2", (enum prefix_counter)counter);
    prefixes_each(prefixes, keep_last, &found);
    assert_int_equal(found.all, 1);
    assert_string_equal(found.text, "user");
    for (int counter = 0; counter < PREFIX_COUNTERS; counter++)
        assert_int_equal(found.counts[counter], counter + 1);
    prefixes_free(prefixes);
}

static void test_keys_without_a_delimiter_are_not_counted(void **state)
{
    (void)state;
    struct prefixes *prefixes = prefixes_new(':');
    struct found found = {.all = 0};
    count(prefixes, "plain", PREFIX_GET);
    count(prefixes, "", PREFIX_GET);
    prefixes_each(prefixes, keep_last, &found);
    assert_int_equal(found.all, 0);
    count(prefixes, ":x", PREFIX_GET);
    prefixes_each(prefixes, keep_last, &found);
    assert_int_equal(found.all, 1);
    assert_string_equal(found.text, "");
    prefixes_free(prefixes);
}

static void test_there_is_an_end_of_prefixes_until_they_are_cleared(void **state)
{
    (void)state;
    struct prefixes *prefixes = prefixes_new(':');
    struct found found = {.all = 0};
    char key[32];
    for (int i = 0; i < PREFIX_COUNT_MAX + 100; i++) {
        snprintf(key, sizeof key, "%d:", i);
        count(prefixes, key, PREFIX_SET);
    }
    prefixes_each(prefixes, keep_last, &found);
    assert_int_equal(found.all, PREFIX_COUNT_MAX);
    prefixes_clear(prefixes);
    found.all = 0;
    prefixes_each(prefixes, keep_last, &found);
    assert_int_equal(found.all, 0);
    count(prefixes, key, PREFIX_SET);
    prefixes_each(prefixes, keep_last, &found);
    assert_int_equal(found.all, 1);
    assert_int_equal(found.counts[PREFIX_SET], 1);
    prefixes_free(prefixes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_counter_is_its_own),
        cmocka_unit_test(test_keys_without_a_delimiter_are_not_counted),
        cmocka_unit_test(test_there_is_an_end_of_prefixes_until_they_are_cleared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
