"""What a client may cost: connections, memory, sizes, and what happens at each limit."""
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import support
from support import Server, value_of

# For memory other than values: a sanitizer's shadow and quarantine are large
ROOM_MIB = 400 if support.SANITIZED else 24


def assert_served(server):
    with server.connect() as client:
        client.set(b"served", b"yes")
        assert client.get(b"served") == b"yes"


# Connections

def test_connections_over_the_limit_are_told_and_closed():
    server = Server("-c", "10")
    support.wait_until(lambda: server.stats()["curr_connections"] in ("1", "2"),
                       "the first connections are counted out")
    clients = []
    refused = 0
    for _ in range(15):
        client = server.connect()
        client.send(b"version\r\n")
        answer = client.line()
        if answer == b"ERROR Too many open connections\r\n":
            client.expect_closed()
            refused += 1
        else:
            assert answer.startswith(b"VERSION ")
            clients.append(client)
    assert refused >= 5 and 8 <= len(clients) <= 10
    stats = clients[0].stats()
    assert int(stats["rejected_connections"]) >= refused
    for client in clients:
        client.ask(b"version\r\n", b"\r\n")
        client.close()
    support.wait_until(lambda: is_let_in(server), "there is room again")


def is_let_in(server):
    with server.connect() as client:
        client.send(b"version\r\n")
        return client.line().startswith(b"VERSION ")


def test_files_of_the_store_do_not_count_as_connections():
    server = Server("-c", "10", "--segment-size=64k", "-m", "8")
    with server.connect() as client:
        for i in range(1000):
            client.set(b"k%d" % i, b"x" * 1000)
        others = [server.connect() for _ in range(7)]
        for other in others:
            assert other.ask(b"version\r\n", b"\r\n").startswith(b"VERSION ")


def test_many_connections_with_one_byte_each():
    count = 10000 if support.LONG else (500 if support.SANITIZED else 3000)
    server = Server("-c", str(count + 100))
    count = min(count, room_for_files())
    before = server.resident_mib()
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        client.send(b"g")
    assert_served(server)
    with server.connect() as client:
        assert int(client.stats()["curr_connections"]) > count
    print("%d connections: %.1f MiB before, %.1f MiB with them"
          % (count, before, server.resident_mib()))
    assert server.resident_mib() < before + ROOM_MIB + count * 4 / 1024
    for client in clients[::50]:
        client.send(b"et k\r\n")
        client.expect(b"END\r\n")


def room_for_files():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return (hard if hard != resource.RLIM_INFINITY else 1 << 20) - 200


# Input without end

def test_an_endless_line():
    server = Server()
    before = server.resident_mib()
    with server.connect() as client:
        with pytest.raises((ConnectionError, AssertionError)):
            for _ in range(1000):
                client.send(b"x" * 100000)
            client.read(1 << 20)
    assert server.resident_mib() < before + ROOM_MIB
    assert_served(server)


def test_an_endless_get():
    server = Server()
    before = server.resident_mib()
    with server.connect() as client:
        with pytest.raises((ConnectionError, AssertionError)):
            client.send(b"get")
            for _ in range(1000):
                client.send(b" key" * 25000)
            client.read(1 << 20)
    assert server.resident_mib() < before + ROOM_MIB + 16
    assert_served(server)


@pytest.mark.parametrize("length",
                         [2147483645, 2147483646, 4294967295, 4294967296, 18446744073709551615,
                          10**30])
def test_a_length_of_gigabytes(length):
    server = Server()
    before = server.resident_mib()
    with server.connect() as client:
        try:
            client.send(b"set k 0 0 %d\r\n" % length)
            for _ in range(200):
                client.send(b"version\r\n" * 10000)
                assert server.resident_mib() < before + ROOM_MIB
                if select_readable(client):
                    client.fill()
                    del client.buffer[:-100]
        except ConnectionError:
            pass
    assert_served(server)


def select_readable(client):
    import select

    return bool(select.select([client.socket], [], [], 0)[0])


def test_values_announced_by_many_and_never_sent():
    server = Server("-I", "64m")
    before = server.resident_mib()
    clients = [server.connect() for _ in range(100)]
    for client in clients:
        client.send(b"set k 0 0 60000000\r\n")
    assert_served(server)
    assert server.resident_mib() < before + ROOM_MIB


# Output that nobody reads

