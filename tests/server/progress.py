"""What a server does on small and full disks, under low limits, and without its directory.

Each case does what an operator may meet, and asserts that every request is answered in time, that
nothing acknowledged is lost, that waiting costs no processor time, and that the server says what is
wrong, once. It answers a line that tells what happened. test_progress.py runs them in small,
script/test-long disks and full as they were found.
"""
import collections
import os
import re
import shutil
import subprocess
import time

import support
from support import Server, value_of, wait_until

MIB = 1 << 20
ANSWER_S = float(os.environ.get("CACHECASK_ANSWER_S", 60))  # in which each request must be answered
IDLE_SHARE = 0.1  # of a core: a server that waits takes a hundredth, one that spins what it gets
MOST_LINES = 4  # of an episode: what is wrong, and that it is over
BATCH = 50
FILE_SYSTEM_BYTES = 1 << 18  # more than the file system needs for itself in our files


def mode_options(mode):
    return ["-M"] if mode == "store" else []


def set_command(key, value, exptime=0):
    return b"set %s 0 %d %d\r\n%s\r\n" % (key, exptime, len(value), value)


class Writing:
    """Sets keys of a given size, and notes what was stored and what the others were told."""

    def __init__(self, server, size):
        self.client = server.connect(ANSWER_S)
        self.size = size
        self.stored = []
        self.refused = collections.Counter()
        self.longest_s = 0

    def set(self, keys):
        """Answers how many were stored."""
        began = time.monotonic()
        self.client.send(b"".join(set_command(key, value_of(key, self.size)) for key in keys))
        answers = [self.client.line() for _ in keys]
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        stored = [key for key, answer in zip(keys, answers) if answer == b"STORED\r\n"]
        self.stored += stored
        for answer in answers:
            assert answer == b"STORED\r\n" or answer.startswith(b"SERVER_ERROR "), answer
            self.refused.update([] if answer == b"STORED\r\n" else [answer.decode().strip()])
        return len(stored)

    def set_many(self, prefix, count, batch=BATCH, until_refused=False):
        """until_refused: the last batch was refused as a whole."""
        for start in range(0, count, batch):
            keys = [b"%s%07d" % (prefix, n) for n in range(start, min(start + batch, count))]
            if not self.set(keys) and until_refused:
                return

    def missing(self, keys):
        """How many are not there; those that are must be right."""
        count = 0
        for key in keys:
            value = self.client.get(key)
            assert value in (None, value_of(key, self.size)), (key, value[:60])
            count += value is None
        return count

    def said(self):
        refused = ", ".join("%d × %s" % (n, text) for text, n in self.refused.items())
        stored = "%d stored, longest wait %.2f s" % (len(self.stored), self.longest_s)
        return "; ".join(filter(None, [stored, refused]))


def messages(server):
    """Its log since the start, without the line that it is ready."""
    return [line for line in server.log().splitlines() if " ready on " not in line]


def assert_told(server, happened, about=r"disk|space|room|director"):
    """happened: for the message, when it has not."""
    told = lambda: any(re.search(about, line) for line in messages(server))
    wait_until(told, "a line about it: %s" % happened, ANSWER_S)
    lines = messages(server)
    assert len(lines) <= MOST_LINES, "%d lines are said: … %r" % (len(lines), lines[-3:])
    return lines


def idle_share(server, seconds=2):
    """Of a core, while nobody asks for anything."""
    before, began = server.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (server.cpu_s() - before) / (time.monotonic() - began)


def assert_idle(server):
    """Once it has done what it has to do."""
    deadline = time.monotonic() + ANSWER_S
    share = idle_share(server)
    while share > IDLE_SHARE and time.monotonic() < deadline:
        share = idle_share(server)
    assert share <= IDLE_SHARE, "it waits with %.0f %% of a core" % (100 * share)


def start(server):
    server.launch()
    server.wait_until_ready(ANSWER_S)


# Small disks


