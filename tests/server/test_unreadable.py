"""Values that cannot be read, and a log that takes no writes: each command gets one answer, soon,
and changes nothing.

Only a key that was not found is absent. All commands that look at a value are tried here, in all
three protocols, loud and quiet, each on a key of its own, which must be as it was when the disk
works again."""
import errno
import os
import random

import pymemcache
import pytest
from pymemcache.exceptions import MemcacheServerError

import binary
import support
from binary import ask, count, packet, store, talk, until
from support import value_of, wait_until
from test_dump import metadump
from test_failing_calls import FOREVER, FailingServer, can_write
from test_udp import Udp

UNREADABLE = b"SERVER_ERROR cannot read the value from disk\r\n"
REFUSED = b"SERVER_ERROR the disk refuses writes\r\n"
# Of one command: is it at hand, and the reader's; and as many if the segment's hints are made just
# then
READS = 4

# Commands that look at the value of %(k)s; its CAS unique is %(c)s.
TEXT = {
    "get": b"get %(k)s\r\n",
    "gets": b"gets %(k)s\r\n",
    "gat": b"gat 100 %(k)s\r\n",
    "gats": b"gats 100 %(k)s\r\n",
    "cas": b"cas %(k)s 1 0 1 %(c)s\r\nx\r\n",
    "cas other": b"cas %(k)s 1 0 1 1\r\nx\r\n",
    "append": b"append %(k)s 0 0 1\r\nx\r\n",
    "prepend": b"prepend %(k)s 0 0 1\r\nx\r\n",
    "incr": b"incr %(k)s 1\r\n",
    "decr": b"decr %(k)s 1\r\n",
    "mg": b"mg %(k)s v\r\n",
    "mg q": b"mg %(k)s q v Oabc\r\n",
    "mg without its value": b"mg %(k)s t s c\r\n",
    "mg u": b"mg %(k)s u v\r\n",
    "mg N": b"mg %(k)s N0 v\r\n",
    "mg N E": b"mg %(k)s N0 E77 v\r\n",
    "mg T": b"mg %(k)s T100 v\r\n",
    "mg R": b"mg %(k)s R1000 v\r\n",
    "mg C": b"mg %(k)s C%(c)s v\r\n",
    "ms A": b"ms %(k)s 1 MA\r\nx\r\n",
    "ms A N": b"ms %(k)s 1 MA N0\r\nx\r\n",
    "ms P q": b"ms %(k)s 1 MP q\r\nx\r\n",
    "ms C": b"ms %(k)s 1 C%(c)s\r\nx\r\n",
    "ms C q": b"ms %(k)s 1 C%(c)s q\r\nx\r\n",
    "ms C I": b"ms %(k)s 1 C1 I\r\nx\r\n",
    "ms C E": b"ms %(k)s 1 C%(c)s ME\r\nx\r\n",
    "ms C R": b"ms %(k)s 1 C%(c)s MR\r\nx\r\n",
    "md C": b"md %(k)s C%(c)s\r\n",
    "md C q": b"md %(k)s C%(c)s q\r\n",
    "md I": b"md %(k)s I\r\n",
    "md I T": b"md %(k)s I T100\r\n",
    "md x": b"md %(k)s x\r\n",
    "ma": b"ma %(k)s\r\n",
    "ma q": b"ma %(k)s q\r\n",
    "ma N": b"ma %(k)s N0 J5\r\n",
    "ma N q v": b"ma %(k)s N0 J5 q v\r\n",
    "ma D": b"ma %(k)s MD T100\r\n",
    "ma C": b"ma %(k)s C%(c)s\r\n",
    "me": b"me %(k)s\r\n",
}
SILENT = {
    "cas noreply": b"cas %(k)s 1 0 1 %(c)s noreply\r\nx\r\n",
    "append noreply": b"append %(k)s 0 0 1 noreply\r\nx\r\n",
    "prepend noreply": b"prepend %(k)s 0 0 1 noreply\r\nx\r\n",
    "incr noreply": b"incr %(k)s 1 noreply\r\n",
    "decr noreply": b"decr %(k)s 1 noreply\r\n",
}
BINARY = {
    "get": lambda k, c: packet(binary.GET, k),
    "getq": lambda k, c: packet(binary.GETQ, k),
    "getk": lambda k, c: packet(binary.GETK, k),
    "getkq": lambda k, c: packet(binary.GETKQ, k),
    "touch": lambda k, c: until(binary.TOUCH, k, 100),
    "gat": lambda k, c: until(binary.GAT, k, 100),
    "gatq": lambda k, c: until(binary.GATQ, k, 100),
    "gatk": lambda k, c: until(binary.GATK, k, 100),
    "gatkq": lambda k, c: until(binary.GATKQ, k, 100),
    "set with cas": lambda k, c: store(binary.SET, k, b"x", cas=c),
    "setq with cas": lambda k, c: store(binary.SETQ, k, b"x", cas=c),
    "replace with cas": lambda k, c: store(binary.REPLACE, k, b"x", cas=c),
    "replaceq with cas": lambda k, c: store(binary.REPLACEQ, k, b"x", cas=c),
    "append": lambda k, c: packet(binary.APPEND, k, value=b"x"),
    "appendq": lambda k, c: packet(binary.APPENDQ, k, value=b"x"),
    "prepend": lambda k, c: packet(binary.PREPEND, k, value=b"x"),
    "prependq": lambda k, c: packet(binary.PREPENDQ, k, value=b"x"),
    "append with cas": lambda k, c: packet(binary.APPEND, k, value=b"x", cas=c),
    "incr": lambda k, c: count(binary.INCR, k),
    "incrq": lambda k, c: count(binary.INCRQ, k, initial=7),
    "decr": lambda k, c: count(binary.DECR, k, exptime=binary.DO_NOT_CREATE),
    "decrq": lambda k, c: count(binary.DECRQ, k),
    "delete with cas": lambda k, c: packet(binary.DELETE, k, cas=c),
    "deleteq with cas": lambda k, c: packet(binary.DELETEQ, k, cas=c),
}
# Those that a log which takes no writes refuses, wherever the value lies.
WRITES = {
    "set": b"set %(k)s 0 0 1\r\nx\r\n",
    "set of a large value": b"set %(k)s 0 0 300000\r\n" + bytes(300000) + b"\r\n",
    "set of what is too large": b"set %(k)s 0 0 3000000\r\n" + bytes(3000000) + b"\r\n",
    "add": b"add %(n)s 0 0 1\r\nx\r\n",
    "replace": b"replace %(k)s 0 0 1\r\nx\r\n",
    "delete": b"delete %(k)s\r\n",
    "touch": b"touch %(k)s 100\r\n",
    "gat": TEXT["gat"],
    "cas": TEXT["cas"],
    "append": TEXT["append"],
    "incr": TEXT["incr"],
    "flush_all": b"flush_all\r\n",
    "flush_all later": b"flush_all 100\r\n",
    "mg N": b"mg %(n)s N0 v\r\n",
    "mg T": TEXT["mg T"],
    "ms": b"ms %(k)s 1\r\nx\r\n",
    "ms E": b"ms %(n)s 1 ME\r\nx\r\n",
    "ms A N": b"ms %(n)s 1 MA N0\r\nx\r\n",
    "ms C": TEXT["ms C"],
    "ms C I": TEXT["ms C I"],
    "ms C E": b"ms %(n)s 1 C5 ME\r\nx\r\n",
    "md": b"md %(k)s q\r\n",
    "md C": TEXT["md C"],
    "md I": TEXT["md I"],
    "md x": TEXT["md x"],
    "ma": TEXT["ma"],
    "ma N": b"ma %(n)s N0 J5 q\r\n",
}


