"""It runs for years: disk and index stay within their limits, and what is gone stays gone."""
import json
import os
import subprocess
import time

import pytest

from support import LONG, SANITIZED, Server, value_of, wait_until

BENCH = os.environ.get("CACHECASK_BENCH",
                       os.path.join(os.path.dirname(__file__), "../../cachecask-bench"))
FULL = b"SERVER_ERROR out of memory storing object\r\n"
MIB = 1 << 20


def bench(server, *options):
    """Runs the load tool, which fails when an answer is wrong. Answers the hits of the last
    phase."""
    command = [BENCH, "-p", str(server.port), "-c", "8", "-P", "16", "--quiet", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["phases"][-1]["hits"]


def number(stats, name):
    return float(stats[name])


def store_many(client, prefix, count, size=1000, exptime=0):
    """Answers which keys were stored; all others must have been refused because of no room. Between
    those that are, some may be missing: what is refused finds room again when a smaller file could
    be made."""
    stored = []
    for start in range(0, count, 200):
        keys = [b"%s%d" % (prefix, n) for n in range(start, min(start + 200, count))]
        client.send(b"".join(b"set %s 0 %d %d\r\n%s\r\n" % (key, exptime, size, value_of(key, size))
                             for key in keys))
        for key in keys:
            answer = client.line()
            assert answer in (b"STORED\r\n", FULL), answer
            if answer == b"STORED\r\n":
                stored.append(key)
    return stored


def settled(figure):
    """The figure, once it has not changed for half a second."""
    last, since = figure(), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.02)
        if figure() != last:
            last, since = figure(), time.monotonic()
    return last


