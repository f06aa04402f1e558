"""Calls of the system that fail: nothing is acknowledged that is not kept, nobody crashes, and the
service comes back.

failing_calls.c lets the Nth call of a kind fail, once or until the fault is mended. N goes up until
a round passes in which that call was not reached; the short form leaves some N out. What clients
know of each key stands in a Ledger: after an acknowledged write exactly that value, after one that
was refused or never answered the value before it or the new one.

SEED=n replays the choices of the disturbed runs, as far as the threads of the server come in the
same order.
"""
import errno
import mmap
import os
import pwd
import random
import re
import shutil
import signal
import struct
import subprocess
import threading
import time

import pytest

import support
from support import Server, value_of, wait_until

SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
FOREVER = 1 << 60
PATIENCE = 0.25  # seconds until a client that gets no answer gives up

# The order is that of enum kind in failing_calls.c. What the system would say:
KINDS = {
    "none": 0,
    "open": errno.EMFILE,
    "read": errno.EIO,
    "write": errno.EIO,
    "sync": errno.EIO,
    "rename": errno.EIO,
    "allocate": errno.EIO,
    "truncate": errno.EIO,
    "unlink": errno.EIO,
    "replace": errno.EBUSY,
    "list": errno.EIO,
    "mmap": errno.ENOMEM,
    "memory": errno.ENOMEM,
    "thread": errno.EAGAIN,
    "eventfd": errno.EMFILE,
    "epoll_create": errno.EMFILE,
    "epoll_ctl": errno.ENOMEM,
    "epoll_wait": errno.EINTR,
    "accept": errno.ENFILE,
    "receive": errno.ENOMEM,
    "send": errno.ENOBUFS,
    "user": errno.EMFILE,
    "ring": errno.EPERM,
    "socket_ring": errno.EPERM,
    "change": errno.EROFS,
    "hint": errno.EIO,
}
NOT_SANITIZED = pytest.mark.skipif(support.SANITIZED, reason="malloc is the sanitizer's")


def kinds(*names):
    return [pytest.param(name, marks=NOT_SANITIZED if name == "memory" else ()) for name in names]


def numbers():
    """1, 2, 3, … and in the short form 1, 2, 3, 5, 8, 13, …"""
    this, following = 1, 2
    while True:
        yield this
        this, following = (this + 1, 0) if support.LONG else (following, this + following)


# The server and its faults

def library():
    """The compiled failing_calls.c, where the user who serves can read it."""
    path = os.path.join(support.place.path, "failing_calls.so")
    if not os.path.exists(path):
        source = os.path.join(os.path.dirname(__file__), "failing_calls.c")
        extra = ["-DNO_MEMORY_CALLS"] if support.SANITIZED else []
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", *extra,
                        "-o", path + ".new",
                        source, "-ldl"], check=True)
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
    return path


class Faults:
    """The page that is shared with the server."""

    FIELDS = ("kind", "error", "first", "times", "calls", "failed", "odds", "seed", "disturbed",
              "standing", "sync_us", "cold", "write_stands", "write_us", "bad_inode", "bad_from",
              "bad_to")

    def __init__(self, path):
        with open(path, "w+b") as file:
            file.truncate(mmap.PAGESIZE)
            self.page = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def __getitem__(self, field):
        return struct.unpack_from("q", self.page, 8 * self.FIELDS.index(field))[0]

    def __setitem__(self, field, value):
        struct.pack_into("q", self.page, 8 * self.FIELDS.index(field), value)

    def arm(self, kind, first=1, times=1, error=None):
        self.mend()
        self["error"] = error or KINDS[kind]
        self["first"], self["times"], self["calls"], self["failed"] = first, times, 0, 0
        self["kind"] = list(KINDS).index(kind)

    def mend(self):
        self["kind"] = self["odds"] = self["bad_inode"] = 0

    def spoil(self, path, start=0, stop=FOREVER):
        """These bytes of a file cannot be read."""
        self["bad_from"], self["bad_to"], self["failed"] = start, stop, 0
        self["bad_inode"] = os.stat(path).st_ino

    def disturb(self, seed, odds):
        """One in `odds` of the calls that may do so is interrupted, or does less than it was
        asked."""
        self["seed"], self["odds"], self["disturbed"] = seed, odds, 0