def keys_for(names):
    return {name: b"key-%d" % number for number, name in enumerate(names)}


def key_of(line, key, unique):
    return line % {b"k": key, b"c": b"%d" % unique, b"n": b"new-" + key}


class Unreadable:
    """A server with a cold key for each name, which cannot be read while the disk fails."""

    def __init__(self, names, *options):
        self.server = FailingServer("-t", "1", "-I", "2m", "--no-uring", *options)
        self.keys = keys_for(names)
        self.server.start_failing()
        with self.server.connect() as client:
            for key in [b"a", b"b", b"unreadable", *self.keys.values()]:
                client.set(key, b"10", flags=3)
            self.before = client.gets(b"unreadable", *self.keys.values())
        self.server.restart()
        wait_until(self.are_hot, "a and b in memory")
        self.fail()

    def are_hot(self):
        """The cache gets its pages from a thread that has only just begun."""
        with self.server.connect() as client:
            before = client.stats("store")["disk_hits"]
            assert len(client.gets(b"a", b"b")) == 2
            return client.stats("store")["disk_hits"] == before

    def fail(self):
        self.server.faults.arm("read", times=FOREVER)

    def assert_few_reads(self, name):
        failed = self.server.faults["failed"]
        assert 0 < failed <= READS, "%s: %d reads" % (name, failed)
        self.fail()

    def assert_unchanged(self):
        self.server.faults.mend()
        for _ in range(2):
            with self.server.connect() as client:
                assert client.gets(*self.before) == self.before
                for key in self.before:
                    client.talk(b"mg %s t\r\n" % key, b"HD t-1\r\n")
            self.server.restart("kill9")