def small_disk(disk, memory_mib, mode, size=4000):
    """Three times what is free is written: stored, the oldest evicted, or refused with a line."""
    server = Server("-m", str(memory_mib), *mode_options(mode), data_dir=disk.data_dir, start=False)
    free_mib = disk.free() // MIB
    try:
        start(server)
    except AssertionError:
        return refused_start(server, free_mib)
    writing = Writing(server, size)
    writing.set_many(b"key", 3 * free_mib * MIB // size, until_refused=mode == "store")
    check_small_disk(server, writing, mode)
    evictions = server.stats()["evictions"]
    lines = messages(server)
    server.restart("kill9")
    writing.client = server.connect(ANSWER_S)
    if mode == "store":
        assert not writing.missing(writing.stored[::29]), "acknowledged keys are gone after kill -9"
        make_room_by_deletes(writing)
    server.kill9()
    return "%s, %s evicted; said: %s" % (writing.said(), evictions, lines)


def refused_start(server, free_mib):
    assert not server.is_alive(), "it neither serves nor ends"
    status, said = server.wait_for_exit()
    assert status not in (0, None) and said, "it ends with %s and says %r" % (status, said)
    return "%d MiB: does not start, says: %s" % (free_mib, said.strip())


def check_small_disk(server, writing, mode):
    if writing.refused:
        assert_told(server, writing.said())
    else:
        assert not writing.missing(writing.stored[-BATCH:]), "what was just stored is gone"
    if mode == "store":
        assert writing.refused, "a store takes three times what the disk has"
        assert not writing.missing(writing.stored[::29]), "acknowledged keys are gone"
        assert server.stats()["evictions"] == "0", "a store evicts"
    assert_idle(server)


def make_room_by_deletes(writing):
    for key in writing.stored:
        answer = writing.client.ask(b"delete %s\r\n" % key, b"\r\n")
        assert answer == b"DELETED\r\n", "delete %r: %r" % (key, answer)
    wait_until(lambda: writing.set([b"again"]), "room after deletes", ANSWER_S)


def disk_filled_by_another_file(disk):
    """A5: it waits for the disk when it needs it, and then it says so."""
    server = Server("-m", "64", data_dir=disk.data_dir)
    writing = Writing(server, 1)
    writing.set([b"a"])
    disk.fill()
    writing.client.get(b"a")
    writing.set([b"c"])
    assert_idle(server)
    many = Writing(server, 4000)
    many.set_many(b"key", 20_000)
    said = "; ".join([writing.said(), many.said()])
    assert_idle(server)
    lines = assert_told(server, said, r"disk .*full|no (space|room)|free space")
    disk.make_room()
    wait_until(lambda: writing.set([b"d"]), "it stores again", ANSWER_S)
    return "%s; said: %s" % (said, lines)


def values_as_large_as_segments(disk, large_mib=30, count=10):
    """A6."""
    server = Server("-I", "%dm" % (large_mib + 2), "-m", "128", data_dir=disk.data_dir)
    small = Writing(server, 100_000)
    small.set_many(b"small", 1500 * large_mib // 30, batch=10)
    large = Writing(server, large_mib * MIB)
    large.set_many(b"large", count, batch=1)
    if large.refused:
        assert_told(server, large.said())
    else:
        assert not large.missing(large.stored[-1:]), "what was just stored is gone"
    assert_idle(server)
    return "small: %s; large: %s; said: %s" % (small.said(), large.said(), messages(server))


def value_larger_than_the_disk(disk):
    """A6: what can never fit is refused, and others go on."""
    mib = disk.free() // MIB + 40
    server = Server("-I", "%dm" % (mib + 8), "-m", "128", data_dir=disk.data_dir)
    writing = Writing(server, mib * MIB)
    writing.set([b"huge"])
    assert writing.refused, "%d MiB are stored on less" % mib
    small = Writing(server, 100)
    assert small.set([b"small"]) == 1 and not small.missing([b"small"]), "others do not go on"
    return writing.said()


def start_on_a_full_disk(disk, mode, count=5000):
    """A7."""
    server = Server("-m", "64", *mode_options(mode), data_dir=disk.data_dir)
    writing = Writing(server, 1000)
    writing.set_many(b"key", count)
    assert not writing.refused, writing.said()
    server.stop()
    disk.fill()
    for _ in range(2):
        start(server)
        evicted = check_start_on_a_full_disk(server, writing, mode)
        server.kill9()
    start(server)
    writing.client = server.connect(ANSWER_S)
    for key in writing.stored:
        answer = writing.client.ask(b"delete %s\r\n" % key, b"\r\n")
        assert answer == b"DELETED\r\n" or mode == "cache", answer
    wait_until(lambda: writing.set([b"again"]), "room after deletes", ANSWER_S)
    return "%d keys, %d evicted; said: %s" % (count, evicted, messages(server))


def check_start_on_a_full_disk(server, writing, mode):
    writing.client = server.connect(ANSWER_S)
    assert_idle(server)
    stats = server.stats()
    missing = writing.missing(writing.stored)
    if mode == "store":
        assert not missing, "%d keys are gone" % missing
    elif missing:
        assert_told(server, "%d of %d keys are gone" % (missing, len(writing.stored)), "evict")
    counted = int(stats["curr_items"])
    assert counted == len(writing.stored) - missing, "curr_items is %d" % counted
    return missing


def directory_removed(segment_size="1m", size=100_000, mib=64):
    """A11."""
    server = Server("-m", "64", "--segment-size=" + segment_size)
    writing = Writing(server, size)
    assert writing.set([b"kept"])
    while os.path.exists(server.data_dir):  # the server may make a file meanwhile
        shutil.rmtree(server.data_dir, ignore_errors=True)
    writing.set_many(b"key", mib * MIB // size, batch=10)
    assert writing.refused, "all is stored in a directory that is gone"
    lines = assert_told(server, writing.said(), r"director|No such file")
    assert writing.client.get(b"kept") == value_of(b"kept", size)
    assert_idle(server)
    server.process.terminate()
    status, said = server.wait_for_exit()
    assert status == 1 and "has been removed" in said and "all synced" not in said, said
    return "%s; said: %s" % (writing.said(), lines)


def statfs_of_zeros():
    """A library that makes statvfs answer as some file systems do that do not count."""
    path = os.path.join(support.place.path, "statfs_of_zeros.so")
    if not os.path.exists(path):
        source = (
            "#include <string.h>\n#include <sys/statvfs.h>\n"
            "int fstatvfs(int fd, struct statvfs *to)"
            " { memset(to, 0, sizeof *to); return fd < 0 ? -1 : 0; }\n"
            "int statvfs(const char *path, struct statvfs *to) { return fstatvfs(!path, to); }\n"
        )
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", path],
            input=source,
            text=True,
            check=True,
        )
        os.chmod(path, 0o755)
    return path


def disk_that_counts_nothing(mode):
    """A12: unknown is not full."""
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), statfs_of_zeros()]))
    limits = ["-m", "8", "--disk-limit=16m"]
    server = Server(*limits, *mode_options(mode), env={"LD_PRELOAD": preload})
    writing = Writing(server, 4000)
    writing.set_many(b"key", 12000, until_refused=mode == "store")
    assert len(writing.stored) > 2000, writing.said()
    assert mode == "store" or not writing.refused, writing.said()
    assert not writing.missing(writing.stored[-BATCH:])
    return "%s; said: %s" % (writing.said(), messages(server))


