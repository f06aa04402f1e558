/* test_journal.c: bytes of clients cannot break a line, and a line is never longer than it may be. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/journal.h"

static void test_what_is_printable_stays_and_all_else_is_told_in_hex(void **state)
{
    (void)state;
    char out[JOURNAL_ESCAPED_MAX];
    assert_string_equal(journal_escape(out, "get key~ !", 10), "get key~ !");
    assert_string_equal(journal_escape(out, "a\r\n\0\x1b\x7f\x80\xff\\n", 10),
                        "a\\x0d\\x0a\\x00\\x1b\\x7f\\x80\\xff\\x5cn");
    assert_string_equal(journal_escape(out, "", 0), "");
}

static void test_every_byte_of_any_number_stays_in_its_room(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++)
        for (size_t len = 0; len < 2 * JOURNAL_ESCAPED_MAX; len++) {
            char bytes[2 * JOURNAL_ESCAPED_MAX], out[JOURNAL_ESCAPED_MAX + 1];
            memset(bytes, (int)byte, len);
            out[JOURNAL_ESCAPED_MAX] = 'x';
            journal_escape(out, bytes, len);
            assert_int_equal(out[JOURNAL_ESCAPED_MAX], 'x');
            size_t written = strlen(out);
            assert_true(written < JOURNAL_ESCAPED_MAX);
            for (size_t i = 0; i < written; i++)
                assert_true(out[i] >= ' ' && out[i] < 0x7f);
        }
}

/* What journal writes to standard error. */
static size_t capture(const char *text, char *out, size_t room)
{
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    journal("%s", text);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t got = read(ends[0], out, room);
    close(ends[0]);
    return got < 0 ? 0 : (size_t)got;
}

static void test_a_line_has_one_end_and_a_limit(void **state)
{
    (void)state;
    char text[8000], out[9000];
    assert_int_equal(capture("hello", out, sizeof out), 6);
    assert_memory_equal(out, "hello\n", 6);
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    size_t len = capture(text, out, sizeof out);
    assert_true(len <= JOURNAL_LINE_MAX && len > JOURNAL_LINE_MAX - 4);
    assert_int_equal(out[len - 1], '\n');
    assert_null(memchr(out, '\0', len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_printable_stays_and_all_else_is_told_in_hex),
        cmocka_unit_test(test_every_byte_of_any_number_stays_in_its_room),
        cmocka_unit_test(test_a_line_has_one_end_and_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
