/* test_base64.c: what is encoded is decoded again, and what is no base64 is refused. */
#include <stdlib.h>

#include "protocol/base64.h"
#include "tests/unit/protocol/stream.h"

static struct bytes word_of(const char *text)
{
    return (struct bytes){text, strlen(text)};
}

static void test_the_examples_of_rfc_4648(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"f", "Zg=="},         {"fo", "Zm8="},
                                          {"foo", "Zm9v"},       {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[16];
        size_t len = base64_encode(out, rows[i][0], strlen(rows[i][0]));
        assert_int_equal(len, BASE64_LEN(strlen(rows[i][0])));
        assert_memory_equal(out, rows[i][1], strlen(rows[i][1]));
        len = base64_decode(out, sizeof(out), word_of(rows[i][1]));
        assert_int_equal(len, strlen(rows[i][0]));
        assert_memory_equal(out, rows[i][0], len);
    }
}

static void test_every_length_comes_back(void **state)
{
    (void)state;
    srand(1);
    for (size_t len = 1; len <= KEY_LEN_MAX; len++) {
        char data[KEY_LEN_MAX];
        char digits[BASE64_LEN(KEY_LEN_MAX)];
        char *room = guard_page() - len;
        for (size_t i = 0; i < len; i++)
            data[i] = (char)rand();
        size_t count = base64_encode(digits, data, len);
        assert_int_equal(count, BASE64_LEN(len));
        assert_int_equal(base64_decode(room, len, (struct bytes){digits, count}), len);
        assert_memory_equal(room, data, len);
        assert_int_equal(base64_decode(room, len - 1, (struct bytes){digits, count}), 0);
    }
}

static void test_what_is_no_base64_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",      "Z",        "Zg",       "Zg=", "====", "Z===",
                                       "Zm9vZ", "Zg==Zg==", "Zg==Zm9v", ":::", "=g==", "Z=g="};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[16];
        assert_int_equal(base64_decode(out, sizeof(out), word_of(rows[i])), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_examples_of_rfc_4648),
        cmocka_unit_test(test_every_length_comes_back),
        cmocka_unit_test(test_what_is_no_base64_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
