"""Far more data than memory: values that are only on disk are read back right, and hold up
nobody."""
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import support
from support import Server, forget_page_cache, value_of

VALUE = 1000
# At least 5 times -m 1's worth of values
KEYS = 20000 if support.LONG else (6000 if support.SANITIZED else 12000)


def key(number):
    return b"key-%07d" % number


def value(number):
    return value_of(key(number), VALUE)


def load(server, count=KEYS):
    with server.connect() as client:
        for start in range(0, count, 500):
            numbers = range(start, min(start + 500, count))
            client.talk(b"".join(b"set %s %d 0 %d\r\n%s\r\n" % (key(n), n, VALUE, value(n))
                                 for n in numbers),
                        b"STORED\r\n" * len(numbers))


@pytest.fixture(params=["uring", "threads"])
def full(request):
    """A server whose memory holds a small part of its data."""
    server = Server("-m", "2" if not support.LONG else "4", "--segment-size=1m",
                    *(["--no-uring"] if request.param == "threads" else []))
    load(server)
    forget_page_cache(server)
    return server


def assert_right(found, numbers):
    wanted = {key(n): (value(n), n) for n in numbers}
    assert {k: v[:2] for k, v in found.items()} == wanted


def test_everything_is_read_back(full):
    with full.connect() as client:
        numbers = list(range(KEYS))
        random.Random(1).shuffle(numbers)
        for start in range(0, KEYS, 200):
            part = numbers[start : start + 200]
            assert_right(client.gets(*map(key, part)), part)
        stats = client.stats("store")
        assert int(stats["disk_hits"]) > KEYS / 3
        print("%s of %d values came from disk, %s of them not from the page cache, %s by io_uring" %
              (stats["disk_hits"], KEYS, stats["disk_reads"], stats["uring_reads"]))
        if "--no-uring" in full.options:
            assert stats["uring_reads"] == "0"
        assert stats["corrupt_records"] == "0"


def test_everything_is_read_back_after_kill_9(full):
    full.restart("kill9")
    forget_page_cache(full)
    with full.connect() as client:
        for start in range(0, KEYS, 500):
            numbers = range(start, start + 500)
            assert_right(client.gets(*map(key, numbers)), numbers)


def test_a_file_that_was_cut_costs_what_was_cut_off(full):
    """A read that the kernel cuts short is tried again by a reader thread, and is then a miss that
    is logged."""
    oldest = min(path for path in os.listdir(full.data_dir) if path.endswith(".seg"))
    os.truncate(os.path.join(full.data_dir, oldest), 300_000)
    with full.connect() as client:
        found = {}
        for start in range(0, KEYS, 200):
            found.update(client.gets(*map(key, range(start, start + 200))))
        assert_right(found, [n for n in range(KEYS) if key(n) in found])
        assert KEYS - 1048 < len(found) < KEYS - 300  # a record takes some 1,060 bytes
        assert int(client.stats("store")["corrupt_records"]) == KEYS - len(found)


def test_one_get_at_a_time(full):
    with full.connect() as client:
        for n in random.Random(2).sample(range(KEYS), 500):
            client.talk(b"get %s\r\n" % key(n),
                        b"VALUE %s %d %d\r\n%s\r\nEND\r\n" % (key(n), n, VALUE, value(n)))


def test_hot_and_cold_keys_and_misses_in_one_multiget_keep_their_order(full):
    with full.connect() as client:
        for turn in range(30):
            numbers = random.Random(turn).sample(range(KEYS), 20)
            keys = [k for n in numbers for k in (key(n), b"none-%d" % n, key(KEYS - 1), key(n))]
            wanted = b"".join(
                b"VALUE %s %d %d\r\n%s\r\n" % (key(m), m, VALUE, value(m)) for n in numbers
                for m in (n, KEYS - 1, n))
            client.talk(b"get " + b" ".join(keys) + b"\r\n", wanted + b"END\r\n")


