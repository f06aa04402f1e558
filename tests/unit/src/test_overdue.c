/* Connections that have waited, or have let others wait, for too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/base/server_log.h"
#include "src/net/overdue.h"

static struct worker worker;
static struct conn conn;
static int pair[2];
static uint32_t said;

void server_log(const char *format, ...)
{
    (void)format;
    said++;
}

bool server_log_may_repeat(_Atomic uint32_t *last_s, uint32_t now_s)
{
    (void)last_s, (void)now_s;
    return true;
}

static int set_up(void **state)
{
    (void)state;
    memset(&worker, 0, sizeof worker);
    memset(&conn, 0, sizeof conn);
    said = 0;
    worker.conns = &conn;
    worker.context.now_s = 1000;
    conn.client.context = &worker.context;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return -1;
    conn.client.fd = pair[0];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static bool is_shut(void)
{
    char byte;
    return recv(pair[1], &byte, 1, MSG_DONTWAIT) == 0;
}

static void test_a_client_that_holds_memory_and_takes_nothing_is_closed(void **state)
{
    (void)state;
    conn.client.fetched_bytes = 8 << 20;
    conn.client.waits = WAIT_OUTPUT | WAIT_SYNC;
    conn.sent_s = worker.context.now_s;
    worker.context.now_s += OVERDUE_READER_S - 1;
    overdue_readers(&worker);
    assert_false(is_shut()); /* it has taken something shortly before */
    worker.context.now_s++;
    overdue_readers(&worker);
    assert_false(is_shut()); /* it could not take anything */
    conn.client.waits = WAIT_READ;
    overdue_readers(&worker);
    assert_false(is_shut()); /* nor does it owe us to take anything */
    conn.client.waits = WAIT_OUTPUT;
    overdue_readers(&worker);
    assert_true(is_shut());
    assert_int_equal(said, 1);
    assert_int_equal(worker.context.counters.response_obj_oom, 1);
}

static void test_a_client_that_holds_no_memory_may_take_its_time(void **state)
{
    (void)state;
    conn.client.waits = WAIT_OUTPUT;
    worker.context.now_s += 100;
    overdue_readers(&worker);
    assert_false(is_shut());
    conn.client.fetched_promised = 1;
    overdue_readers(&worker);
    assert_true(is_shut());
}

static void test_a_disk_that_does_not_answer_is_not_waited_for_for_ever(void **state)
{
    (void)state;
    assert_false(overdue_disk(&worker));
    conn.disk_since_s = worker.context.now_s;
    worker.context.now_s += OVERDUE_DISK_S - 1;
    assert_true(overdue_disk(&worker));
    assert_false(is_shut());
    worker.context.now_s++;
    assert_true(overdue_disk(&worker));
    assert_true(is_shut());
    assert_int_equal(said, 1);
    assert_string_equal(conn.close_reason, "error");
    assert_false(overdue_disk(&worker));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_client_that_holds_memory_and_takes_nothing_is_closed),
        TEST(test_a_client_that_holds_no_memory_may_take_its_time),
        TEST(test_a_disk_that_does_not_answer_is_not_waited_for_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
