"""Idle connections, connections over the limit, and turns: -o idle_timeout, maxconns_fast, -c,
-R."""
import os
import signal
import time

import pytest

import support
from support import Server, value_of


def is_closed(client):
    client.socket.setblocking(False)
    try:
        return client.socket.recv(1) == b""
    except BlockingIOError:
        return False


def test_an_idle_connection_is_closed_and_a_busy_one_is_not():
    server = Server("-o", "idle_timeout=1")
    busy, idle = server.connect(), server.connect()
    idle.ask(b"version\r\n", b"\r\n")
    started = time.monotonic()
    while not is_closed(idle) or time.monotonic() < started + 2.5:
        busy.expect_nothing()
        time.sleep(0.05)
        assert (time.monotonic() < started + 20 and
                (time.monotonic() > started + 0.9 or not is_closed(idle)))
    stats = busy.stats()
    assert int(stats["idle_kicks"]) >= 1 and stats["curr_connections"] == "1"
    assert busy.stats("settings")["idle_timeout"] == "1"


def test_half_a_request_and_unread_answers_are_idle_too():
    server = Server("-o", "idle_timeout=1")
    with server.connect() as client:
        client.set(b"k", b"x" * 1000000)
    half, deaf = server.connect(), server.connect()
    half.send(b"set k 0 0 100\r\nabc")
    deaf.send(b"get k\r\n" * 50)
    support.wait_until(lambda: int(server.stats()["idle_kicks"]) >= 2, "both are closed")
    half.expect_closed()


def test_without_the_option_nobody_is_closed_and_nothing_counted(server):
    assert "idle_kicks" not in server.stats()
    assert server.stats("settings")["idle_timeout"] == "0"


def test_a_unix_socket_may_be_idle():
    server = Server("-o", "idle_timeout=1", unix=True, start=False)
    server.unix_path = os.path.join(support.place.new("unix"), "socket")
    server.start()
    with server.connect() as client:
        time.sleep(2.5)
        client.expect_nothing()
        assert client.stats()["idle_kicks"] == "0"


def test_no_maxconns_fast_lets_the_next_ones_wait():
    server = Server("-c", "3", "-o", "no_maxconns_fast")
    support.wait_until(lambda: server.stats()["curr_connections"] == "1",
                       "the first connections are counted out")
    first = [server.connect() for _ in range(3)]
    for client in first:
        client.expect_nothing()
    waiting = server.connect()
    waiting.send(b"get no:such:key\r\n")
    assert waiting.rest() == b""
    stats = first[0].stats()
    assert (stats["rejected_connections"] == "0" and stats["accepting_conns"] == "0" and
            stats["listen_disabled_num"] != "0")
    first.pop().close()
    waiting.expect(b"END\r\n")
    first.pop().close()
    support.wait_until(lambda: first[0].stats()["accepting_conns"] == "1", "it listens again")
    assert int(first[0].stats()["time_in_listen_disabled_us"]) > 0


@pytest.mark.parametrize("limit, pipeline, yields", [(5, 100, 19), (1, 10, 9), (20, 20, 0)])
def test_a_connection_has_its_turn_and_others_theirs(limit, pipeline, yields):
    server = Server("-R", str(limit), "-t", "1")
    with server.connect() as client:
        client.set(b"k", b"x")
        before = int(client.stats()["conn_yields"])
        client.talk(b"get k\r\n" * pipeline, b"VALUE k 0 1\r\nx\r\nEND\r\n" * pipeline)
        stats = client.stats()
        assert ((int(stats["conn_yields"]) - before >= yields > 0) or
                int(stats["conn_yields"]) == before + yields)
        assert client.stats("settings")["reqs_per_event"] == str(limit)


def test_a_multiget_is_one_request():
    server = Server("-R", "1", "-t", "1")
    with server.connect() as client:
        before = client.stats()["conn_yields"]
        client.talk(b"get" + b" k" * 100 + b"\r\n", b"END\r\n")
        assert client.stats()["conn_yields"] == before


def test_turns_mix_with_all_kinds_of_requests():
    server = Server("-R", "3", "-t", "1")
    stream = b"".join(b"set k%d 0 0 2\r\n%02d\r\nget k%d none k%d\r\nincr k%d 1\r\nnonsense\r\n"
                      b"delete k%d\r\n" % ((i,) * 6)
                      for i in range(50))
    wanted = b"".join(b"STORED\r\nVALUE k%d 0 2\r\n%02d\r\nVALUE k%d 0 2\r\n%02d\r\nEND\r\n%s\r\n"
                      b"ERROR\r\nDELETED\r\n" %
                      (i, i, i, i, str(i + 1).encode()) for i in range(50))
    with server.connect() as client:
        client.talk(stream, wanted)


@pytest.mark.parametrize("more", [[], ["--no-uring"]])
def test_clients_that_ask_at_once_get_what_each_has_asked_for(more):
    """Their replies leave together, small ones and those that no socket takes at once; some clients
    have gone by then."""
    server = Server("-t", "1", *more)
    keys = [b"key-%d" % n for n in range(60)]
    values = {key: value_of(key, (10, 3000, 20000, 1000000)[n % 4]) for n, key in enumerate(keys)}
    with server.connect() as client:
        for key in keys:
            client.set(key, values[key])
    clients = [server.connect() for _ in keys]
    for turn in range(3):
        server.process.send_signal(signal.SIGSTOP)
        for n, (client, key) in enumerate(zip(clients, keys)):
            client.send(b"get %s absent\r\nset other-%d 0 0 1\r\n%d\r\n" % (key, n, turn))
        gone = clients[40:50] if turn == 2 else []
        for client in gone:
            client.close()
        server.process.send_signal(signal.SIGCONT)
        for client, key in zip(clients, keys):
            if client not in gone:
                value = values[key]
                client.expect(b"VALUE %s 0 %d\r\n%s\r\nEND\r\nSTORED\r\n"
                              % (key, len(value), value))
    with server.connect() as client:
        assert len(client.gets(*[b"other-%d" % n for n in range(60)])) == 60