def test_a_reader_that_stops_reading_in_the_middle_of_large_answers():
    server = Server("-m", "64")
    with server.connect() as client:
        client.set(b"large", b"x" * 1000000)
        client.set(b"small", b"y" * 100)
    before = server.resident_mib()
    stuck = []
    for _ in range(20):
        client = server.connect()
        client.socket.setblocking(False)
        try:
            for _ in range(100):
                client.socket.send(b"get large large large\r\n" * 100)
        except BlockingIOError:
            pass
        stuck.append(client)
    assert_served(server)
    time.sleep(0.5)
    assert_served(server)
    print("20 stuck readers: %.1f MiB before, %.1f MiB with them" % (before, server.resident_mib()))
    assert server.resident_mib() < before + ROOM_MIB + 20 * 2
    stuck[0].socket.settimeout(support.TIMEOUT)
    for _ in range(6):
        stuck[0].expect(b"VALUE large 0 1000000\r\n")
        assert stuck[0].read(1000000) == b"x" * 1000000
        stuck[0].read_until(b"\r\n")
        if stuck[0].buffer.startswith(b"END\r\n"):
            stuck[0].read(5)


VALUE_MEMORY_MIB = 64  # that values from disk may take at -m 64, whoever does not read them


@pytest.fixture
def cold():
    """200 values of a megabyte, none of them in memory."""
    server = Server("-m", "64", "-t", "2")
    with server.connect() as client:
        for number in range(200):
            client.set(b"cold-%d" % number, value_of(b"cold-%d" % number, 1000000))
    server.restart("kill9")
    support.forget_page_cache(server)
    return server


def cold_pipeline(seed):
    return [b"cold-%d" % ((seed * 37 + at * 11) % 200) for at in range(32)]


def test_cold_values_that_nobody_reads(cold):
    before = cold.resident_mib()
    clients = [cold.connect() for _ in range(100)]
    for seed, client in enumerate(clients):
        client.send(b"get " + b" ".join(cold_pipeline(seed)) + b"\r\n")
    support.wait_until(lambda: int(cold.stats()["response_obj_oom"]) > 0,
                       "those who wait for memory to be served")
    assert_served(cold)
    assert cold.peak_mib() < before + 64 + VALUE_MEMORY_MIB + ROOM_MIB
    assert cold.log().count("clients that do not read their replies") == 1
    reader = cold.connect()  # and one who reads is served, whoever does not

    def is_read(key):
        answer = reader.ask(b"get %s\r\n" % key, b"\r\n")
        if answer.startswith(b"SERVER_ERROR"):
            return False
        assert answer == b"VALUE %s 0 1000000\r\n" % key
        assert reader.read(1000007) == value_of(key, 1000000) + b"\r\nEND\r\n"
        return True

    for key in cold_pipeline(7):
        support.wait_until(lambda: is_read(key), "a value to find room")


def test_cold_values_that_many_read(cold):
    def read_all(seed):
        with cold.connect() as client:
            client.send(b"".join(b"get %s\r\n" % key for key in cold_pipeline(seed)))
            for key in cold_pipeline(seed):
                client.expect(b"VALUE %s 0 1000000\r\n" % key)
                assert client.read(1000002)[:-2] == value_of(key, 1000000)
                client.expect(b"END\r\n")

    before = cold.resident_mib()
    with ThreadPoolExecutor(40) as pool:
        list(pool.map(read_all, range(40)))
    assert cold.peak_mib() < before + 64 + VALUE_MEMORY_MIB + ROOM_MIB
    assert cold.stats()["response_obj_oom"] == "0"


def test_a_multiget_of_gigabytes_costs_no_memory():
    server = Server("-m", "64")
    count = 3000 if support.LONG else 500
    with server.connect() as client:
        client.set(b"large", b"x" * 1000000)
        before = server.resident_mib()
        client.send(b"get" + b" large" * count + b"\r\n")
        for turn in range(count):
            client.expect(b"VALUE large 0 1000000\r\n")
            client.read(1000002)
            if turn % 100 == 0:
                assert server.resident_mib() < before + ROOM_MIB
        client.expect(b"END\r\n")