class FailingServer(Server):
    def __init__(self, *options, journal=False, **how):
        super().__init__(*options, start=False, **how)
        page = os.path.join(self.folder, "faults")
        self.faults = Faults(page)
        self.preload = {"LD_PRELOAD": library(), "FAILING_CALLS_PAGE": page}
        if support.SANITIZED:  # what a start that fails leaves behind, the end of the process takes
            self.preload["ASAN_OPTIONS"] = (os.environ.get("ASAN_OPTIONS", "") +
                                            ":verify_asan_link_order=0:detect_leaks=0").lstrip(":")
        if journal:
            self.journal = os.path.join(self.folder, "journal")
            self.preload["FAILING_CALLS_JOURNAL"] = self.journal
            open(self.journal, "wb").close()

    def start_failing(self):
        self.env = self.preload
        return self.start()

    def launch_failing(self):
        """Starts it, and waits until it serves, or has ended. Returns whether it serves."""
        self.env = self.preload
        self.launch()
        deadline = time.monotonic() + support.TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "neither ready nor ended:\n" + self.log()
            if is_answered(self):
                return True
            time.sleep(0.005)
        return False

    def start_whole(self):
        """A start without any faults, after which writing works too."""
        self.env = None
        self.start()
        wait_until(lambda: can_write(self), "writing")
        return self

    def assert_idle(self, seconds=1.0):
        """Waiting costs no processor time, and what fails is not tried as often as a processor
        can."""
        before, failed, started = self.cpu_s(), self.faults["failed"], time.monotonic()
        time.sleep(seconds)
        used, passed = self.cpu_s() - before, time.monotonic() - started
        failed = self.faults["failed"] - failed
        print("%.2f s of processor time and %d failed calls in %.2f s" % (used, failed, passed))
        assert used < passed / 3 and failed < passed * 250


def is_answered(server, question=b"version\r\n", answer=b"VERSION "):
    try:
        with server.connect(PATIENCE) as client:
            client.send(question)
            return client.line().startswith(answer)
    except (OSError, AssertionError):
        return False


def can_write(server):
    return is_answered(server, b"set again 0 0 1\r\nx\r\n", b"STORED\r\n")


# What the clients know