def test_every_command_of_text_on_a_value_that_cannot_be_read():
    disk = Unreadable([*TEXT, *SILENT])
    with disk.server.connect() as client:
        for name, line in TEXT.items():
            key = disk.keys[name]
            client.talk(key_of(line, key, disk.before[key][2]), UNREADABLE)
            client.talk(b"version\r\nget a\r\n", b"VERSION ")
            client.line()
            client.expect(b"VALUE a 3 2\r\n10\r\nEND\r\n")
            disk.assert_few_reads(name)
        for name, line in SILENT.items():
            key = disk.keys[name]
            client.send(key_of(line, key, disk.before[key][2]))
            client.expect_nothing()
            disk.assert_few_reads(name)
        # What need not look at it goes on, and a write without a condition mends the key.
        client.talk(b"add unreadable 0 0 1\r\nx\r\ntouch unreadable 0\r\n",
                    b"NOT_STORED\r\nTOUCHED\r\n")
        client.talk(b"set new 0 0 1\r\nx\r\nget new\r\n",
                    b"STORED\r\nVALUE new 0 1\r\nx\r\nEND\r\n")
    stats = disk.server.stats()
    assert [stats[name] for name in ("get_misses", "incr_misses", "cas_misses", "touch_misses",
                                     "delete_misses")] == [
str(len(SILENT)), "0", "0", "0", "0"]
    disk.assert_unchanged()
    assert disk.server.stats("store")["corrupt_records"] == "0"


def test_every_command_of_binary_on_a_value_that_cannot_be_read():
    disk = Unreadable(BINARY)
    with disk.server.connect() as client:
        for name, make in BINARY.items():
            key = disk.keys[name]
            request = make(key, disk.before[key][2])
            assert talk(client, request) == [
                binary.Answer(request[1], 0x84, b"", b"", b"Cannot read the value from disk", 0,
                              0xDECAFBAD)], name
            disk.assert_few_reads(name)
    disk.assert_unchanged()


def test_it_is_told_once_and_counted():
    disk = Unreadable(["one"])
    with disk.server.connect() as client:
        for _ in range(20):
            client.talk(b"get unreadable\r\n", UNREADABLE)
    assert disk.server.log().count("cannot be read") == 1 and "Check the disk" in disk.server.log()
    assert disk.server.stats("store")["read_errors"] == "20"


def test_an_error_among_several_keys_ends_the_connection():
    """Some clients wait for END, whatever comes before it; others take the error for the end of the
    answer."""
    disk = Unreadable(["one"])
    hit = b"VALUE a 3 2\r\n10\r\n"
    for line, said in ((b"get a unreadable b\r\n", hit + UNREADABLE),
                       (b"get a a unreadable\r\n", hit * 2 + UNREADABLE),
                       (b"gat 0 unreadable a\r\n", UNREADABLE)):
        with disk.server.connect() as client:
            client.talk(line + b"get a\r\n", said)
            client.expect_closed()
    with disk.server.connect() as client:  # those of a pipeline are each their own
        client.talk(b"get a\r\nget unreadable\r\nmg unreadable v\r\nget b\r\n",
                    hit + b"END\r\n" + UNREADABLE * 2 + b"VALUE b 3 2\r\n10\r\nEND\r\n")
    disk.assert_unchanged()


def test_a_quiet_pipeline_of_binary_stays_in_step():
    disk = Unreadable(["one"])
    with disk.server.connect() as client:
        answers = talk(client, *(packet(binary.GETKQ, key, opaque=number) for number, key in
                                 enumerate((b"a", b"unreadable", b"none", b"b", b"unreadable"))))
        assert [(answer.opaque, answer.status)
                for answer in answers] == [(0, 0), (1, 0x84), (3, 0), (4, 0x84)]
    disk.assert_unchanged()


