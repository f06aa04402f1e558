/* test_server_log.c: bytes of clients cannot break a line, a line is never longer than it may be,
 * and none waits for a reader. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/server_log.h"

static void test_what_is_printable_stays_and_all_else_is_told_in_hex(void **state)
{
    (void)state;
    char out[SERVER_LOG_ESCAPED_MAX];
    assert_string_equal(server_log_escape(out, "get key~ !", 10), "get key~ !");
    assert_string_equal(server_log_escape(out, "a\r\n\0\x1b\x7f\x80\xff\\n", 10),
                        "a\\x0d\\x0a\\x00\\x1b\\x7f\\x80\\xff\\x5cn");
    assert_string_equal(server_log_escape(out, "", 0), "");
}

static void test_every_byte_of_any_number_stays_in_its_room(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++)
        for (size_t len = 0; len < 2 * SERVER_LOG_ESCAPED_MAX; len++) {
            char bytes[2 * SERVER_LOG_ESCAPED_MAX], out[SERVER_LOG_ESCAPED_MAX + 1];
            memset(bytes, (int)byte, len);
            out[SERVER_LOG_ESCAPED_MAX] = 'x';
            server_log_escape(out, bytes, len);
            assert_int_equal(out[SERVER_LOG_ESCAPED_MAX], 'x');
            size_t written = strlen(out);
            assert_true(written < SERVER_LOG_ESCAPED_MAX);
            for (size_t i = 0; i < written; i++)
                assert_true(out[i] >= ' ' && out[i] < 0x7f);
        }
}

/* Standard error is the writing end of these, until give_back. */
struct tap {
    int reader, saved;
};

static struct tap tap_stderr(int ends[2])
{
    struct tap tap = {.reader = ends[0], .saved = dup(STDERR_FILENO)};
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return tap;
}

static void give_back(struct tap *tap)
{
    dup2(tap->saved, STDERR_FILENO);
    close(tap->saved);
    close(tap->reader);
    server_log_open();
}

/* The text that journal writes to standard error. */
static size_t capture(const char *text, char *out, size_t room)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct tap tap = tap_stderr(ends);
    server_log_open();
    server_log("%s", text);
    ssize_t got = read(tap.reader, out, room);
    give_back(&tap);
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
    assert_true(len <= SERVER_LOG_LINE_MAX && len > SERVER_LOG_LINE_MAX - 4);
    assert_int_equal(out[len - 1], '\n');
    assert_null(memchr(out, '\0', len));
}

/* Adds all that is there to what is there already, zero-terminated. */
static void drain(int fd, char *out, size_t room)
{
    size_t len = strlen(out);
    ssize_t got;
    while ((got = read(fd, out + len, room - 1 - len)) > 0)
        len += (size_t)got;
    out[len] = '\0';
}

/* Counts the lines of so many 'x', and those that the notices between them tell of. A part of one
 * is none. */
static void count_lines(const char *text, size_t line_len, size_t *written, size_t *dropped)
{
    *written = *dropped = 0;
    for (const char *at = text; strchr(at, '\n'); at = strchr(at, '\n') + 1) {
        unsigned long count = 0;
        if (sscanf(at, "warning: %lu lines were dropped here: standard error took", &count) == 1)
            *dropped += count;
        else if (strspn(at, "x") == line_len && at[line_len] == '\n')
            ++*written;
        else
            assert_true(strspn(at, "x") < line_len && at[strspn(at, "x")] == '\n');
    }
}

/* Logs a lot and reads nothing, then reads until each line has come or is reported as dropped. */
static void assert_no_line_is_lost_in_silence(struct tap *tap, size_t line_len)
{
    static char out[16 << 20];
    char line[1000];
    const size_t all = 20000;
    size_t written, dropped;
    memset(line, 'x', sizeof line);
    for (size_t i = 0; i < all; i++)
        server_log("%.*s", (int)line_len, line);
    out[0] = '\0';
    drain(tap->reader, out, sizeof out);
    count_lines(out, line_len, &written, &dropped);
    assert_in_range(written, 1, all - 1);
    for (int tries = 0; written + dropped < all && tries < 1000; tries++) {
        struct pollfd more = {.fd = tap->reader, .events = POLLIN};
        server_log_catch_up();
        poll(&more, 1, 100);
        drain(tap->reader, out, sizeof out);
        count_lines(out, line_len, &written, &dropped);
    }
    assert_int_equal(written + dropped, all);
}

static void assert_dropped_lines_are_told(int ends[2])
{
    struct tap tap = tap_stderr(ends);
    fcntl(tap.reader, F_SETFL, O_NONBLOCK);
    server_log_open();
    assert_no_line_is_lost_in_silence(&tap, 1000);
    give_back(&tap);
}

static void test_a_full_pipe_costs_lines_and_no_time(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_dropped_lines_are_told(ends);
}

/* Standard error is not touched: what we share with others still blocks. */
static void test_a_pipe_is_as_it_was_for_others(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct tap tap = tap_stderr(ends);
    server_log_open();
    assert_false(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK);
    give_back(&tap);
}

/* journald's, for one. */
static void test_a_full_socket_costs_lines_and_no_time(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_dropped_lines_are_told(ends);
}

/* inetd's: it takes parts of lines. */
static void test_a_line_that_was_cut_is_ended_before_the_next(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), ends[2];
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(ends[1], (struct sockaddr *)&address, len), 0);
    ends[0] = accept(listener, NULL, NULL);
    close(listener);
    assert_dropped_lines_are_told(ends);
}

/* Another user's pipe cannot be opened again; this stands for it. */
static void test_before_it_is_opened_it_does_not_wait_either(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct tap tap = tap_stderr(ends);
    fcntl(tap.reader, F_SETFL, O_NONBLOCK);
    assert_no_line_is_lost_in_silence(&tap, 100);
    give_back(&tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_it_is_opened_it_does_not_wait_either), /* the first */
        cmocka_unit_test(test_what_is_printable_stays_and_all_else_is_told_in_hex),
        cmocka_unit_test(test_every_byte_of_any_number_stays_in_its_room),
        cmocka_unit_test(test_a_line_has_one_end_and_a_limit),
        cmocka_unit_test(test_a_full_pipe_costs_lines_and_no_time),
        cmocka_unit_test(test_a_pipe_is_as_it_was_for_others),
        cmocka_unit_test(test_a_full_socket_costs_lines_and_no_time),
        cmocka_unit_test(test_a_line_that_was_cut_is_ended_before_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