def test_cold_and_hot_commands_in_one_pipeline_are_answered_in_order(full):
    with full.connect() as client:
        sent, wanted = [], []
        for n in random.Random(3).sample(range(KEYS), 300):
            sent.append(b"get %s\r\nset hot 0 0 1\r\nx\r\nget hot none\r\nbogus\r\n" % key(n))
            wanted.append(b"VALUE %s %d %d\r\n%s\r\nEND\r\nSTORED\r\nVALUE hot 0 1\r\nx\r\nEND\r\n"
                          b"ERROR\r\n" % (key(n), n, VALUE, value(n)))
        client.talk(b"".join(sent), b"".join(wanted))


def test_a_pipeline_sees_its_own_writes_of_cold_keys(full):
    with full.connect() as client:
        sent, wanted = [], []
        for n in random.Random(4).sample(range(KEYS), 200):
            k = key(n)
            sent.append(b"append %s 0 0 1\r\n+\r\nget %s\r\nset %s 0 0 1\r\nn\r\nget %s\r\n"
                        b"delete %s\r\nget %s\r\n" % (k, k, k, k, k, k))
            wanted.append(b"STORED\r\nVALUE %s %d %d\r\n%s+\r\nEND\r\nSTORED\r\nVALUE %s 0 1\r\n"
                          b"n\r\nEND\r\nDELETED\r\nEND\r\n" % (k, n, VALUE + 1, value(n), k))
        client.talk(b"".join(sent), b"".join(wanted))


def test_every_command_on_cold_keys(full):
    with full.connect() as client:
        for n in range(0, 50):
            client.talk(b"set number-%d 3 0 2\r\n10\r\n" % n, b"STORED\r\n")
        before = client.gets(*(b"number-%d" % n for n in range(50)))
        load(full)  # and they are cold
        forget_page_cache(full)
        for n in range(0, 50, 5):
            client.talk(b"incr number-%d 5\r\n" % n, b"15\r\n")
            client.talk(b"decr number-%d 1\r\n" % (n + 1), b"9\r\n")
            client.talk(b"cas number-%d 4 0 3 %d\r\nnew\r\n"
                        % (n + 2, before[b"number-%d" % (n + 2)][2]), b"STORED\r\n")
            client.talk(b"cas number-%d 4 0 3 1\r\nnew\r\n" % (n + 3), b"EXISTS\r\n")
            client.talk(b"add number-%d 4 0 3\r\nnew\r\n" % (n + 4), b"NOT_STORED\r\n")
            client.talk(b"incr %s 1\r\n" % key(n),
                        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n")
            client.talk(b"append %s 0 0 1\r\n>\r\n" % key(n + 1), b"STORED\r\n")
            client.talk(b"prepend %s 0 0 1\r\n<\r\n" % key(n + 2), b"STORED\r\n")
            client.talk(b"touch %s 1000\r\n" % key(n + 3), b"TOUCHED\r\n")
            client.talk(b"gat 1000 %s\r\n" % key(n + 4),
                        b"VALUE %s %d %d\r\n%s\r\nEND\r\n"
                        % (key(n + 4), n + 4, VALUE, value(n + 4)))
            client.talk(b"replace number-%d 5 0 1\r\nr\r\n" % (n + 4), b"STORED\r\n")
        full.restart("kill9")
    with full.connect() as client:
        for n in range(0, 50, 5):
            found = client.gets(*(b"number-%d" % (n + i) for i in range(5)),
                                *(key(n + i) for i in range(5)))
            assert [found[b"number-%d" % (n + i)][:2] for i in range(5)] == [
                (b"15", 3), (b"9 ", 3), (b"new", 4), (b"10", 3), (b"r", 5)]
            assert found[key(n + 1)][:2] == (value(n + 1) + b">", n + 1)
            assert found[key(n + 2)][:2] == (b"<" + value(n + 2), n + 2)


def test_counters_on_cold_keys_lose_nothing_when_many_count_at_once(full):
    with full.connect() as client:
        for n in range(5):
            client.set(b"counter-%d" % n, b"0")
    load(full)
    forget_page_cache(full)

    def count(seed):
        with full.connect() as client:
            for n in random.Random(seed).choices(range(5), k=300):
                client.send(b"incr counter-%d 1\r\nget %s\r\n" % (n, key(seed * 300 % KEYS)))
                client.read_until(b"END\r\n")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    with full.connect() as client:
        found = client.gets(*(b"counter-%d" % n for n in range(5)))
    assert sum(int(v[0]) for v in found.values()) == 1200


def test_readers_and_writers_of_cold_keys_at_once_see_whole_values(full):
    stop = threading.Event()
    versions = [value_of(b"%d-" % i + b"v" * i, 500 + i) for i in range(10)]

    def write(seed):
        choose = random.Random(seed)
        with full.connect() as client:
            for _ in range(500):
                version = choose.choice(versions)
                client.set(key(choose.randrange(50)), version)
                client.get(key(choose.randrange(KEYS)))
        stop.set()

    def read(seed):
        choose = random.Random(seed)
        right = {value(n) for n in range(50)} | set(versions)
        with full.connect() as client:
            while not stop.is_set():
                assert client.get(key(choose.randrange(50))) in right
                n = choose.randrange(50, KEYS)
                assert client.get(key(n)) == value(n)

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(write, 1), pool.submit(write, 2), pool.submit(read, 3),
                pool.submit(read, 4)]
        while not all(done.done() for done in work):
            forget_page_cache(full)
        for done in work:
            done.result()


