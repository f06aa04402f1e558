"""More segments than descriptors: the limit of open files bounds neither the disk nor the
clients."""
import random

import pytest

from limited import LimitedServer, descriptors, limited_server
from support import value_of, wait_until

HARD = LimitedServer.limit
COUNT = 400     # segments of one value each
LENGTH = 60000  # so that two do not fit into one segment
SMALL = ["--segment-size=64k", "--disk-limit=1g", "-t", "2"]


def key_of(number):
    return b"key-%d" % number


def fill(client, count):
    for number in range(count):
        client.set(key_of(number), value_of(key_of(number), LENGTH))


def assert_all_there(server, count):
    chosen = random.Random(1)
    with server.connect() as client:
        for number in chosen.sample(range(count), count):
            assert client.get(key_of(number)) == value_of(key_of(number), LENGTH)


def test_more_segments_than_open_files():
    server = limited_server(*SMALL, "-m", "2")
    with server.connect() as client:
        fill(client, COUNT)
        assert int(client.stats("store")["segments"]) > HARD
    assert_all_there(server, COUNT)
    crowd = [server.connect() for _ in range(100)]
    for client in crowd:
        client.talk(b"mn\r\n", b"MN\r\n")
    assert_all_there(server, COUNT)
    for client in crowd:
        client.close()
    for how in ("stop", "kill9"):
        server.restart(how)
        assert_all_there(server, COUNT)
        with server.connect() as client:
            fill(client, 10)
    assert "disk space" not in server.log() and "error:" not in server.log()


@pytest.mark.parametrize("sync", ["always", "none"])
def test_what_waits_for_the_disk_is_bounded_too(sync):
    server = limited_server(*SMALL, "-m", "2", "--sync=" + sync)
    with server.connect() as client:
        fill(client, COUNT)
    assert descriptors(server) < HARD
    assert_all_there(server, COUNT)


def test_a_full_cache_on_few_descriptors_evicts():
    server = limited_server("--segment-size=64k", "--disk-limit=24m", "-m", "2", "-t", "2")
    with server.connect() as client:
        fill(client, 2 * COUNT)
        assert client.get(key_of(2 * COUNT - 1)) == value_of(key_of(2 * COUNT - 1), LENGTH)
        assert int(client.stats()["evictions"]) > 0
    assert "error:" not in server.log()


def test_connections_that_nobody_asked_for_give_way_and_it_is_said():
    server = limited_server(*SMALL)
    assert "ulimit -n) is 256: room for" in server.log()
    with server.connect() as client:
        most = int(client.stats()["max_connections"])
        crowd = []
        assert 100 < most < HARD
        while len(crowd) < most - 1:
            crowd.append(server.connect())
            crowd[-1].talk(b"mn\r\n", b"MN\r\n")
        fill(client, 100)
        with server.connect() as refused:
            refused.expect(b"ERROR Too many open connections\r\n")
        assert client.stats()["accepting_conns"] == "1"
        for other in crowd:
            other.close()
        wait_until(lambda: int(client.stats()["curr_connections"]) < most, "they have left")
    with server.connect() as client:
        client.talk(b"mn\r\n", b"MN\r\n")


@pytest.mark.parametrize("limit, options, wanted", [
    (1024, ["-c", "1000"], "ulimit -n) is 1024: too low for 1000 connections"),
    (100, [], "ulimit -n) is 100: too low for 1024 connections"),
], ids=str)
def test_what_cannot_work_is_refused_with_the_numbers(limit, options, wanted):
    server = limited_server(*options, limit=limit, start=False)
    server.launch()
    status, said = server.wait_for_exit()
    assert status == 1 and wanted in said


def test_the_number_that_a_refusal_names_is_enough():
    server = limited_server("-c", "1000", limit=1024, start=False)
    server.launch()
    _, said = server.wait_for_exit()
    enough = said.rsplit(" ", 1)[1].strip()
    again = limited_server("-c", enough, limit=1024)
    with again.connect() as client:
        assert client.stats()["max_connections"] == enough
