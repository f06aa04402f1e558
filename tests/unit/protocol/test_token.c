/* test_token.c: words and numbers, at the edge of what may be read. */
#include "tests/unit/protocol/stream.h"

#include "protocol/token.h"

static struct bytes edge_token(const char *word)
{
    size_t len = strlen(word);
    return (struct bytes){at_the_edge(word, len), len};
}

static void test_words_are_separated_by_blanks_only(void **state)
{
    (void)state;
    static const char line[] = "  one two\t2   \rthree ";
    static const char *const words[] = {"one", "two\t2", "\rthree", ""};
    const char *at = at_the_edge(line, strlen(line));
    const char *end = at + strlen(line);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct bytes token = token_next(&at, end);
        assert_true(token_is(token, words[i], strlen(words[i])));
    }
    assert_ptr_equal(at, end);
}

static void test_an_empty_line_has_no_words(void **state)
{
    (void)state;
    const char *at = guard_page();
    assert_int_equal(token_next(&at, guard_page()).len, 0);
}

struct number {
    const char *word;
    bool ok;
    uint64_t value;
};

static void test_unsigned_numbers(void **state)
{
    (void)state;
    static const struct number rows[] = {
        {"0", true, 0},
        {"7", true, 7},
        {"+7", false, 0},
        {"007", true, 7},
        {"00000000000000000000000000000007", true, 7},
        {"9999999999999999999", true, UINT64_C(9999999999999999999)},
        {"18446744073709551615", true, UINT64_MAX},
        {"018446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"18446744073709551620", false, 0},
        {"99999999999999999999", false, 0},
        {"184467440737095516150", false, 0},
        {"", false, 0},
        {"+", false, 0},
        {"-", false, 0},
        {"-1", false, 0},
        {"++1", false, 0},
        {"1x", false, 0},
        {"0x10", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1\xb2", false, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = 42;
        assert_int_equal(token_uint64(edge_token(rows[i].word), &value), rows[i].ok);
        assert_true(value == (rows[i].ok ? rows[i].value : 42));
    }
}

static void test_unsigned_numbers_of_32_bits(void **state)
{
    (void)state;
    uint32_t value = 42;
    assert_false(token_uint32(edge_token("4294967296"), &value));
    assert_false(token_uint32(edge_token("x"), &value));
    assert_int_equal(value, 42);
    assert_true(token_uint32(edge_token("4294967295"), &value));
    assert_int_equal(value, UINT32_MAX);
}

static void test_signed_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        bool ok;
        int64_t value;
    } rows[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"-1", true, -1},
        {"+5", false, 0},
        {"2592001", true, 2592001},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"18446744073709551615", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"--1", false, 0},
        {"-+1", false, 0},
        {"1-", false, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t value = 42;
        assert_int_equal(token_int64(edge_token(rows[i].word), &value), rows[i].ok);
        assert_true(value == (rows[i].ok ? rows[i].value : 42));
    }
}

static bool reads_without_plus(const char *word, int64_t wanted)
{
    int64_t value;
    return token_int64(token_without_plus(edge_token(word)), &value) && value == wanted;
}

static void test_one_plus_where_it_is_taken(void **state)
{
    (void)state;
    assert_true(reads_without_plus("5", 5));
    assert_true(reads_without_plus("+5", 5));
    assert_true(reads_without_plus("-5", -5));
    assert_false(reads_without_plus("++5", 5));
    assert_false(reads_without_plus("+", 0));
    assert_false(reads_without_plus("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_separated_by_blanks_only),
        cmocka_unit_test(test_an_empty_line_has_no_words),
        cmocka_unit_test(test_unsigned_numbers),
        cmocka_unit_test(test_unsigned_numbers_of_32_bits),
        cmocka_unit_test(test_signed_numbers),
        cmocka_unit_test(test_one_plus_where_it_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