def test_a_hot_key_is_served_while_others_read_cold_ones(full):
    """The times are printed, not judged: they are the machine's."""
    stop = threading.Event()

    def read_cold(seed):
        choose = random.Random(seed)
        count = 0
        with full.connect() as client:
            while not stop.is_set():
                numbers = choose.choices(range(KEYS), k=32)
                client.send(b"".join(b"get %s\r\n" % key(n) for n in numbers))
                for n in numbers:
                    client.expect(b"VALUE %s %d %d\r\n%s\r\nEND\r\n" % (key(n), n, VALUE, value(n)))
                count += len(numbers)
        return count

    def hot_times(client):
        times = []
        for _ in range(1000):
            started = time.perf_counter()
            client.talk(b"get hot\r\n", b"VALUE hot 0 1\r\nx\r\nEND\r\n")
            times.append(time.perf_counter() - started)
        return sorted(times)

    with full.connect() as client:
        client.set(b"hot", b"x")
        quiet = hot_times(client)
        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read_cold, seed) for seed in range(4)]
            forget_page_cache(full)
            busy = hot_times(client)
            stop.set()
            cold = sum(reader.result() for reader in readers)
    print("hot key, p50 and p99: quiet %.0f and %.0f us, beside %d cold reads %.0f and %.0f us" % (
        quiet[500] * 1e6, quiet[990] * 1e6, cold, busy[500] * 1e6, busy[990] * 1e6))


def test_a_client_that_leaves_while_its_cold_values_are_read(full):
    for turn in range(30):
        forget_page_cache(full)
        with full.connect() as client:
            client.send(b"get " + b" ".join(key(n) for n in range(turn * 100, turn * 100 + 100)) +
                        b"\r\n")
    with full.connect() as client:
        assert_right(client.gets(key(7)), [7])


def test_cold_values_of_all_sizes(full):
    sizes = [0, 1, 7, 8, 100, 4000, 4096, 5000, 65536, 200000, 524288, 700000, 1000000]
    with full.connect() as client:
        for size in sizes:
            client.set(b"size-%d" % size, value_of(b"size-%d" % size, size))
    load(full)
    for how in (None, "stop", "kill9"):
        if how:
            full.restart(how)
        forget_page_cache(full)
        with full.connect() as client:
            for size in sizes + sizes:
                assert client.get(b"size-%d" % size) == value_of(b"size-%d" % size, size), size
            found = client.gets(*(b"size-%d" % size for size in sizes))
            assert [len(found[b"size-%d" % size][0]) for size in sizes] == sizes