@pytest.mark.seconds(3600 if LONG else 120)
def test_random_overwrites_stay_within_the_disk_limit():
    """Endurance: the short form writes some ten times the live data, the long one 20 GB over 1
    GB."""
    limit, keys, rounds = ((2048, 1000000, 20) if LONG
                           else (64, 12000 if SANITIZED else 30000, 6 if SANITIZED else 12))
    server = Server("-m", "64" if LONG else "8", "--disk-limit=%dm" % limit)
    load = ["-k", str(keys), "-S", "1000"]
    bench(server, *load, "--load")
    segment = number(server.stats("store"), "segment_size")
    resident = []
    for n in range(rounds):
        bench(server, *load, "-o", "set", "-n", str(keys), "--seed", str(n + 1))
        resident.append(server.resident_mib())
        assert server.disk_bytes() <= limit * MIB + segment
    stats = server.stats("store")
    print("write amplification %s, segments cleaned %s, resident %s MiB"
          % (stats["write_amplification"], stats["cleaner_segments"],
             ", ".join("%.1f" % r for r in resident)))
    assert number(stats, "write_amplification") <= 2.5
    assert number(stats, "cleaner_segments") > 10
    assert number(stats, "evicted_items") == 0  # there was room for all that lives
    if LONG:
        assert resident[-1] <= resident[len(resident) // 2] * 1.02
    bench(server, *load, "--verify-all")
    server.restart("kill9")
    bench(server, *load, "--verify-all")


@pytest.mark.seconds(900 if LONG else 120)
def test_a_flood_of_tiny_values_evicts_the_oldest_keys():
    """The index is what is full: the newest keys are there, the oldest gone, and memory stays where
    it was."""
    memory, keys = (64, 2000000) if LONG else (8, 150000)
    server = Server("-m", str(memory))
    for turn in range(10):
        bench(server, "-k", str(keys), "-S", "10", "--prefix", "turn%d:" % turn, "--load")
        if not SANITIZED:
            assert server.resident_mib() <= memory + 24
    stats = server.stats()
    assert number(stats, "evictions") > 5 * keys
    assert number(stats, "evicted_unfetched") == number(stats, "evictions")
    assert number(server.stats("store"), "keydir_bytes") <= memory * MIB * 3 / 4
    check = ["-k", str(keys), "-S", "10", "--verify-all", "--allow-missing"]
    assert bench(server, *check, "--prefix", "turn9:") > keys / 2
    assert bench(server, *check, "--prefix", "turn0:") == 0


def test_a_cache_forgets_what_nobody_reads():
    server = Server("-m", "4", "--disk-limit=16m")
    hot = [b"hot%d" % n for n in range(100)]
    with server.connect() as client:
        for key in hot:
            client.set(key, value_of(key, 1000))
        for turn in range(160):
            assert len(store_many(client, b"cold%d:" % turn, 250)) == 250
            for key in hot:
                client.get(key)
            wait_until(lambda: server.disk_bytes() <= 15 * MIB, "the cleaner has caught up")
        found = client.gets(*hot)
        # Visited data lives on, if there is time to move it: so all of it waits for the cleaner
        assert len(found) >= 90
        assert all(value == value_of(key, 1000) for key, (value, _, _) in found.items())
        assert not client.gets(*[b"cold0:%d" % n for n in range(100)])
        assert number(client.stats(), "evictions") > 10000
        assert server.disk_bytes() <= 17 * MIB


def test_a_full_store_refuses_growth_and_takes_it_again_after_deletes():
    server = Server("-m", "8", "-M", "--disk-limit=16m")
    with server.connect() as client:
        kept = store_many(client, b"key", 30000)
        assert 5000 < len(kept) < 16000
        wait_until(lambda: client.ask(b"set more 0 0 1000\r\n%s\r\n" % (b"x" * 1000), b"\r\n") ==
                   FULL, "it is full")
        assert all(client.get(key) == value_of(key, 1000) for key in kept[::50])
        for key in kept[:50]:  # as large as before, and smaller
            client.set(key, value_of(key[::-1], 1000))
            client.set(key, b"small")
        # The cleaner may have made room of what those took: this is more than that.
        client.talk(b"append %s 0 0 500000\r\n%s\r\n" % (kept[60], b"x" * 500000), FULL)
        assert client.get(kept[60]) == value_of(kept[60], 1000)  # the old value is kept
        for how in ("stop", "kill9"):
            server.restart(how)
            client = server.connect()
            assert client.get(kept[0]) == b"small"
            assert all(client.get(key) == value_of(key, 1000) for key in kept[100::50])
        half = kept[: len(kept) // 2]
        client.talk(b"".join(b"delete %s\r\n" % key for key in half), b"DELETED\r\n" * len(half))
        start = time.monotonic()
        wait_until(lambda: client.ask(b"set more 0 0 1000\r\n%s\r\n" % (b"x" * 1000), b"\r\n") ==
                   b"STORED\r\n",
                   "room after deletes")
        print("room again after %.3f s" % (time.monotonic() - start))
        assert server.disk_bytes() <= 17 * MIB
        assert number(server.stats(), "evictions") == 0


@pytest.mark.parametrize("mode", ["store", "cache"])
@pytest.mark.seconds(120)
def test_a_disk_that_is_really_full(small_disk, mode):
    options = ["-M"] if mode == "store" else []
    server = Server("-m", "64", *options, data_dir=small_disk("tmpfs", 64).data_dir)
    with server.connect() as client:
        stored = store_many(client, b"key", 100000)
        if mode == "cache":
            assert len(stored) == 100000
            assert number(client.stats(), "evictions") > 0
        else:
            assert 30000 < len(stored) < 66000
            assert all(client.get(key) == value_of(key, 1000) for key in stored[::97])
    for how in ("stop", "kill9"):
        server.restart(how)
        if mode == "store":
            with server.connect() as client:
                assert all(client.get(key) == value_of(key, 1000) for key in stored[::97])
    if mode == "store":
        with server.connect() as client:
            half = stored[: len(stored) // 2]
            for start in range(0, len(half), 1000):
                some = half[start : start + 1000]
                client.talk(b"".join(b"delete %s\r\n" % key for key in some),
                            b"DELETED\r\n" * len(some))
            start = time.monotonic()
            wait_until(lambda: client.ask(b"set more 0 0 1000\r\n%s\r\n" % (b"x" * 1000),
                                          b"\r\n") == b"STORED\r\n",
                       "room after deletes")
            print("room again after %.3f s" % (time.monotonic() - start))


def test_what_has_expired_leaves_memory_and_disk_unread():
    server = Server("-m", "8", "--disk-limit=32m")
    with server.connect() as client:
        assert len(store_many(client, b"short", 10000, exptime=1)) == 10000
        assert len(store_many(client, b"long", 1000)) == 1000
        wait_until(lambda: int(client.stats()["curr_items"]) == 1000, "expired keys leave",
                   timeout=60)
        assert number(client.stats(), "crawler_reclaimed") == 10000
        assert number(client.stats(), "expired_unfetched") == 10000
        assert number(client.stats(), "reclaimed") == 10000
        wait_until(lambda: number(client.stats("store"), "dead_bytes") < 5 * MIB,
                   "dead segments leave", timeout=30)


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_an_expired_value_does_not_bring_an_older_one_back(how):
    """The older value lies in an older segment; cleaning the newer one must leave something that
    masks it."""
    server = Server("-m", "8", "--segment-size=64k", "--disk-limit=8m")
    keys = [b"key%d" % n for n in range(300)]
    with server.connect() as client:
        for key in keys:
            client.set(key, b"old " + value_of(key, 500))
        store_many(client, b"filler", 500)  # that stay, so that the old segments stay
        for key in keys:
            client.set(key, b"new " + value_of(key, 500), exptime=1)
        for turn in range(20):
            store_many(client, b"turn", 500)
        wait_until(lambda: client.gets(*keys) == {}, "they expire")
        for turn in range(30):  # the segments with the new values are cleaned
            store_many(client, b"turn", 500)
        assert number(client.stats("store"), "cleaner_segments") > 50
    server.restart(how)
    with server.connect() as client:
        assert client.gets(*keys) == {}
        assert len(client.gets(*[b"filler%d" % n for n in range(500)])) == 500


def test_flushed_data_does_not_come_back():
    server = Server("-m", "8", "--segment-size=64k", "--disk-limit=8m")
    with server.connect() as client:
        store_many(client, b"key", 3000)
        client.talk(b"flush_all\r\n", b"OK\r\n")
        store_many(client, b"new", 100)
    server.kill9()
    server.start()
    with server.connect() as client:
        assert client.gets(*[b"key%d" % n for n in range(3000)]) == {}
        assert len(client.gets(*[b"new%d" % n for n in range(100)])) == 100
        wait_until(lambda: number(client.stats("store"), "disk_bytes") < 2 * MIB,
                   "flushed segments leave")


def test_limits_change_while_it_runs():
    server = Server("-m", "64", "--disk-limit=256m")
    with server.connect() as client:
        assert len(store_many(client, b"key", 60000, size=500)) == 60000
        client.talk(b"cache_memlimit 8\r\n", b"OK\r\n")
        wait_until(lambda: number(client.stats("store"), "cache_bytes") < 9 * MIB,
                   "the cache shrinks")
        client.talk(b"cache_memlimit 64\r\n", b"OK\r\n")
        client.talk(b"cache_disklimit 3\r\n",
                    b"CLIENT_ERROR the disk limit is at least 4 (megabytes), or 0 for none\r\n")
        client.talk(b"cache_disklimit 16\r\n", b"OK\r\n")
        wait_until(lambda: number(client.stats("store"), "disk_bytes") <= 16 * MIB,
                   "the disk shrinks")
        assert number(client.stats(), "evictions") > 20000
        client.talk(b"cache_disklimit 256\r\n", b"OK\r\n")
        assert number(client.stats("store"), "disk_limit") == 256 * MIB
        evictions = settled(lambda: number(client.stats(), "evictions"))
        assert len(store_many(client, b"new", 60000, size=500)) == 60000
        assert number(client.stats(), "evictions") == evictions


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_a_cache_starts_with_less_memory_than_its_keys_need(how):
    server = Server("-m", "16")
    bench(server, "-k", "300000", "-S", "10", "--load")
    server.options = ["-m", "4"]
    server.restart(how)
    with server.connect() as client:
        wait_until(lambda: number(client.stats("store"), "keydir_bytes") <= 3 * MIB,
                   "the oldest keys leave")
        most = 3 * MIB / 16  # bytes of an entry
        assert 50000 < number(client.stats(), "curr_items") < most
        assert number(client.stats(), "evictions") > 300000 - most
    assert bench(server, "-k", "300000", "-S", "10", "--verify-all", "--allow-missing") > 50000


def test_the_clean_rate_bounds_the_cleaner():
    server = Server("-m", "8", "--disk-limit=32m", "--clean-rate=1m")
    with server.connect() as client:
        for _ in range(15):
            store_many(client, b"key", 2000)
        assert len(store_many(client, b"key", 2000)) == 2000
        assert len(client.gets(*[b"key%d" % n for n in range(100)])) == 100
    bad = Server("--clean-rate=0", start=False).launch()
    status, said = bad.wait_for_exit()
    assert status == 64 and "clean-rate" in said
