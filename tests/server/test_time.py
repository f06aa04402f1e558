"""Time: what becomes of expiries when the wall clock is set, and when the process stands still.

The clock of one server is set by a small library that is loaded before libc: it adds to the wall
clock what a file says.
"""
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest

import support
from support import Server, sleep_until

HOUR = 3600
DAY = 24 * HOUR
STEPS = pytest.mark.parametrize("step", [-HOUR, DAY], ids=["an hour back", "a day forward"])
STANDSTILL = 60 if support.LONG else 3  # seconds

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *added_s;

__attribute__((constructor)) static void begin(void)
{
    int fd = open(getenv("ADDED_SECONDS"), O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, sizeof *added_s, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    added_s = map;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (result == 0 && added_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += *added_s;
    return result;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *out, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@pytest.fixture(scope="module")
def shim():
    if support.SANITIZED:
        pytest.skip("sanitizers want to be loaded first")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler")
    folder = support.place.new("shim")
    source, library = os.path.join(folder, "shim.c"), os.path.join(folder, "shim.so")
    with open(source, "w", encoding="ascii") as file:
        file.write(SHIM)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class Clock:
    """The wall clock of one server."""

    def __init__(self, shim):
        self.path = os.path.join(support.place.new("clock"), "added")
        self.env = {"LD_PRELOAD": shim, "ADDED_SECONDS": self.path}
        self.file = open(self.path, "w+b", buffering=0)
        self.set(0)

    def set(self, seconds):
        os.pwrite(self.file.fileno(), struct.pack("<q", seconds), 0)


@pytest.fixture
def clock(shim):
    clock = Clock(shim)
    yield clock
    clock.file.close()


def test_the_wall_clock_is_that_of_the_start(clock):
    """That the library does what these tests want of it."""
    clock.set(DAY)
    server = Server(env=clock.env)
    assert abs(int(server.stats()["time"]) - time.time() - DAY) < 60


END_OF_SECONDS = 2**32  # in February 2106


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_what_would_expire_after_the_last_second_that_can_be_told_never_does(clock, how):
    clock.set(END_OF_SECONDS - HOUR - int(time.time()))
    server = Server(env=clock.env)
    ttl = 2 * HOUR
    names = [b"set", b"touched", b"gat", b"meta", b"meta-touched", b"made", b"counted"]
    with server.connect() as client:
        client.set(b"set", b"x", exptime=ttl)
        for name in (b"touched", b"gat", b"meta-touched"):
            client.set(name, b"x", exptime=100)
        client.talk(b"touch touched %d\r\n" % ttl, b"TOUCHED\r\n")
        client.talk(b"gat %d gat\r\n" % ttl, b"VALUE gat 0 1\r\nx\r\nEND\r\n")
        client.talk(b"ms meta 1 T%d\r\nx\r\n" % ttl, b"HD\r\n")
        client.talk(b"mg meta-touched T%d t\r\n" % ttl, b"HD t-1\r\n")
        client.talk(b"mg made N%d t\r\n" % ttl, b"HD t-1 W\r\n")
        client.talk(b"ma counted N%d t\r\n" % ttl, b"HD t-1\r\n")
        client.set(b"over", b"x", exptime=2**31 - 1)
        client.set(b"in-time", b"x", exptime=100)
        client.talk(b"mg in-time R%d\r\n" % ttl, b"HD W\r\n")
        client.talk(b"flush_all %d\r\n" % ttl, b"OK\r\n")
        assert sorted(client.gets(*names, b"over")) == sorted(names)
    server.restart(how)
    with server.connect() as client:
        assert sorted(client.gets(*names, b"in-time")) == sorted([*names, b"in-time"])


def test_a_start_after_that_second_keeps_what_is_stored(clock):
    clock.set(END_OF_SECONDS + DAY - int(time.time()))
    server = Server(env=clock.env)
    with server.connect() as client:
        client.set(b"never", b"x")
        client.set(b"later", b"x", exptime=HOUR)
        client.set(b"over", b"x", exptime=-1)
        assert sorted(client.gets(b"never", b"later", b"over")) == [b"later", b"never"]
    server.restart("kill9")
    with server.connect() as client:
        assert sorted(client.gets(b"never", b"later", b"over")) == [b"later", b"never"]


@STEPS
def test_a_step_of_the_wall_clock_moves_no_expiry(clock, step):
    server = Server(env=clock.env)
    with server.connect() as client:
        client.set(b"gone", b"x", exptime=1)
        time.sleep(2.1)
        assert client.get(b"gone") is None
        begin = time.monotonic()
        client.set(b"short", b"x", exptime=5)
        client.set(b"long", b"x", exptime=1000)
        client.set(b"absolute", b"x", exptime=int(time.time()) + 1000)
        client.set(b"never", b"x")
        client.set(b"deleted", b"x")
        client.talk(b"delete deleted\r\n", b"DELETED\r\n")
        keys = [b"gone", b"short", b"long", b"absolute", b"never", b"deleted"]
        clock.set(step)
        while True:  # up to a second before its time; on a slow machine perhaps not once
            found = client.gets(*keys)
            if time.monotonic() > begin + 4:
                break
            assert sorted(found) == [b"absolute", b"long", b"never", b"short"]
            time.sleep(0.2)
        client.set(b"since", b"x", exptime=2)
        sleep_until(begin + 7.1)
        assert sorted(client.gets(*keys, b"since")) == [b"absolute", b"long", b"never"]
        assert abs(int(client.stats()["time"]) - time.time()) < 60


@STEPS
def test_a_step_of_the_wall_clock_moves_no_pending_flush(clock, step):
    server = Server(env=clock.env)
    with server.connect() as client:
        begin = time.monotonic()
        client.set(b"k", b"x")
        client.talk(b"flush_all 4\r\n", b"OK\r\n")
        clock.set(step)
        while True:
            found = client.get(b"k")
            if time.monotonic() > begin + 3:
                break
            assert found == b"x"
            time.sleep(0.2)
        sleep_until(begin + 6.1)
        assert client.get(b"k") is None


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_the_newest_version_wins_whatever_the_clock_says_at_a_start(clock, how):
    """The order of the log is that of the writes, not that of the clock."""
    server = Server(env=clock.env)
    highest = 0
    for turn, added in enumerate((0, -HOUR, DAY, -HOUR, -DAY, 0)):
        if turn:
            getattr(server, how)()
            clock.set(added)
            server.start()
        with server.connect() as client:
            if turn:
                found = client.gets(b"never", b"month", b"deleted", b"flushed", b"replaced")
                assert {key: value[0] for key, value in found.items()} == {
                    b"never": b"%d" % (turn - 1), b"month": b"%d" % (turn - 1),
                    b"replaced": b"%d" % (turn - 1)}
            client.set(b"flushed", b"x")
            client.talk(b"flush_all\r\n", b"OK\r\n")
            client.set(b"never", b"%d" % turn)
            client.set(b"month", b"%d" % turn, exptime=30 * DAY)
            client.set(b"deleted", b"%d" % turn)
            client.talk(b"delete deleted\r\n", b"DELETED\r\n")
            client.set(b"replaced", b"older", exptime=100)
            client.set(b"replaced", b"%d" % turn)
            assert client.cas_of(b"replaced") > highest
            highest = client.cas_of(b"replaced")


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_nothing_older_rises_under_a_value_that_has_expired(clock, how):
    server = Server(env=clock.env)
    with server.connect() as client:
        client.set(b"k", b"older")
        client.set(b"k", b"newer", exptime=HOUR)
        client.set(b"t", b"touched away")
        client.talk(b"touch t %d\r\n" % HOUR, b"TOUCHED\r\n")
    for added in (DAY, 2 * DAY, DAY + HOUR):
        getattr(server, how)()
        clock.set(added)
        server.start()
        with server.connect() as client:
            assert client.gets(b"k", b"t") == {}


@pytest.mark.seconds(60 + STANDSTILL)
def test_a_standstill_of_the_process_stops_no_expiry():
    server = Server()
    with server.connect() as client:
        begin = time.monotonic()
        client.set(b"before", b"x", exptime=1)
        client.set(b"within", b"x", exptime=STANDSTILL - 1)
        client.set(b"behind", b"x", exptime=STANDSTILL + 20)
        client.set(b"never", b"x")
        server.process.send_signal(signal.SIGSTOP)
        sleep_until(begin + STANDSTILL + 0.2)
        client.send(b"gets before within behind never\r\n")  # it finds this when it goes on
        server.process.send_signal(signal.SIGCONT)
        found = client.read_values()
        late = time.monotonic() - begin
        assert b"before" not in found and b"within" not in found and b"never" in found
        assert b"behind" in found or late > STANDSTILL + 19
        client.set(b"since", b"x", exptime=1000)
        assert client.get(b"since") == b"x"
    server.restart("kill9")
    with server.connect() as client:
        assert client.gets(b"before", b"within") == {}
        assert client.get(b"never") == b"x"