def test_one_who_floods_does_not_starve_the_others():
    server = Server("-t", "1")
    with server.connect() as client:
        client.set(b"k", b"x")
    with server.connect() as flood, ThreadPoolExecutor(1) as pool:
        count = 20000

        def drain():
            for _ in range(count * 20 // 1000):
                flood.expect(b"VALUE k 0 1\r\nx\r\nEND\r\n" * 1000)

        reading = pool.submit(drain)
        started = time.monotonic()
        for _ in range(20):
            flood.send(b"get k\r\n" * count)
            assert_served(server)
        reading.result()
        print("400,000 gets beside others: %.2f s" % (time.monotonic() - started))


# Sizes of items

@pytest.mark.parametrize("limit, size",
                         [("1k", 900), ("64k", 65000), ("1m", 1047552), ("8m", 8300000),
                          ("64m", 64000000)])
def test_the_largest_items(limit, size):
    server = Server("-I", limit, "-m", "64")
    value = value_of(b"large", size)
    with server.connect() as client:
        client.set(b"k", value, flags=9)
        before = client.gets(b"k")
        assert before[b"k"][:2] == (value, 9)
        too_large = (size * 5) // 4
        client.talk(b"add k2 0 0 %d\r\n" % too_large + b"x" * too_large + b"\r\n",
                    b"SERVER_ERROR object too large for cache\r\n")
    for how in ("stop", "kill9"):
        server.restart(how)
        with server.connect() as client:
            assert client.gets(b"k") == before
            assert client.get(b"k2") is None
    with server.connect() as client:
        client.talk(b"append k 0 0 1\r\n+\r\n", b"STORED\r\n")
        assert client.get(b"k") == value + b"+"


def test_a_large_value_takes_its_size_once():
    mib = 500 if support.LONG else 100
    server = Server("-I", "600m", "-m", "16", "--disk-limit", "4g")
    value = value_of(b"huge", mib << 20)
    before = server.resident_mib()
    with server.connect() as client:
        client.set(b"k", value)
        assert client.get(b"k") == value
    assert server.peak_mib() < before + mib + ROOM_MIB
    server.restart("kill9")
    with server.connect() as client:
        assert client.get(b"k") == value
    print("a value of %d MiB: at most %.1f MiB" % (mib, server.peak_mib()))
    assert server.peak_mib() < before + mib + ROOM_MIB


@pytest.mark.skipif(support.SANITIZED, reason="a sanitizer keeps what is freed")
def test_buffers_of_large_requests_are_kept_for_a_moment_only():
    server = Server("-m", "64", "-t", "1")
    before = server.resident_mib("RssAnon")
    clients = [server.connect() for _ in range(30)]
    for i, client in enumerate(clients):
        client.send(b"set large%d 0 0 1000000\r\n" % i + bytes(900_000))
    support.wait_until(lambda: server.resident_mib("RssAnon") > before + 24,
                       "most of it has arrived")
    for client in clients:
        assert client.ask(bytes(100_000) + b"\r\n", b"\r\n") == b"STORED\r\n"
    support.wait_until(lambda: server.resident_mib("RssAnon") < before + 8,
                       "the memory is given back")


def test_many_items_larger_than_the_cache():
    server = Server("-I", "16m", "-m", "16")
    values = {b"k%d" % i: value_of(b"k%d" % i, 8000000 + i) for i in range(10)}
    with server.connect() as client:
        for key, value in values.items():
            client.set(key, value)
    before = server.resident_mib()
    server.restart("kill9")
    with server.connect() as client:
        for key, value in values.items():
            assert client.get(key) == value
    print("resident: %.1f MiB after writing, %.1f MiB after reading"
          % (before, server.resident_mib()))
    assert server.resident_mib() < 16 + 16 + ROOM_MIB


# Memory

FULL = b"SERVER_ERROR out of memory storing object\r\n"


def fill(client):
    """Stores keys until the index takes no more of them. Returns those stored and those refused."""
    stored, refused = [], []
    for start in range(0, 200000, 1000):
        keys = [b"key-%d" % n for n in range(start, start + 1000)]
        client.send(b"".join(b"set %s 0 0 1\r\nx\r\n" % key for key in keys))
        for key in keys:
            answer = client.line()
            assert answer in (b"STORED\r\n", FULL)
            (stored if answer == b"STORED\r\n" else refused).append(key)
        if len(refused) > 5000:
            return stored, refused
    raise AssertionError("the index is never full")


@pytest.fixture
def tiny():
    return Server("-m", "1", "-M", "--segment-size=1m")


def test_a_full_index_refuses_new_keys_and_the_service_goes_on(tiny):
    with tiny.connect() as client:
        stored, refused = fill(client)
        print("-m 1 holds %d keys" % len(stored))
        assert len(stored) > 10000
        assert int(client.stats()["store_no_memory"]) >= len(refused)
        for some in (stored[:1000], stored[-1000:]):
            assert len(client.gets(*some)) == len(some)
        assert client.gets(*refused[:1000]) == {}
        key = stored[0]
        client.set(key, b"new")
        client.talk(b"append %s 0 0 1\r\n+\r\n" % key, b"STORED\r\n")
        client.talk(b"touch %s 0\r\n" % key, b"TOUCHED\r\n")
        for command in (b"set", b"add"):
            client.talk(b"%s %s 0 0 1\r\nx\r\n" % (command, refused[0]), FULL)
        client.talk(b"set %s 0 0 1 noreply\r\nx\r\nget %s\r\n" % (refused[0], key),
                    b"VALUE %s 0 4\r\nnew+\r\nEND\r\n" % key)


def test_a_store_with_a_full_index_starts_again(tiny):
    with tiny.connect() as client:
        stored, refused = fill(client)
    for how in ("stop", "kill9"):
        tiny.restart(how)
        with tiny.connect() as client:
            assert len(client.gets(*stored)) == len(stored)
            assert client.gets(*refused[:1000]) == {}


def test_what_is_deleted_from_a_full_index_makes_room(tiny):
    with tiny.connect() as client:
        stored, refused = fill(client)
        for turn in range(5):
            gone, stored = stored[:4000], stored[4000:]
            client.talk(b"".join(b"delete %s\r\n" % key for key in gone),
                        b"DELETED\r\n" * len(gone))
            again = []
            for n in range(4000):
                key = b"again-%d-%d" % (turn, n)
                answer = client.ask(b"set %s 0 0 1\r\nx\r\n" % key, b"\r\n")
                again += [key] if answer == b"STORED\r\n" else []
            assert again, "no room after deletions"
            stored += again
    for how in ("stop", "kill9"):
        tiny.restart(how)
        with tiny.connect() as client:
            assert len(client.gets(*stored)) == len(stored)
            assert client.gets(*refused[:1000], *gone) == {}


@pytest.mark.parametrize("segments", ["--segment-size=1m", "--segment-size=64m"])
def test_many_more_keys_than_fit_into_the_index_have_been_there_and_gone(segments):
    """A store must start again with the memory that it ran with, whatever its history."""
    server = Server("-m", "2", segments)
    with server.connect() as client:
        client.set(b"first", b"x")
        for turn in range(10):
            for start in range(0, 20000, 1000):
                keys = [b"key-%d-%d" % (turn, n) for n in range(start, start + 1000)]
                client.talk(b"".join(b"set %s 0 0 1\r\nx\r\n" % key for key in keys),
                            b"STORED\r\n" * 1000)
                client.talk(b"".join(b"delete %s\r\n" % key for key in keys), b"DELETED\r\n" * 1000)
        client.set(b"last", b"x")
    for how in ("stop", "kill9"):
        server.restart(how)
        with server.connect() as client:
            assert sorted(client.gets(b"first", b"last", *keys)) == [b"first", b"last"]


def test_memory_stays_within_its_limit():
    memory = 32
    server = Server("-m", str(memory))
    with server.connect() as client:
        for start in range(0, 60000, 500):
            client.talk(b"".join(b"set key-%d 0 0 1000\r\n%s\r\n" % (n, b"x" * 1000)
                                 for n in range(start, start + 500)),
                        b"STORED\r\n" * 500)
    print("resident with -m %d after 60 MB of values: %.1f MiB" % (memory, server.resident_mib()))
    assert server.resident_mib() < memory + ROOM_MIB
    store = server.stats("store")
    assert int(store["keydir_bytes"]) + int(store["cache_bytes"]) <= memory << 20


def test_the_index_needs_26_bytes_a_key():
    server = Server("-m", "64")
    count = 1000000 if support.LONG else 200000
    with server.connect() as client:
        for start in range(0, count, 1000):
            client.talk(b"".join(b"set key-%012d 0 0 1\r\nx\r\n" % n
                                 for n in range(start, start + 1000)),
                        b"STORED\r\n" * 1000)
        store = client.stats("store")
    assert int(store["keydir_entries"]) == count
    per_key = int(store["keydir_bytes"]) / count
    print("%.1f bytes a key" % per_key)
    # A table half as large as the steps it grows in says little
    assert per_key <= 26 or count < 1000000