def test_a_datagram_is_answered_too():
    port = support.free_port()
    disk = Unreadable(["one"], "-U", str(port))
    udp = Udp(port)
    for _ in range(2):
        assert udp.ask(b"get unreadable\r\n") == UNREADABLE
        assert udp.ask(b"get a unreadable b\r\n") == b"VALUE a 3 2\r\n10\r\n" + UNREADABLE
        assert udp.ask(b"get a\r\n") == b"VALUE a 3 2\r\n10\r\nEND\r\n"
    udp.close()


def test_pymemcache_and_pylibmc_stay_in_step():
    pylibmc = pytest.importorskip("pylibmc")
    disk = Unreadable(["one"])
    py = pymemcache.Client(("127.0.0.1", disk.server.port), timeout=support.TIMEOUT)
    clients = [pylibmc.Client(["127.0.0.1:%d" % disk.server.port], binary=binary_too)
               for binary_too in (False, True)]
    for _ in range(3):
        for ask_for in (lambda: py.get("unreadable"), lambda: py.get_many(["a", "unreadable", "b"]),
                        lambda: py.incr("unreadable", 1)):
            with pytest.raises(MemcacheServerError):
                ask_for()
            assert py.get("a") == b"10" and py.get_many(["b", "a"]) == {"a": b"10", "b": b"10"}
        for client in clients:
            for ask_for in (lambda: client.get("unreadable"),
                            lambda: client.get_multi(["a", "unreadable", "b"])):
                try:
                    found = ask_for()
                    assert not found or "unreadable" not in found
                except pylibmc.Error:
                    pass
    disk.assert_unchanged()


def test_nothing_is_read_for_a_client_that_has_left():
    disk = Unreadable(TEXT)
    for name, line in TEXT.items():
        with disk.server.connect() as client:
            key = disk.keys[name]
            client.send(key_of(line, key, disk.before[key][2]))
    with disk.server.connect() as client:
        client.talk(b"get unreadable\r\n", UNREADABLE)
    disk.server.assert_idle(0.5)
    assert disk.server.faults["failed"] <= READS * (len(TEXT) + 1)
    disk.assert_unchanged()


def test_a_value_that_is_replaced_while_its_read_fails_is_the_new_one():
    """Of a pipeline, whose gets are read ahead."""
    disk = Unreadable(["one"])
    with disk.server.connect() as client:
        client.talk(b"get unreadable\r\nset key-0 0 0 3\r\nnew\r\nget key-0\r\ndelete key-0\r\n"
                    b"get key-0\r\n",
                    UNREADABLE + b"STORED\r\nVALUE key-0 0 3\r\nnew\r\nEND\r\nDELETED\r\nEND\r\n")


# Bad blocks: of one file a page cannot be read, all else can

BLOCK = 4096
BLOCKS_KEYS = [b"key-%d" % number for number in range(300)]  # of 500 bytes: some segments
IN_A_BLOCK = BLOCK // 500 + 2


class BadBlock:
    def __init__(self, *options):
        self.server = FailingServer("-t", "1", "--no-uring", "-M", "--segment-size=64k", *options)
        self.server.start_failing()
        with self.server.connect() as client:
            for key in BLOCKS_KEYS:
                client.set(key, value_of(key, 500))

    def segments(self):
        names = sorted(name for name in os.listdir(self.server.data_dir) if name.endswith(".seg"))
        return [path for path in (os.path.join(self.server.data_dir, name) for name in names)
                if self.is_used(path)]

    @staticmethod
    def is_used(path):
        with open(path, "rb") as file:
            return file.read(8) == b"CCASKSEG"

    def found(self):
        """The keys that are there; no value is wrong."""
        with self.server.connect() as client:
            values = client.gets(*BLOCKS_KEYS)
        assert all(value == value_of(key, 500) for key, (value, _, _) in values.items())
        return set(values)


