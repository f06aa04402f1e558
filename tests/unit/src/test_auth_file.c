/* test_auth_file.c: password files, good and bad, and what is shown to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/command/auth_file.h"

static char path[] = "/tmp/test_auth_file.XXXXXX";
static char why[AUTH_FILE_WHY_MAX];

static void write_file(const char *text, size_t len)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static struct auth_file *open_with(const char *text)
{
    write_file(text, strlen(text));
    return auth_file_open(path, why);
}

static enum auth_result check(struct auth_file *file, const char *shown)
{
    return auth_file_check(file, shown, strlen(shown));
}

static void test_each_user_comes_in_with_the_right_password_only(void **state)
{
    (void)state;
    struct auth_file *file = open_with("user:password\nother:secret\nlast:no newline");
    assert_non_null(file);
    assert_int_equal(check(file, "user password"), AUTH_GRANTED);
    assert_int_equal(check(file, "other secret"), AUTH_GRANTED);
    assert_int_equal(check(file, "last no newline"), AUTH_GRANTED);
    static const char *const wrong[] = {
        "user secret",    "other password", "nobody password", "user passwor",   "user passwordx",
        "user  password", "user Password",  "use rpassword",   "user password ", "last no newlin"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(check(file, wrong[i]), AUTH_REFUSED);
    assert_int_equal(auth_file_check(file, "user password\0", 14), AUTH_REFUSED);
    auth_file_close(file);
}

static void test_what_is_not_user_blank_password(void **state)
{
    (void)state;
    struct auth_file *file = open_with("user:password\n:\nempty:\n:nobody\n");
    assert_non_null(file);
    static const char *const malformed[] = {"",      "user",    "user:password", " ",
                                            "user ", " nobody", "userpassword"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        assert_int_equal(check(file, malformed[i]), AUTH_MALFORMED);
    assert_int_equal(check(file, "empty "), AUTH_GRANTED);
    assert_int_equal(check(file, "empty  "), AUTH_REFUSED);
    auth_file_close(file);
}

static void test_a_file_from_windows(void **state)
{
    (void)state;
    struct auth_file *file = open_with("user:password\r\nempty:\r\ntab:\tin it\r\nlast:word\r");
    assert_non_null(file);
    assert_int_equal(check(file, "user password"), AUTH_GRANTED);
    assert_int_equal(check(file, "user password\r"), AUTH_REFUSED);
    assert_int_equal(check(file, "empty "), AUTH_GRANTED);
    assert_int_equal(check(file, "tab \tin it"), AUTH_GRANTED);
    assert_int_equal(check(file, "last word"), AUTH_GRANTED);
    auth_file_close(file);
}

static void test_only_the_first_colon_ends_the_user(void **state)
{
    (void)state;
    struct auth_file *file = open_with("a:b:c\nx:y z\n");
    assert_non_null(file);
    assert_int_equal(check(file, "a b:c"), AUTH_GRANTED);
    assert_int_equal(check(file, "x y z"), AUTH_GRANTED);
    assert_int_equal(check(file, "a:b c"), AUTH_REFUSED);
    assert_int_equal(check(file, "a b c"), AUTH_REFUSED);
    auth_file_close(file);
}

static void test_bad_files_are_refused_with_the_line(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"", "no line"},          {"\n", "line 1"},          {"a:b\nnonsense\n", "line 2"},
        {"a:b\n\nc:d", "line 2"}, {"# comment\n", "line 1"}, {"a:b\r\n\r\n", "line 2"},
        {"a:b\rc:d\n", "return"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(open_with(bad[i][0]));
        assert_non_null(strstr(why, bad[i][1]));
    }
    assert_null(auth_file_open("/no/such/file", why));
    assert_non_null(strstr(why, "No such file"));
    assert_null(auth_file_open("/tmp", why));
    assert_null(auth_file_open("/dev/zero", why));
    assert_non_null(strstr(why, "larger"));
}

static void test_the_limits(void **state)
{
    (void)state;
    char line[AUTH_FILE_LINE_MAX + 3] = "u:";
    memset(line + 2, 'p', AUTH_FILE_LINE_MAX - 2);
    struct auth_file *file = open_with(line);
    assert_non_null(file);
    line[1] = ' ';
    assert_int_equal(check(file, line), AUTH_GRANTED);
    line[AUTH_FILE_LINE_MAX] = 'p';
    assert_int_equal(check(file, line), AUTH_REFUSED);
    auth_file_close(file);
    line[1] = ':';
    assert_null(open_with(line));
    assert_non_null(strstr(why, "too long"));

    char many[4 * (AUTH_FILE_LINES + 1) + 1] = "";
    for (size_t i = 0; i <= AUTH_FILE_LINES; i++)
        memcpy(many + 4 * i, "a:b\n", 5);
    assert_null(open_with(many));
    assert_non_null(strstr(why, "too many"));
    many[4 * AUTH_FILE_LINES - 2] = 'z';
    many[4 * AUTH_FILE_LINES] = '\0';
    file = open_with(many);
    assert_non_null(file);
    assert_int_equal(check(file, "a z"), AUTH_GRANTED);
    auth_file_close(file);
}

static void test_a_reload_takes_the_new_file_or_keeps_the_old(void **state)
{
    (void)state;
    struct auth_file *file = open_with("a:old\n");
    assert_non_null(file);
    write_file("a:new\nb:c", 9);
    assert_int_equal(check(file, "a old"), AUTH_GRANTED);
    assert_true(auth_file_reload(file, why));
    assert_int_equal(check(file, "a old"), AUTH_REFUSED);
    assert_int_equal(check(file, "a new"), AUTH_GRANTED);
    write_file("a:newer\nb", 9);
    assert_false(auth_file_reload(file, why));
    assert_non_null(strstr(why, "line 2"));
    assert_int_equal(check(file, "a new"), AUTH_GRANTED);
    assert_int_equal(check(file, "b c"), AUTH_GRANTED);
    assert_int_equal(check(file, "a newer"), AUTH_REFUSED);
    auth_file_close(file);
}

static int make_file(void **state)
{
    (void)state;
    return mkstemp(path) < 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_user_comes_in_with_the_right_password_only),
        cmocka_unit_test(test_what_is_not_user_blank_password),
        cmocka_unit_test(test_a_file_from_windows),
        cmocka_unit_test(test_only_the_first_colon_ends_the_user),
        cmocka_unit_test(test_bad_files_are_refused_with_the_line),
        cmocka_unit_test(test_the_limits),
        cmocka_unit_test(test_a_reload_takes_the_new_file_or_keeps_the_old),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
