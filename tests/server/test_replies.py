"""A reply goes out when every record that it depends on is written, and with --sync=always synced.

The records may be those of its own connection, or of another that this one has merely seen, misses
and refusals included.
"""
import pytest

from binary import DELETEQ, GET, NOOP, SETQ, packet, store
from support import wait_until
from test_failing_calls import FailingServer

# In which a reply that came too early would be there; one that comes in time is never too late for
# the test
LOOK_S = 0.3


def assert_silent(client):
    assert client.rest(LOOK_S) == b"", "a reply came before what it rests on"


def failing_server(*options):
    server = FailingServer("-t", "4", *options)  # a connection each worker, in turn
    server.start_failing()
    return server


def lsn(server, onlooker):
    return int(onlooker.stats("store")["lsn"])


# Quiet writes: (the command, the question after it, the beginning of its answer)
QUIET = {
    "meta set": (b"ms q 1 q\r\nx\r\n", b"mn\r\n", b"MN\r\n"),
    "meta delete": (b"md old q\r\n", b"bogus\r\n", b"ERROR\r\n"),
    "meta arithmetic": (b"ma 5 q\r\n", b"mg nothing\r\n", b"EN\r\n"),
    "set": (b"set q 0 0 1 noreply\r\nx\r\n", b"version\r\n", b"VERSION "),
    "touch": (b"touch old 100 noreply\r\n", b"get nothing\r\n", b"END\r\n"),
    "flush": (b"flush_all noreply\r\n", b"verbosity 0\r\n", b"OK\r\n"),
    "binary set": (store(SETQ, b"q", b"x"), packet(NOOP), b"\x81"),
    "binary delete": (packet(DELETEQ, b"old"), packet(GET, b"old"), b"\x81"),
}


@pytest.mark.parametrize("name", QUIET)
@pytest.mark.parametrize("together", [True, False], ids=["together", "later"])
def test_with_sync_always_nothing_is_answered_before_a_quiet_write_is_on_disk(name, together):
    write, question, answer = QUIET[name]
    server = failing_server("--sync=always")
    with server.connect() as onlooker, server.connect() as client:
        onlooker.set(b"old", b"x")
        onlooker.set(b"5", b"5")
        server.faults["standing"] = 1
        before = lsn(server, onlooker)
        if together:
            client.send(write + question)
            wait_until(lambda: lsn(server, onlooker) > before, "the write is in the log")
        else:
            client.send(write)
            wait_until(lambda: lsn(server, onlooker) > before, "the write is in the log")
            client.send(question)
        assert_silent(client)
        server.faults["standing"] = 0
        client.expect(answer)


# What others see: (what one connection does, what another asks, its answer). `k` is there before,
# and `n` is 5.
SEEN = {
    "hit": (b"set k 0 0 3\r\nnew\r\n", b"get k\r\n", b"VALUE k 0 3\r\nnew\r\nEND\r\n"),
    "hit of what is new": (b"set f 0 0 1\r\nx\r\n", b"mg f v\r\n", b"VA 1\r\nx\r\n"),
    "number": (b"incr n 1\r\n", b"get n\r\n", b"VALUE n 0 1\r\n6\r\nEND\r\n"),
    "expiry": (b"touch k 0\r\n", b"mg k t\r\n", b"HD t-1\r\n"),
    "miss": (b"delete k\r\n", b"get k\r\n", b"END\r\n"),
    "miss after a flush": (b"flush_all\r\n", b"get k\r\n", b"END\r\n"),
    "deletion refused": (b"delete k\r\n", b"delete k\r\n", b"NOT_FOUND\r\n"),
    "touch refused": (b"delete k\r\n", b"touch k 0\r\n", b"NOT_FOUND\r\n"),
    "add refused": (b"set f 0 0 1\r\nx\r\n", b"add f 0 0 1\r\ny\r\n", b"NOT_STORED\r\n"),
    "replace refused": (b"delete k\r\n", b"replace k 0 0 1\r\ny\r\n", b"NOT_STORED\r\n"),
    "cas refused": (b"set k 0 0 3\r\nnew\r\n", b"cas k 0 0 1 1\r\ny\r\n", b"EXISTS\r\n"),
    "incr refused": (b"set n 0 0 1\r\nx\r\n", b"incr n 1\r\n",
                     b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    "touched in vain": (b"touch k 0\r\n", b"touch k 0\r\n", b"TOUCHED\r\n"),
}


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("sync, fault", [("always", "standing"), ("1", "write_stands")])
def test_what_others_see_is_not_told_before_it_is_durable(name, sync, fault):
    write, question, answer = SEEN[name]
    server = failing_server("--sync=" + sync)
    with server.connect() as onlooker, server.connect() as writer, server.connect() as reader:
        onlooker.talk(b"set k 0 1000 3\r\nold\r\nset n 0 0 1\r\n5\r\n", b"STORED\r\n" * 2)
        before = lsn(server, onlooker)
        server.faults[fault] = 1
        writer.send(write)
        wait_until(lambda: lsn(server, onlooker) > before, "the write is in the log")
        reader.send(question)
        assert_silent(reader)
        server.faults[fault] = 0
        reader.expect(answer)


@pytest.mark.parametrize("sync, fault", [("always", "standing"), ("1", "write_stands")])
def test_what_is_durable_is_told_whoever_else_waits(sync, fault):
    server = failing_server("--sync=" + sync)
    with server.connect() as reader, server.connect() as writer:
        for key in (b"k", b"k2", b"n"):
            reader.set(key, b"x")
        before = lsn(server, reader)
        server.faults[fault] = 1
        writer.send(b"set k 0 0 1\r\ny\r\n")
        wait_until(lambda: lsn(server, reader) > before, "the write is in the log")
        for _ in range(2):
            reader.talk(b"get k2\r\nget n nothing\r\n",
                        b"VALUE k2 0 1\r\nx\r\nEND\r\nVALUE n 0 1\r\nx\r\nEND\r\n")
        server.faults[fault] = 0
        writer.expect(b"STORED\r\n")