@pytest.mark.parametrize("number, block", [(0, 0), (0, 2), (1, 15), (-1, 0), (-1, 1)])
def test_a_start_goes_on_without_a_bad_block(number, block):
    disk = BadBlock()
    disk.server.kill9()
    path = disk.segments()[number]
    name = os.path.basename(path)
    hint = path.replace(".seg", ".hint")
    if os.path.exists(hint):
        os.unlink(hint)
    disk.server.faults.spoil(path, block * BLOCK, (block + 1) * BLOCK)
    lost = None
    for _ in range(2):
        disk.server.start_failing()
        assert disk.server.faults["failed"] > 0
        missing = set(BLOCKS_KEYS) - disk.found()
        assert 0 < len(missing) <= (65536 // 500 if block == 0 else IN_A_BLOCK)
        assert lost in (None, missing)
        lost = missing
        assert disk.server.log().count(name) == 1 and "cannot be read" in disk.server.log()
        assert disk.server.stats("store")["corrupt_records"] == "1"
        with disk.server.connect() as client:
            client.set(b"new", b"written")
        disk.server.kill9()
        assert os.path.exists(path)
    disk.server.faults.mend()
    disk.server.start_failing()
    assert disk.found() == set(BLOCKS_KEYS)
    with disk.server.connect() as client:
        assert client.get(b"new") == b"written"


def test_a_start_without_the_file_store_names_it():
    disk = BadBlock()
    disk.server.stop()
    disk.server.faults.spoil(os.path.join(disk.server.data_dir, "store"))
    assert not disk.server.launch_failing()
    status, said = disk.server.wait_for_exit()
    assert status > 0 and "the file `store`" in said and "Input/output error" in said
    disk.server.faults.mend()
    disk.server.start_failing()
    assert disk.found() == set(BLOCKS_KEYS)


def test_a_bad_block_at_run_time_costs_what_is_in_it():
    disk = BadBlock()
    disk.server.restart()
    path = disk.segments()[0]
    disk.server.faults.spoil(path, 2 * BLOCK, 3 * BLOCK)
    lost = set()
    with disk.server.connect() as client:
        for key in BLOCKS_KEYS:
            client.send(b"get %s\r\n" % key)
            answer = client.line()
            if answer == UNREADABLE:
                lost.add(key)
            else:
                assert answer == b"VALUE %s 0 500\r\n" % key
                client.expect(value_of(key, 500) + b"\r\nEND\r\n")
        assert 0 < len(lost) <= IN_A_BLOCK
        for key in lost:
            client.talk(b"mg %s v\r\nadd %s 0 0 1\r\nx\r\n" % (key, key),
                        UNREADABLE + b"NOT_STORED\r\n")
        listed = [key for key, _ in metadump(client)]
        assert len(listed) == len(set(listed)) and set(BLOCKS_KEYS) - set(listed) <= lost
    with disk.server.connect() as client:
        for key in BLOCKS_KEYS:
            assert ask(client, packet(binary.GET, key)).status == (0x84 if key in lost else 0)
    log = disk.server.log()
    assert (log.count(" cannot be read at byte") == 1 and
            log.count("keys may be missing in a listing") == 1)
    assert disk.server.stats("store")["read_errors"] == str(3 * len(lost))
    disk.server.faults.mend()
    assert disk.found() == set(BLOCKS_KEYS)


# A log that takes no writes

def refuse_writes(server):
    server.faults.arm("write", times=FOREVER)
    with server.connect() as client:
        client.talk(b"set k 0 0 1\r\nx\r\n", REFUSED)
        client.expect_closed()
    wait_until(lambda: server.stats("store")["read_only"] == "1", "read-only")


@pytest.mark.parametrize("where", ["in memory", "on disk"])
def test_every_command_that_writes_is_refused_by_a_log_that_takes_no_writes(where):
    disk = Unreadable(WRITES)
    disk.server.faults.mend()
    with disk.server.connect() as client:
        if where == "in memory":
            client.gets(*disk.keys.values())
        refuse_writes(disk.server)
        for name, line in WRITES.items():
            key = disk.keys[name]
            client.talk(key_of(line, key, disk.before[key][2]), REFUSED)
            client.talk(b"get a\r\n", b"VALUE a 3 2\r\n10\r\nEND\r\n")
        for name in ("getq", "gat", "setq with cas", "appendq", "incr", "deleteq with cas",
                     "touch"):
            with disk.server.connect() as other:
                request = BINARY[name](b"unreadable", disk.before[b"unreadable"][2])
                answer = ask(other, request)
                assert answer.status == (0 if name == "getq" else 0x84), name
                assert answer.value in ((b"10",) if name == "getq"
                                        else (b"The disk refuses writes",)), name
        # Where nothing can be noted a get goes on without it.
        client.talk(b"mg unreadable R1000 v\r\nmg none v\r\n", b"VA 2\r\n10\r\nEN\r\n")
    disk.server.faults.mend()
    wait_until(lambda: can_write(disk.server), "writing again")
    disk.assert_unchanged()


def test_a_value_that_is_not_written_yet_and_cannot_be_is_an_error():
    """Too large for the cache, it would have to be read from the file, which does not have it."""
    server = FailingServer("-t", "1", "-m", "1", "--no-uring")
    server.start_failing()
    value = value_of(b"large", 100000)
    server.faults.arm("write", times=FOREVER)
    with server.connect() as client:
        client.talk(b"set large 0 0 %d\r\n%s\r\n" % (len(value), value), REFUSED)
        client.expect_closed()
    with server.connect() as client:
        for line in (b"get large\r\n", b"mg large v N0\r\n", b"ma large N0 J5\r\n",
                     b"ms large 1 MA N0\r\nx\r\n", b"incr large 1\r\n",
                     b"ms large 1 ME C5\r\nx\r\n"):
            client.talk(line, REFUSED)
            client.talk(b"mn\r\n", b"MN\r\n")
    server.assert_idle(0.3)
    server.faults.mend()
    wait_until(lambda: can_write(server), "writing again")
    with server.connect() as client:
        assert client.get(b"large") == value


def test_a_damaged_record_on_a_log_that_takes_no_writes_is_an_error_and_then_a_miss():
    server = FailingServer("-t", "1", "--no-uring")
    server.start_failing()
    value = value_of(b"bad", 1000)
    with server.connect() as client:
        client.set(b"bad", value)
    server.stop()
    for name in os.listdir(server.data_dir):
        if name.endswith(".seg"):
            with open(os.path.join(server.data_dir, name), "r+b") as file:
                at = file.read().find(value)
                if at >= 0:
                    file.seek(at + 500)
                    file.write(b"!")
    server.start()
    refuse_writes(server)
    with server.connect() as client:
        for line in (b"get bad\r\n", b"mg bad v N0\r\n", b"ma bad N0 J5\r\n",
                     b"ms bad 1 MA N0\r\nx\r\n", b"incr bad 1\r\n",
                     b"ms bad 1 ME C5\r\nx\r\n", b"gat 5 bad\r\n"):
            client.talk(line, UNREADABLE)
            client.talk(b"mn\r\n", b"MN\r\n")
        assert client.stats("store")["corrupt_records"] == "0"
    server.faults.mend()
    wait_until(lambda: can_write(server), "writing again")
    with server.connect() as client:
        client.talk(b"ma bad N0 J5 v\r\n", b"VA 1\r\n5\r\n")
        assert client.stats("store")["corrupt_records"] == "1"
    assert server.log().count("is damaged") == 1


# A full store

FULL = b"SERVER_ERROR out of memory storing object\r\n"
ABSENT = (b"END\r\n", b"NOT_FOUND\r\n", b"NOT_STORED\r\n", b"EXISTS\r\n", b"EN\r\n", b"NF\r\n",
          b"NS\r\n", b"EX\r\n")

# On a key that is there: each writes a record, of which a full store takes only so many. %(t)d is
# another time each time.
ON_A_FULL_STORE = {
    "touch": b"touch %(k)s %(t)d\r\n",
    "gat": b"gat %(t)d %(k)s\r\n",
    "gats": b"gats %(t)d %(k)s\r\n",
    "mg T": b"mg %(k)s T%(t)d v\r\n",
    "mg T q": b"mg %(k)s T%(t)d q\r\n",
    "mg T N": b"mg %(k)s T%(t)d N0 t\r\n",
    "md I": b"md %(k)s I\r\n",
    "md I T": b"md %(k)s I T%(t)d\r\n",
    "ma T": b"ma %(k)s T%(t)d\r\n",
    "ma": b"ma %(k)s\r\n",
    "ma N": b"ma %(k)s N0 J5\r\n",
    "incr": b"incr %(k)s 1\r\n",
    "decr": b"decr %(k)s 1\r\n",
    "append": b"append %(k)s 0 0 20\r\n12345678901234567890\r\n",
    "prepend": b"prepend %(k)s 0 0 20\r\n12345678901234567890\r\n",
    "ms A": b"ms %(k)s 20 MA\r\n12345678901234567890\r\n",
    "ms P N": b"ms %(k)s 20 MP N0\r\n12345678901234567890\r\n",
    "replace": b"replace %(k)s 0 0 2\r\n12\r\n",
    "set": b"set %(k)s 0 0 2\r\n12\r\n",
    "ms R": b"ms %(k)s 2 MR\r\n12\r\n",
}
BINARY_ON_A_FULL_STORE = {
    "touch": lambda k, t: until(binary.TOUCH, k, t),
    "gat": lambda k, t: until(binary.GAT, k, t),
    "gatq": lambda k, t: until(binary.GATQ, k, t),
    "gatk": lambda k, t: until(binary.GATK, k, t),
    "gatkq": lambda k, t: until(binary.GATKQ, k, t),
    "incr": lambda k, t: count(binary.INCR, k),
    "incrq": lambda k, t: count(binary.INCRQ, k, initial=7),
    "append": lambda k, t: packet(binary.APPEND, k, value=b"x" * 20),
    "appendq": lambda k, t: packet(binary.APPENDQ, k, value=b"x" * 20),
    "replace": lambda k, t: store(binary.REPLACE, k, b"12"),
}
TURNS = 100


def full_store():
    """Filled up to its limit: it takes what does not grow, touches too. Returns it, and how many
    keys it has."""
    server = support.Server("-m", "64", "-M", "--segment-size=64k", "--disk-limit=4m")
    count = 0
    with server.connect() as client:
        while True:
            said = store_some(client, count)
            if FULL in said:
                return server, count
            count += said.count(b"STORED")


def full_disk():
    """No segment can be made any more: it takes nothing but deletions, once the segments are full
    that are there."""
    server = FailingServer("-t", "1", "-m", "64", "-M", "--segment-size=64k", "--disk-limit=64m")
    server.start_failing()
    with server.connect() as client:
        assert FULL not in store_some(client, 0)
    server.faults.arm("allocate", times=FOREVER, error=errno.ENOSPC)
    return server, 1000


def store_some(client, first):
    client.send(b"".join(b"set %d 0 0 20\r\n%-20d\r\n" % (number, 10)
                         for number in range(first, first + 1000)) + b"mn\r\n")
    return client.read_until(b"MN\r\n")


def meet(make, commands, growing, ask_for):
    """Each command on another of many keys, until all that a full store refuses have been."""
    server, count = make()
    names, chosen = list(commands), random.Random(1)
    wanted = set(names) if make == full_disk else growing
    refused = set()
    with server.connect() as client:
        for turn in range(TURNS):
            keys = [b"%d" % chosen.randrange(count) for _ in range(50 * len(names))]
            for name, was_refused in zip(names * 50,
                                         ask_for(client, [commands[name] for name in names] * 50,
                                                 keys, 5000 + turn)):
                if was_refused:
                    refused.add(name)
            if wanted <= refused:
                break
    with server.connect() as client:
        client.talk(b"touch none 0\r\n", b"NOT_FOUND\r\n")
        for number in range(count):
            client.talk(b"me %d\r\n" % number, b"ME ")
            client.line()
    assert wanted <= refused, "never refused: %s" % (wanted - refused)


@pytest.mark.parametrize("make", [full_store, full_disk])
def test_a_full_store_has_what_it_cannot_write(make):
    def ask_for(client, lines, keys, time):
        client.send(b"".join(line % {b"k": key, b"t": time} + b"mn\r\n"
                             for line, key in zip(lines, keys)))
        for line, key in zip(lines, keys):
            answer = client.read_until(b"MN\r\n")[:-4]
            assert answer not in ABSENT, (line, key)
            yield answer == FULL

    meet(make, ON_A_FULL_STORE, {"append", "prepend", "ms A", "ms P N"}, ask_for)


@pytest.mark.parametrize("make", [full_store, full_disk])
def test_a_full_store_tells_binary_clients_too(make):
    def ask_for(client, makers, keys, time):
        client.send(b"".join(make(key, time) + packet(binary.NOOP)
                             for make, key in zip(makers, keys)))
        for key in keys:
            answer = binary.receive(client)
            quiet = answer.opcode == binary.NOOP
            assert answer.status in (binary.OK, 0x82, binary.NON_NUMERIC), (key, answer)
            assert quiet or binary.receive(client).opcode == binary.NOOP
            yield answer.status == 0x82

    meet(make, BINARY_ON_A_FULL_STORE, {"append", "appendq"}, ask_for)