class Ledger:
    LENGTHS = (10, 300, 300, 3000, 3000, 3000, 20000)

    def __init__(self, name=b"k", keys=120):
        self.name = name
        self.keys = keys
        self.turn = 0
        self.known = {}  # the value that was acknowledged last
        # And those that nobody knows of, whose keys are not used again: they may come late
        self.maybe = {}

    def key(self):
        self.turn += 1
        key = b"%s-%d" % (self.name, self.turn * 7 % self.keys)
        return key if key not in self.maybe else b"%s-new-%d" % (self.name, self.turn)

    def write(self, client):
        """One set, or now and then a deletion. Returns the answer; raises when the connection
        ends."""
        key = self.key()
        delete = self.turn % 11 == 10
        value = (None if delete
                 else value_of(b"%s.%d" % (key, self.turn),
                               self.LENGTHS[self.turn % len(self.LENGTHS)]))
        self.maybe[key] = value
        client.send(b"delete %s\r\n" % key if delete
                    else b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        answer = client.line()
        if answer.startswith(b"SERVER_ERROR "):
            return answer
        assert answer in ((b"DELETED\r\n", b"NOT_FOUND\r\n") if delete
                          else (b"STORED\r\n",)), answer
        del self.maybe[key]
        self.known[key] = value
        return answer

    def read(self, client):
        """One get. While calls fail it may be refused, but a miss or a value must be right."""
        key = b"%s-%d" % (self.name, self.turn * 3 % self.keys)
        client.send(b"get %s\r\n" % key)
        head = client.line().split()
        if head[0] != b"VALUE":
            assert (head[0] == b"SERVER_ERROR" or
                    (head == [b"END"] and None in self.wanted(key))), head
            return
        value = client.read(int(head[3]))
        assert client.read(7) == b"\r\nEND\r\n"
        assert value in self.wanted(key), "%r: %r" % (key, value[:100])

    def wanted(self, key):
        return [self.known.get(key)] + ([self.maybe[key]] if key in self.maybe else [])

    def check(self, server, acknowledged_only=False):
        keys = sorted(set(self.known) - set(self.maybe) if acknowledged_only
                      else set(self.known) | set(self.maybe))
        wrong = []
        with server.connect() as client:
            for start in range(0, len(keys), 50):
                some = keys[start:start + 50]
                found = client.gets(*some)
                for key in some:
                    value = found.get(key, (None,))[0]
                    if value not in self.wanted(key):
                        wrong.append("%r is %r, not one of %r" % (
                            key, value and value[:40], [w and w[:40] for w in self.wanted(key)]))
        assert not wrong, "%d of %d keys are wrong\n%s" % (len(wrong), len(keys),
                                                           "\n".join(wrong[:20]))

    def fill(self, server, count):
        with server.connect() as client:
            for _ in range(count):
                answer = self.write(client)
                assert not answer.startswith(b"SERVER_ERROR "), answer


def work(server, ledger, count, patience=PATIENCE):
    """Writes and reads; whenever a connection ends, or gives no answer, it goes on with another
    one. Returns how many changes were acknowledged."""
    client, stored = None, 0
    for _ in range(count):
        try:
            client = client or server.connect(patience)
            stored += ledger.write(client) in (b"STORED\r\n", b"DELETED\r\n")
            ledger.read(client)
        except (OSError, AssertionError) as error:
            if (isinstance(error, AssertionError) and "closed; before" not in str(error) and
                "no answer" not in str(error)):
                raise
            client = client and client.close()
    if client:
        client.close()
    return stored


def assert_well_again(server, ledger):
    assert server.is_alive(), (
        "the server has died by itself, status %d:\n%s" % (server.process.poll(), server.log()))
    wait_until(lambda: can_write(server), "writing again")
    ledger.check(server)


# A small store with much to do: cold values, full segments, and a cleaner.
BUSY = ("-t", "2", "-m", "1", "-M", "--segment-size=64k", "--disk-limit=4m", "--sync=always")


# At the start

@pytest.mark.seconds(3600 if support.LONG else 60)
@pytest.mark.parametrize("kind",
                         kinds("open", "read", "write", "sync", "rename", "allocate", "truncate",
                               "unlink", "list", "mmap", "memory", "thread", "eventfd",
                               "epoll_create", "epoll_ctl", "user"))
def test_a_start_whose_nth_call_fails_loses_nothing(kind):
    server = FailingServer(*BUSY)
    ledger = Ledger()
    server.start_whole()
    ledger.fill(server, 150)
    server.kill9()
    for nth in numbers():
        server.faults.arm(kind, nth)
        if server.launch_failing():
            reached = server.faults["failed"]
            server.faults.mend()
            assert_well_again(server, ledger)
            assert_serves_as(server)
            server.kill9()
        else:
            reached = True
            assert_ended_well(server, kind, nth)
        if support.LONG:
            server.start_whole()
            ledger.check(server)
            server.kill9()
        if not reached:
            break
    print("%s: %d calls at a start" % (kind, server.faults["calls"]))
    assert server.faults["calls"] or kind in ("rename", "truncate", "unlink")
    server.start_whole()
    ledger.check(server)


@pytest.mark.seconds(3600 if support.LONG else 60)
@pytest.mark.parametrize("kind", kinds("open", "write", "sync", "rename", "allocate", "user"))
def test_a_first_start_whose_nth_call_fails_can_be_repeated(kind):
    for nth in numbers():
        parent = support.place.new("parent")
        if support.is_root():
            os.chown(parent, 0, 0)
        os.chmod(parent, 0o755)
        server = FailingServer(data_dir=os.path.join(parent, "made"))
        server.faults.arm(kind, nth)
        if server.launch_failing():
            reached = server.faults["failed"]
            assert_serves_as(server)
            server.kill9()
        else:
            reached = True
            assert_ended_well(server, kind, nth)
        server.start_whole()
        server.kill9()
        if not reached:
            break


def assert_ended_well(server, kind, nth):
    status, said = server.wait_for_exit()
    if (kind == "memory" and "drop_privileges" in server.options + support.OPTIONS and
        status == -signal.SIGSYS):
        return  # libseccomp has made half a filter of half its memory
    assert status > 0, "%s %d: killed by signal %d\n%s" % (kind, nth, -status, said)
    print("%s %d: %s" % (kind, nth, said.strip()))
    assert len(said) > 20 and "Success" not in said, "%s %d says nothing: %r" % (kind, nth, said)


def assert_serves_as(server):
    """Whatever fails, a server that was to give up root has done so."""
    if support.is_root():
        with open("/proc/%d/status" % server.process.pid, encoding="ascii") as status:
            uids = [line.split()[1:] for line in status if line.startswith("Uid:")][0]
        assert uids == [str(pwd.getpwnam("nobody").pw_uid)] * 4


# While it serves

@pytest.mark.seconds(3600 if support.LONG else 60)
@pytest.mark.parametrize("kind",
                         kinds("open", "read", "write", "sync", "rename", "allocate", "truncate",
                               "unlink", "mmap", "memory", "epoll_ctl", "epoll_wait", "accept",
                               "receive", "send"))
def test_the_nth_call_fails_while_clients_write_and_read(kind):
    server = FailingServer(*BUSY)
    ledger = Ledger()
    server.start_failing()
    ledger.fill(server, 150)
    for nth in numbers():
        server.faults.arm(kind, nth)
        work(server, ledger, 30)
        reached = server.faults["failed"]
        server.faults.mend()
        assert_well_again(server, ledger)
        if support.LONG:
            server.kill9()
            server.start_failing()
            ledger.check(server)
        if not reached:
            break
    print("%s: %d calls in a round" % (kind, server.faults["calls"]))
    server.kill9()
    server.start_whole()
    ledger.check(server)


@pytest.mark.parametrize("kind", ["rename", "replace", "allocate", "open"])
def test_the_repair_after_a_failed_sync_fails_too(kind):
    server = FailingServer(*BUSY)
    ledger = Ledger()
    server.start_failing()
    ledger.fill(server, 30)
    server.faults.arm("change", times=2)  # a write or sync, and what mends it
    work(server, ledger, 3)
    server.faults.arm(kind, times=3)
    work(server, ledger, 3)
    server.faults.mend()
    assert_well_again(server, ledger)
    server.kill9()
    server.start_whole()
    ledger.check(server)


@pytest.mark.seconds(120)
@pytest.mark.parametrize("kind",
                         kinds("open", "read", "write", "sync", "allocate", "unlink", "memory",
                               "epoll_ctl", "accept", "receive", "send", "change"))
def test_calls_fail_until_the_fault_is_mended(kind):
    """And it costs no processor time to wait for that."""
    server = FailingServer(*BUSY)
    ledger = Ledger()
    server.start_failing()
    ledger.fill(server, 60)
    server.faults.arm(kind, times=FOREVER)
    stored = work(server, ledger, 40 if kind in ("open", "unlink", "read") else 6)
    server.assert_idle(0.5)
    print("%s: %d acknowledged, %d calls failed" % (kind, stored, server.faults["failed"]))
    assert stored == 0 or kind in ("open", "read", "allocate", "unlink")
    server.faults.mend()
    assert_well_again(server, ledger)
    server.kill9()
    server.start_whole()
    ledger.check(server)


def test_a_connection_that_cannot_be_watched_is_closed():
    server = FailingServer("-t", "1")
    server.start_failing()
    server.faults.arm("epoll_ctl")
    with server.connect(timeout=5) as client:
        client.expect_closed()
    assert is_answered(server)


def test_listening_that_cannot_be_resumed_is_tried_again():
    """First no descriptor, then no memory to listen again when there is one."""
    server = FailingServer("-t", "1")
    server.start_failing()
    server.faults.arm("accept", times=FOREVER)
    with server.connect() as client:
        wait_until(lambda: server.faults["failed"] > 2, "refusals")
        server.faults.arm("epoll_ctl", times=3)
        wait_until(lambda: server.faults["failed"] == 3, "attempts to listen")
        client.ask(b"version\r\n", b"\r\n")


def test_a_disk_that_became_read_only_is_read():
    server = FailingServer(*BUSY)
    ledger = Ledger()
    server.start_failing()
    ledger.fill(server, 60)
    server.faults.arm("change", times=FOREVER)
    assert work(server, ledger, 3) == 0
    ledger.check(server, acknowledged_only=True)  # all else may have to wait for a write
    assert server.stats("store")["read_only"] == "1"
    assert "read-only" in server.log()
    server.faults.mend()
    assert_well_again(server, ledger)


# A sync that fails and then says that all is well

def durable_image(server, path):
    """The segments as a loss of power would leave them: data written and not synced is zero. A
    failed sync loses the data it was writing, though the next one may report that nothing is left
    to do."""
    pending, lost, syncs = {}, {}, {}
    with open(server.journal, encoding="ascii") as journal:
        for line in journal:
            what, *words = line.split()
            number = int(words[0])
            if what == "N":
                pending[number], lost[number] = [], []
            elif what == "W":
                pending.setdefault(number, []).append((int(words[1]), int(words[2])))
            elif what == "B":
                syncs[int(words[1])] = number, len(pending.get(number, []))
                pending.setdefault(number, [])
            else:
                inode, count = syncs.pop(number)
                gone, pending[inode] = pending[inode][:count], pending[inode][count:]
                for other, (other_inode, other_count) in syncs.items():
                    if other_inode == inode:
                        syncs[other] = inode, max(0, other_count - count)
                if what == "F":
                    lost.setdefault(inode, []).extend(gone)
    os.mkdir(path, 0o700)
    zeroed = 0
    for name in os.listdir(server.data_dir):
        if name.endswith((".hint", ".tmp")):
            continue
        source = os.path.join(server.data_dir, name)
        inode = os.stat(source).st_ino
        shutil.copy(source, os.path.join(path, name))
        support.give_away(os.path.join(path, name))
        with open(os.path.join(path, name), "r+b") as file:
            for offset, length in pending.get(inode, []) + lost.get(inode, []):
                if name.endswith(".seg"):
                    file.seek(offset)
                    file.write(bytes(length))
                    zeroed += length
    support.give_away(path)
    return zeroed


def test_a_sync_that_fails_once_is_not_believed_when_it_succeeds():
    server = FailingServer("-t", "2", "--segment-size=256k", "--sync=always", journal=True)
    ledger = Ledger()
    server.start_failing()
    failures = 0
    for nth in (1, 1, 2, 3, 1, 2):
        ledger.fill(server, 10)
        server.faults.arm("sync", nth)
        work(server, ledger, 10, support.TIMEOUT)
        failures += server.faults["failed"]
        server.faults.mend()
        assert_well_again(server, ledger)
    assert failures >= 3
    server.kill9()
    image = os.path.join(server.folder, "image")
    print("%d bytes are lost" % durable_image(server, image))
    server.data_dir = image
    server.start_whole()
    ledger.check(server)


# Less than was asked, and interruptions

@pytest.mark.seconds(600 if support.LONG else 60)
def test_short_counts_and_interruptions_are_nobodys_business():
    print("SEED=%d" % SEED)
    server = FailingServer(*BUSY)
    ledgers = [Ledger(b"w%d" % number, keys=40) for number in range(3)]
    errors = []

    def write(ledger):
        try:
            for _ in range(20 if support.LONG else 2):
                ledger.fill(server, 40)
                ledger.check(server)
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)

    for turn, odds in enumerate((2, 3, 10)):
        server.faults.disturb(SEED + turn, odds)
        server.start_failing()
        for ledger in ledgers:
            ledger.check(server)
        threads = [threading.Thread(target=write, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        print("one in %d: %d calls disturbed" % (odds, server.faults["disturbed"]))
        assert server.faults["disturbed"] > 100
        server.kill9()
    server.start_whole()
    for ledger in ledgers:
        ledger.check(server)


# No descriptors left

FILES = 60  # more than the server needs for itself
CLIENTS = 100


def limit_files(server, count):
    user = ({"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
            if support.is_root() else {})
    subprocess.run(["prlimit", "--pid", str(server.process.pid), "--nofile=%d:" % count],
                   check=True, **user)


@pytest.fixture(name="crowded")
def make_crowded():
    """A server without a free descriptor, a client that came early, and many more than there is
    room for."""
    server = FailingServer(*BUSY)
    server.start_whole()
    client = server.connect()
    client.set(b"before", b"value")
    limit_files(server, FILES)
    crowd = [server.connect() for _ in range(CLIENTS)]
    for other in crowd:
        other.send(b"version\r\n")
    wait_until(lambda: "ulimit -n" in server.log(), "the limit is met")
    return server, client, crowd


def test_without_descriptors_waiting_costs_no_processor_time(crowded):
    server, client, crowd = crowded
    server.assert_idle()
    assert client.get(b"before") == b"value"
    assert client.stats()["accepting_conns"] == "0"
    assert server.log().count("cannot accept connections") == 1
    inside = [other for other in crowd if other.rest(0.001)]
    print("%d of %d clients are in" % (len(inside), len(crowd)))
    assert 0 < len(inside) < FILES
    for other in inside:
        other.close()
    for other in crowd:
        if other not in inside:
            other.expect(b"VERSION ")
            other.close()
    wait_until(lambda: can_write(server), "service when others have left")


def write_until_it_waits(ledger, client):
    """True if it comes to that: cleaning frees descriptors, unless a client in the crowd takes them
    first."""
    for _ in range(1000):
        try:
            if ledger.write(client).startswith(b"SERVER_ERROR "):
                return False
        except AssertionError as silence:
            assert "no answer" in str(silence)
            return True
    return False


def test_without_descriptors_for_segments_writers_wait_idly(crowded):
    """The log goes on in files that are open already; then its writers wait until another can be
    made, or are refused."""
    server, client, crowd = crowded
    ledger = Ledger()
    client.socket.settimeout(1)
    waits = write_until_it_waits(ledger, client)
    server.assert_idle()
    for other in crowd:
        other.close()
    client.socket.settimeout(support.TIMEOUT)
    if waits:
        assert client.line() in (b"STORED\r\n", b"DELETED\r\n")
    assert_well_again(server, ledger)
    server.kill9()
    server.start_whole()
    ledger.check(server)


@NOT_SANITIZED
def test_a_value_that_is_sent_from_where_it_was_read_finds_no_memory():
    server = FailingServer("-t", "1", "-m", "1", "-I", "2m")
    server.start_failing()
    with server.connect() as client:
        client.set(b"large", value_of(b"large", 700000))
    value = value_of(b"large", 700000)
    answer = b"VALUE large 0 700000\r\n" + value + b"\r\nEND\r\n"
    for nth in numbers():
        with server.connect() as client:
            client.ask(b"version\r\n", b"\r\n")
            server.faults.arm("memory", nth)
            client.send(b"get large\r\n")
            said = client.rest()
            # A value that was read at once, on tmpfs, found no memory for its answer
            if said == b"":
                client.expect_closed()
            else:
                assert said in (answer,
                                b"SERVER_ERROR out of memory reading the value\r\n"), said[:100]
            assert server.is_alive()
        if not server.faults["failed"]:
            break
    assert nth > 2 and said == answer


# Rings that may be made and not used

def read_cold_values(server, count):
    """None of them in memory or in the page cache, each asked for once, many at a time."""
    keys = [b"cold-%d" % n for n in range(count)]
    with server.connect() as client:
        client.talk(b"".join(b"set %s 0 0 20000\r\n%s\r\n" % (key, value_of(key, 20000))
                             for key in keys),
                    b"STORED\r\n" * count)
    server.restart()
    server.faults["cold"] = 1
    return keys


@pytest.mark.parametrize("first", [1, 4])
@pytest.mark.parametrize("times", [1, FOREVER])
@pytest.mark.parametrize("error", ["EPERM", "EINVAL", "ENOSYS", "EBUSY", "EAGAIN"])
def test_values_are_read_by_threads_where_a_ring_is_refused(error, times, first):
    server = FailingServer("-t", "1", "--segment-size=1m")
    server.start_failing()
    keys = read_cold_values(server, 100)
    server.faults.arm("ring", first, times, getattr(errno, error))
    with server.connect() as client:
        for key in keys[:10]:
            assert client.get(key) == value_of(key, 20000)
        found = client.gets(*keys[10:])
        assert {key: value[0]
                for key, value in found.items()} == {key: value_of(key, 20000) for key in keys[10:]}
        if not server.faults["calls"]:
            pytest.skip("there is no io_uring here")
    # One that is refused is not asked again, but for what may change with the next read that ends.
    assert (server.faults["failed"] == 1 or
            (error in ("EBUSY", "EAGAIN") and server.faults["failed"] < len(keys)))
    assert server.log().count("io_uring refuses reads (%s)"
                              % os.strerror(getattr(errno, error))) <= 1
    if error == "EPERM":
        assert "io_uring refuses reads" in server.log()
        assert server.faults["calls"] == first
    server.assert_idle(0.2)
    server.stop()


@pytest.mark.parametrize("times", [1, FOREVER])
@pytest.mark.parametrize("error", ["EPERM", "EINVAL", "ENOSYS", "EBUSY"])
def test_each_client_has_calls_of_its_own_where_a_ring_is_refused(error, times):
    server = FailingServer("-t", "1")
    server.start_failing()
    server.faults.arm("socket_ring", 2, times, getattr(errno, error))
    clients = [server.connect() for _ in range(20)]
    for turn in range(20):
        for number, client in enumerate(clients):
            client.send(b"set k%d 0 0 2\r\n%02d\r\nget k%d\r\n" % (number, turn, number))
        for number, client in enumerate(clients):
            client.expect(b"STORED\r\nVALUE k%d 0 2\r\n%02d\r\nEND\r\n" % (number, turn))
    if not server.faults["calls"]:
        pytest.skip("there is no io_uring here")
    assert server.faults["failed"] <= 1
    server.stop()


# A disk that stands still

def store_stat(client, name):
    return int(client.stats("store")[name])


def write_until_held(client):
    """Sets one key after the other until there is no answer. Returns how many were answered."""
    client.socket.settimeout(0.5)
    answered = 0
    with pytest.raises(AssertionError, match="no answer"):
        while answered < 2000:
            client.set(b"k%d" % answered, b"x")
            answered += 1
            time.sleep(0.005)
    client.socket.settimeout(support.TIMEOUT)
    return answered


def test_writers_wait_for_a_disk_that_stands_still_and_readers_do_not():
    """The data that a loss of power may cost is bounded by --sync, and only the syncer waits for
    the disk."""
    server = FailingServer("-t", "1")
    server.start_failing()
    with server.connect() as reader, server.connect() as writer, server.connect() as other:
        reader.set(b"here", b"value")
        server.faults["standing"] = 1
        answered = write_until_held(writer)
        assert answered > 10
        lag = store_stat(reader, "lsn") - store_stat(reader, "lsn_synced")
        other.send(b"delete here\r\n")
        for _ in range(100):
            assert reader.get(b"here") == b"value"
        assert other.rest() == b""
        assert store_stat(reader, "lsn") - store_stat(reader, "lsn_synced") == lag
        server.assert_idle(0.5)
        server.faults["standing"] = 0
        assert writer.line() == b"STORED\r\n" and other.line() == b"DELETED\r\n"
        wait_until(lambda: store_stat(reader, "lsn") == store_stat(reader, "lsn_synced"),
                   "the sync")
        assert store_stat(reader, "sync_held_us") > 500000
    assert re.search(r"the disk needs \d+\.\d\d s for a sync and cannot keep --sync=1: ",
                     server.log())
    assert "clients write more" not in server.log()
    server.kill9()
    server.start_whole()
    with server.connect() as client:
        assert len(client.gets(*[b"k%d" % i for i in range(answered + 1)])) == answered + 1
        assert client.get(b"here") is None


def test_a_disk_whose_syncs_take_the_whole_window_is_written_to_all_the_same():
    """Writers run for a window, and then wait for a sync or two: it is not one write for each
    client and sync."""
    server = FailingServer("-t", "1", "--sync=0.5")
    server.start_failing()
    clients, enough = 8, threading.Event()
    counts = [0] * clients
    server.faults["sync_us"] = 500000

    def write(number):
        with server.connect() as client:
            while not enough.is_set():
                client.set(b"k%d" % number, b"x")
                counts[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    with server.connect() as client:
        wait_until(lambda: store_stat(client, "sync_held_us") > 0,
                   "writers were held and are let go")
        before, end = sum(counts), store_stat(client, "syncs") + 6
        wait_until(lambda: store_stat(client, "syncs") >= end, "6 syncs")
        written = sum(counts) - before
        enough.set()
        server.faults["sync_us"] = 0
        for thread in threads:
            thread.join()
    print("%d writes in 6 syncs" % written)
    assert written > 6 * clients * 5
    assert server.log().count("for a sync and cannot keep --sync=0.5: writes wait for it") == 1


def test_without_syncs_no_writer_waits_for_the_disk():
    server = FailingServer("-t", "1", "--sync=none")
    server.start_failing()
    with server.connect() as client:
        server.faults["standing"] = 1
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            client.set(b"key", b"x")
        server.faults["standing"] = 0


# The end

def fill_unsynced(server, mib):
    """So many MiB that no sync has seen."""
    with server.connect() as client:
        for n in range(mib):
            client.set(b"much-%d" % n, value_of(b"much-%d" % n, 1000000))


@pytest.mark.seconds(120)
def test_an_end_that_has_much_to_sync_says_how_much():
    server = FailingServer("-t", "1", "--sync=none", "--segment-size=4m")
    server.start_failing()
    fill_unsynced(server, 40)
    server.faults["sync_us"] = 700000
    server.process.terminate()
    status, said = server.wait_for_exit(timeout=60)
    lines = said.split("\n")[1:]
    print(said)
    assert status == 0 and lines[-2:] == ["stopped cleanly, all synced", ""]
    assert re.fullmatch(r"stopping: up to (3[89]|4\d) MiB are still to be synced", lines[0])
    left = [int(re.fullmatch(r"stopping: (\d+) of (?:3[89]"
                             r"|4\d) MiB are still to be synced, in about \d+ s", line).group(1))
            for line in lines[1:-2]]
    assert left and left == sorted(left, reverse=True)


def test_a_second_signal_ends_what_waits_for_the_disk():
    server = FailingServer("-t", "1", "--sync=none")
    server.start_failing()
    fill_unsynced(server, 2)
    server.faults["standing"] = 1
    deadline = time.monotonic() + support.TIMEOUT
    while server.process.poll() is None:
        assert time.monotonic() < deadline, "it does not end"
        server.process.terminate()
        time.sleep(0.1)
    status, said = server.wait_for_exit()
    assert (status == 1 and
            "ended at once: what was answered is written, but not all of it is synced\n" in said)
    assert "stopped cleanly" not in said
    server.start_whole()
    with server.connect() as client:
        assert client.get(b"much-1") == value_of(b"much-1", 1000000)


def test_signals_that_come_together_are_one():
    """A shell sends one to the whole group, and what has started the server passes its own on."""
    server = FailingServer("-t", "1", "--sync=none")
    server.start_failing()
    fill_unsynced(server, 2)
    server.faults["standing"] = 1
    begin = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    server.process.terminate()
    together = time.monotonic() - begin < 0.9
    server.faults["standing"] = 0
    status, said = server.wait_for_exit()
    assert not together or (status == 0 and "stopped cleanly, all synced" in said)


@pytest.mark.parametrize("sync", ["none", "60"])
def test_an_end_that_cannot_sync_says_so(sync):
    server = FailingServer("-t", "1", "--sync=" + sync)
    server.start_failing()
    fill_unsynced(server, 2)
    server.faults.arm("change", times=FOREVER)
    server.process.terminate()
    status, said = server.wait_for_exit()
    assert status == 1 and "stopped cleanly" not in said
    assert re.search(r"error: stopped, but not synced: the disk refuses it\. Up to 19\d\d KiB",
                     said)
    server.start_whole()
    with server.connect() as client:
        assert client.get(b"much-1") == value_of(b"much-1", 1000000)


@pytest.mark.parametrize("how", ["signal", "command"])
def test_an_end_after_the_disk_has_failed_says_so(how):
    """With the default of --sync: the syncer has met it first, and the store is read-only by
    then."""
    server = FailingServer("-t", "1", "-A")
    server.start_failing()
    server.faults.arm("sync", times=FOREVER, error=errno.EROFS)
    fill_unsynced(server, 1)
    wait_until(lambda: "the store is read-only" in server.log(), "the syncer meets it")
    with server.connect() as client:
        if how == "command":
            client.send(b"shutdown\r\n")
        else:
            server.process.terminate()
        status, said = server.wait_for_exit()
    assert status == 1 and "stopped cleanly" not in said
    assert re.search(r"error: stopped, but not synced: the disk refuses it\. Up to \d+ KiB", said)


def test_hint_files_that_cannot_be_written_are_told_once_and_counted():
    server = FailingServer("-t", "1", "--sync=none", "-m", "8", "--segment-size=64k")
    server.start_failing()
    server.faults.arm("hint", times=FOREVER)
    with server.connect() as client:
        for n in range(60):
            client.set(b"k-%d" % n, value_of(b"k", 50000))
    wait_until(lambda: server.faults["failed"] > 10, "hint files are missing")
    server.process.terminate()
    _, said = server.wait_for_exit()
    assert said.count("cannot make the hint file of segment") == 1
    assert int(re.search(r"^(\d+) hint files could not be written", said,
                         re.M).group(1)) == server.faults["failed"]
