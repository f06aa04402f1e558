/* The states of connections, as `stats conns` tells them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "src/net/conn.h"
#include "src/net/worker.h"

static struct worker worker;

static void expect(struct conn *conn, const char *name)
{
    conn->worker = &worker;
    conn_note_state(conn);
    assert_string_equal(conn_state_name(conn), name);
}

static void test_a_new_one_has_sent_nothing(void **state)
{
    (void)state;
    struct conn conn = {0};
    assert_string_equal(conn_state_name(&conn), "conn_new_cmd");
    conn_set_state(&conn, CONN_STATE_PARSE);
    assert_string_equal(conn_state_name(&conn), "conn_parse_cmd");
}

static void test_what_is_to_come_from_the_client(void **state)
{
    (void)state;
    struct conn idle = {0}, line = {.in_len = 5}, body = {.in_len = 15, .need = 100};
    struct conn refused = {0}, header = {.in_len = 23, .need = 24},
                packet = {.in_len = 24, .need = 25};
    refused.parser.text.swallow = 1;
    header.parser.protocol = packet.parser.protocol = PROTOCOL_BINARY;
    expect(&idle, "conn_read");
    expect(&line, "conn_read");
    expect(&body, "conn_nread");
    expect(&refused, "conn_swallow");
    expect(&header, "conn_read");
    expect(&packet, "conn_nread");
    packet.parser.binary.swallow = 1;
    expect(&packet, "conn_swallow");
}

static void test_what_it_waits_for_here_comes_first(void **state)
{
    (void)state;
    struct piece piece;
    struct conn fetching = {.fetching = 1}, syncing = {.syncing = true, .pending = &piece},
                parked = {.parked = true, .in_len = 9};
    struct conn writing = {.pending = &piece, .in_len = 9, .need = 99},
                turn = {.stopped = true, .in_len = 9, .need = 99};
    struct conn watching = {.watching = true, .pending = &piece}, dumping = {0};
    expect(&fetching, "conn_io_queue");
    expect(&syncing, "conn_io_queue");
    expect(&parked, "conn_io_queue");
    expect(&writing, "conn_mwrite");
    expect(&turn, "conn_parse_cmd");
    expect(&watching, "conn_watch");
    expect(&dumping, "conn_read");
    worker.dumping = &dumping;
    expect(&dumping, "conn_io_queue");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_one_has_sent_nothing),
        cmocka_unit_test(test_what_is_to_come_from_the_client),
        cmocka_unit_test(test_what_it_waits_for_here_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
