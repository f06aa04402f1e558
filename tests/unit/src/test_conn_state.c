/* The states of connections, as `stats conns` tells them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "src/base/server_log.h"
#include "src/net/conn.h"

void server_log(const char *format, ...)
{
    (void)format;
}

static void expect(struct conn *conn, const char *name)
{
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
    refused.client.parser.text.swallow = 1;
    header.client.parser.protocol = packet.client.parser.protocol = PROTOCOL_BINARY;
    expect(&idle, "conn_read");
    expect(&line, "conn_read");
    expect(&body, "conn_nread");
    expect(&refused, "conn_swallow");
    expect(&header, "conn_read");
    expect(&packet, "conn_nread");
    packet.client.parser.binary.swallow = 1;
    expect(&packet, "conn_swallow");
}

static void test_what_it_waits_for_here_comes_first(void **state)
{
    (void)state;
    struct conn fetching = {.client.waits = WAIT_READ},
                syncing = {.client.waits = WAIT_SYNC | WAIT_OUTPUT},
                parked = {.client.waits = WAIT_SPACE, .in_len = 9},
                in_line = {.client.waits = WAIT_MEMORY, .in_len = 9},
                writing = {.client.waits = WAIT_OUTPUT, .in_len = 9, .need = 99},
                turn = {.turn = TURN_OVER, .in_len = 9, .need = 99},
                watching = {.client.waits = WAIT_WATCH | WAIT_OUTPUT},
                dumping = {.client.waits = WAIT_DUMP},
                dumped = {.client.waits = WAIT_DUMP | WAIT_OUTPUT};
    expect(&fetching, "conn_io_queue");
    expect(&syncing, "conn_io_queue");
    expect(&parked, "conn_io_queue");
    expect(&in_line, "conn_io_queue");
    expect(&writing, "conn_mwrite");
    expect(&turn, "conn_parse_cmd");
    expect(&watching, "conn_watch");
    expect(&dumping, "conn_io_queue");
    expect(&dumped, "conn_mwrite");
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