# Low limits


def limit_lowered_below_the_segments(memory_mib=64, stored_mib=100, limit_mib=24):
    """A4: cache_disklimit."""
    server = Server("-m", str(memory_mib))
    writing = Writing(server, 10_000)
    writing.set_many(b"old", stored_mib * 100)
    answer = writing.client.ask(b"cache_disklimit %d\r\n" % limit_mib, b"\r\n")
    assert answer == b"OK\r\n" or answer.startswith((b"CLIENT_ERROR ", b"SERVER_ERROR ")), answer
    writing.set_many(b"new", stored_mib * 100)
    limit = int(server.stats("store")["disk_limit"])
    taken = limit == limit_mib * MIB
    assert taken or answer != b"OK\r\n", "%r, and the limit is %d" % (answer, limit)
    most = limit + FILE_SYSTEM_BYTES
    wait_until(lambda: server.disk_bytes() <= most, "the disk shrinks to its limit", ANSWER_S)
    assert not writing.missing(writing.stored[-BATCH:])
    return "%s; limit %d MiB; %s" % (answer.decode().strip(), limit // MIB, writing.said())


def segments_larger_than_the_limit(segment_size="64m", limit_mib=4):
    """A4: refused at the start, or made smaller."""
    server = Server("--segment-size=" + segment_size, "--disk-limit=%dm" % limit_mib, start=False)
    try:
        start(server)
    except AssertionError:
        return refused_start(server, limit_mib)
    most = server.disk_bytes()
    writing = Writing(server, 1000)
    for turn in range(20):
        writing.set_many(b"key%d-" % turn, limit_mib * 200)
        most = max(most, server.disk_bytes())
    limit = int(server.stats("store")["disk_limit"])
    told = "%.1f MiB on disk, the limit is %d and was %d MiB" % (most / MIB, limit / MIB, limit_mib)
    assert limit == limit_mib * MIB and most <= limit + FILE_SYSTEM_BYTES, told
    assert not writing.refused and not writing.missing(writing.stored[-BATCH:])
    return "at most %.1f MiB on disk; %s" % (most / MIB, writing.said())


def overwrites_of_a_full_store(memory_mib=64, limit_mib=64, count=4200):
    """A8: records of 48 bytes until it is full, then others of the same size."""
    server = Server("-m", str(memory_mib), "-M", "--disk-limit=%dm" % limit_mib)
    client = server.connect(ANSWER_S)
    most = [0]

    def put(keys, letter):
        client.send(b"".join(b"set %s 0 0 8\r\n%s\r\n" % (key, letter * 8) for key in keys))
        most[0] = max(most[0], server.disk_bytes())
        return [key for key in keys if client.line() == b"STORED\r\n"]

    stored = []
    for start_at in range(0, 1 << 30, 1000):
        some = put([b"%08d" % n for n in range(start_at, start_at + 1000)], b"a")
        stored += some
        if not some:
            break
    accepted = sum(
        len(put([stored[(n + i) * 7919 % len(stored)] for i in range(100)], b"b"))
        for n in range(0, count, 100)
    )
    told = "%d stored; %d of %d overwrites accepted" % (len(stored), accepted, count)
    told += "; at most %.1f MiB on disk" % (most[0] / MIB)
    assert accepted == count, told
    assert most[0] <= limit_mib * MIB + FILE_SYSTEM_BYTES, told
    return told
