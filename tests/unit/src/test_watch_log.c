/* test_watch_log.c: lines keep their order, whatever many threads write them, and none is lost
 * without being counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/observe/watch_log.h"

#define WRITERS   3
#define LINES_OF  20000
#define EVENTS_OF 1

static _Atomic uint64_t next_gid;

static void write_text(struct watch_log *log, const char *text)
{
    watch_log_add(log, &next_gid, 7, EVENTS_OF, text, strlen(text));
}

/* Takes the next line and checks it. */
static void expect(struct watch_log *log, const char *text, uint64_t gid)
{
    uint32_t from;
    const struct watch_line *line =
        watch_log_first(log, 1, watch_log_bound(log, 1, &next_gid), &from);
    assert_non_null(line);
    assert_int_equal(line->len, strlen(text));
    assert_memory_equal(line->text, text, line->len);
    assert_int_equal(line->gid, gid);
    assert_int_equal(line->us, 7);
    watch_log_next(log, line);
}

static void expect_nothing(struct watch_log *log)
{
    uint32_t from;
    assert_null(watch_log_first(log, 1, watch_log_bound(log, 1, &next_gid), &from));
}

static struct watch_log *new_logs(uint32_t count, uint32_t size)
{
    struct watch_log *logs = aligned_alloc(_Alignof(struct watch_log), count * sizeof *logs);
    for (uint32_t i = 0; i < count; i++)
        assert_true(watch_log_init(&logs[i], size));
    atomic_store(&next_gid, 1);
    return logs;
}

static void free_logs(struct watch_log *logs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        watch_log_release(&logs[i]);
    free(logs);
}

static void test_lines_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct watch_log *log = new_logs(1, 0);
    expect_nothing(log);
    write_text(log, "one");
    write_text(log, "");
    expect(log, "one", 1);
    expect(log, "", 2);
    expect_nothing(log);
    free_logs(log, 1);
}

/* Every length, so that the gap at the ring's end has every size. */
static void test_lines_of_any_length_go_round(void **state)
{
    (void)state;
    struct watch_log *log = new_logs(1, 0);
    char text[WATCH_LINE_MAX + 1];
    uint64_t gid = 1;
    for (uint32_t turn = 0; turn < 20000; turn++) {
        size_t len = turn * 7 % (WATCH_LINE_MAX + 1);
        memset(text, (int)('a' + turn % 26), len);
        text[len] = '\0';
        write_text(log, text);
        write_text(log, "next");
        expect(log, text, gid++);
        expect(log, "next", gid++);
    }
    assert_int_equal(log->dropped, 0);
    free_logs(log, 1);
}

static void test_what_has_no_room_is_dropped_and_counted(void **state)
{
    (void)state;
    struct watch_log *log = new_logs(1, 0);
    char text[WATCH_LINE_MAX + 1] = "";
    uint64_t kept = 0;
    memset(text, 'x', WATCH_LINE_MAX);
    for (int i = 0; i < 100; i++)
        write_text(log, text);
    kept = log->lines;
    assert_true(kept >= 3 && kept < 100);
    assert_int_equal(log->dropped, 100 - kept);
    for (uint64_t gid = 1; gid <= kept; gid++)
        expect(log, text, gid);
    expect_nothing(log);
    write_text(log, "again");
    expect(log, "again", kept + 1);
    free_logs(log, 1);
}

static void test_a_line_waits_for_one_with_a_lower_number(void **state)
{
    (void)state;
    struct watch_log *logs = new_logs(2, 0);
    uint32_t from;
    uint64_t gid = atomic_load(&next_gid);
    atomic_store(&logs[0].pending, gid); /* as a writer that has its number and no line yet */
    atomic_fetch_add(&next_gid, 1);
    write_text(&logs[1], "later");
    assert_null(watch_log_first(logs, 2, watch_log_bound(logs, 2, &next_gid), &from));
    atomic_store(&logs[0].pending, UINT64_MAX);
    assert_non_null(watch_log_first(logs, 2, watch_log_bound(logs, 2, &next_gid), &from));
    assert_int_equal(from, 1);
    free_logs(logs, 2);
}

static void *write_many(void *context)
{
    struct watch_log *log = context;
    char text[200];
    for (uint64_t n = 0; n < LINES_OF;) {
        uint64_t dropped = atomic_load(&log->dropped);
        memset(text, 'x', sizeof text);
        memcpy(text, &n, sizeof n);
        watch_log_add(log, &next_gid, n, EVENTS_OF, text, sizeof n + n % 150);
        n += atomic_load(&log->dropped) == dropped;
    }
    return NULL;
}

static void test_lines_of_many_threads_come_in_the_order_of_their_numbers(void **state)
{
    (void)state;
    struct watch_log *logs = new_logs(WRITERS, 16 << 10);
    pthread_t threads[WRITERS];
    uint64_t seen[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, write_many, &logs[i]);
    for (uint64_t gid = 1; gid <= WRITERS * LINES_OF;) {
        uint64_t bound = watch_log_bound(logs, WRITERS, &next_gid);
        const struct watch_line *line;
        uint32_t from;
        uint64_t n;
        while ((line = watch_log_first(logs, WRITERS, bound, &from))) {
            memcpy(&n, line->text, sizeof n);
            assert_int_equal(line->gid, gid++);
            assert_int_equal(n, seen[from]);
            assert_int_equal(line->len, sizeof n + n % 150);
            seen[from]++;
            watch_log_next(&logs[from], line);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(logs[i].lines, LINES_OF);
    }
    free_logs(logs, WRITERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_come_out_as_they_went_in),
        cmocka_unit_test(test_lines_of_any_length_go_round),
        cmocka_unit_test(test_what_has_no_room_is_dropped_and_counted),
        cmocka_unit_test(test_a_line_waits_for_one_with_a_lower_number),
        cmocka_unit_test(test_lines_of_many_threads_come_in_the_order_of_their_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
