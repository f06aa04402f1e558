"""Load that is meant to hurt: memory stays within what the settings allow, others are served
meanwhile, and all is well after it.

Nothing here fails for being slow. How long others wait meanwhile, and how soon new clients are let
in again, is printed (pytest -rP); only the long form takes the time that such numbers need.
"""
import multiprocessing
import threading
import time

import pytest

import binary
import support
from support import Server, value_of, wait_until
from test_limits import ROOM_MIB, room_for_files

CONNECTION_MIB = 4 / 1024  # of one that waits for the rest of a request
READER_MIB = 128 / 1024  # of one whose answers nobody reads
QUIET_S = 5 if support.LONG else 0.5


class Turns:
    """A client in a process of its own that sets and gets a key all the time, and notes how long
    that takes."""

    def __init__(self, server):
        self.pipe, theirs = multiprocessing.get_context("fork").Pipe()
        self.process = multiprocessing.get_context("fork").Process(
            target=self.run, args=(server, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, server, pipe):
        self.pipe.close()  # else the end of the parent would not be noticed
        client = server.connect()
        waits = []
        for turn in range(1 << 60):
            value = b"%d" % turn
            started = time.monotonic()
            client.set(b"bystander", value)
            assert client.get(b"bystander") == value
            waits.append(time.monotonic() - started)
            if pipe.poll(0.001):
                pipe.send(waits)
                waits = []
                if pipe.recv() == "end":
                    return

    def waits(self, word="go on"):
        """How long each turn has taken since this was last asked."""
        self.pipe.send(word)
        assert self.pipe.poll(support.TIMEOUT), "the bystander is not served"
        try:
            return sorted(self.pipe.recv())
        except EOFError:
            raise AssertionError("the bystander was not served: see its message") from None


class Bystander:
    """Whatever happens beside it, it is served. A load takes processor time itself, from the same
    cores. So another client does the same, meanwhile, with a server that nobody else uses: what the
    one waits longer than the other is the server's doing."""

    def __init__(self, server):
        self.here, self.aside = Turns(server), Turns(Server())
        time.sleep(QUIET_S)
        self.quiet = p99(self.here.waits())
        self.aside.waits()

    def tell(self, beside, word="go on"):
        """The effects of that load on it."""
        waits, aside = self.here.waits(word), p99(self.aside.waits(word))
        print("beside %s: p99 of %d turns %.2f ms, %.1f times that of a server nobody else uses, "
              "%.1f times that of before; "
              "at most %.2f ms" % (beside, len(waits), p99(waits) * 1000, p99(waits) / aside,
                                   p99(waits) / self.quiet,
                                   waits[-1] * 1000))

    def end(self, beside):
        self.tell(beside, "end")
        self.here.process.join()
        self.aside.process.join()


def p99(waits):
    return waits[len(waits) * 99 // 100]


def assert_idle(server, seconds=5 if support.LONG else 0.5):
    """The bystander's turns are all that takes processor time."""
    before, started = server.cpu_s(), time.monotonic()
    time.sleep(seconds)
    used, passed = server.cpu_s() - before, time.monotonic() - started
    print("%.2f s of processor time in %.2f s of waiting" % (used, passed))
    assert used < passed / 2


def assert_within(server, limit_mib):
    resident = server.resident_mib()
    print("%.1f MiB resident, allowed are %.1f" % (resident, limit_mib))
    assert resident < limit_mib


def answer_of(client):
    """The first word that a new client hears, or None when it was refused before it could hear
    any."""
    try:
        client.send(b"version\r\n")
        return client.line().split()[0]
    except (OSError, AssertionError):
        return None


def is_served(server):
    with server.connect() as client:
        return answer_of(client) == b"VERSION"


def assert_let_in_soon(server):
    started = time.monotonic()
    wait_until(lambda: is_served(server), "new clients are let in")
    print("the next client was served %.0f ms after the flood"
          % ((time.monotonic() - started) * 1000))


# Ten times as many connections as -c allows

def test_a_flood_of_connections_is_refused():
    allowed = min(1024, room_for_files() // 10) if support.LONG else 100
    server = Server("-c", str(allowed))
    bystander = Bystander(server)
    limit = server.resident_mib() + ROOM_MIB + allowed * CONNECTION_MIB
    for _ in range(10 if support.LONG else 3):
        clients = [server.connect() for _ in range(allowed * 10)]
        answers = [answer_of(client) for client in clients]
        assert set(answers) <= {b"VERSION", b"ERROR", None}
        assert allowed // 2 < answers.count(b"VERSION") < allowed
        assert_within(server, limit)
        for client in clients:
            client.close()
        assert_let_in_soon(server)
    bystander.end("a flood of connections that are refused")
    assert int(server.stats()["rejected_connections"]) >= allowed * 9
    wait_until(lambda: server.stats()["curr_connections"] == "1", "all have been counted out")


def test_a_flood_of_connections_waits():
    allowed = 400 if support.LONG else 100
    room_for_files()
    server = Server("-c", str(allowed), "-b", "4096", "-o", "no_maxconns_fast")
    bystander = Bystander(server)
    limit = server.resident_mib() + ROOM_MIB + allowed * CONNECTION_MIB
    clients = [server.connect() for _ in range(allowed * 10)]
    for client in clients:
        client.send(b"version\r\n")
    assert_idle(server)
    assert_within(server, limit)
    for client in clients:  # in the order in which they came
        assert client.line().startswith(b"VERSION ")
        client.close()
    assert_let_in_soon(server)
    bystander.end("a flood of connections that wait")


# Clients that send a byte now and then

def slow_request(number):
    key, value = b"slow-%d" % number, b"%010d" % number
    if number % 2:
        return binary.store(binary.SET, key, value)
    return b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)


def assert_stored(client, number):
    if number % 2:
        assert binary.receive(client).status == binary.OK
    else:
        client.expect(b"STORED\r\n")


@pytest.mark.seconds(240)
def test_a_thousand_clients_send_a_byte_a_second():
    """A second of the short form is short."""
    room_for_files()
    server = Server("-c", "1100")
    bystander = Bystander(server)
    limit = server.resident_mib() + ROOM_MIB + 1000 * CONNECTION_MIB
    clients = [server.connect() for _ in range(1000)]
    requests = [slow_request(number) for number in range(1000)]
    longest = max(map(len, requests))
    for at in range(longest):
        started = time.monotonic()
        for client, request in zip(clients, requests):
            client.send(request[at : at + 1])
        if at == longest // 2:
            assert_idle(server)
            assert_within(server, limit)
        if support.LONG:
            time.sleep(max(0, started + 1 - time.monotonic()))
    for number, client in enumerate(clients):
        assert_stored(client, number)
    assert_within(server, limit)
    bystander.end("1,000 clients that send a byte now and then")
    with server.connect() as client:
        found = client.gets(*(b"slow-%d" % number for number in range(1000)))
    assert (len(found) == 1000 and
            all(int(value) == int(key[5:]) for key, (value, _, _) in found.items()))


# Readers that stop

# So many keys, got so many times, make 100 MB; and what the server may hold for that beside the
# cache. A large value is sent from where it was read to; one that lies in a page of the cache is
# sent from there, and pinned meanwhile; small ones are copied.
ANSWERS = {"large": (1, 1, 100), "in pages": (100, 10, READER_MIB), "small": (2500, 10, READER_MIB)}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_reader_stops_in_the_middle_of_100_mb(what):
    count, times, held_mib = ANSWERS[what]
    memory = 32
    server = Server("-m", str(memory), "-I", "128m", "--disk-limit", "1g")
    keys = [b"key-%d" % n for n in range(count)]
    size = 100000000 // times // count
    write_all(server, keys, b"old", size)
    bystander = Bystander(server)
    limit = server.resident_mib() + memory + held_mib + ROOM_MIB
    reader = server.connect()
    threading.Thread(target=send_quietly, args=(reader, b"get %s\r\n" % b" ".join(keys * times)),
                     daemon=True).start()
    head = reader.read(1000000)
    assert_idle(server)
    bystander.tell("a reader that has stopped (values: %s)" % what)
    # The promised values leave the cache and the disk
    for _ in range(times * (5 if support.LONG else 1)):
        write_all(server, keys, b"new", size)
        assert_within(server, limit)
    bystander.end("somebody who writes all of it anew, meanwhile")
    reader.buffer[:0] = head
    marks = [read_whole(reader, key, size) for key in keys * times]
    reader.expect(b"END\r\n")
    print("%d old values, %d new ones" % (marks.count(b"old"), marks.count(b"new")))
    assert marks[0] == b"old" and marks == sorted(marks, reverse=True)


def read_whole(reader, key, size):
    """Which of its two values is next."""
    reader.expect(b"VALUE %s 0 %d\r\n" % (key, size))
    value = reader.read(size)
    reader.expect(b"\r\n")
    mark = value[1:4]
    assert mark in (b"old", b"new") and value == value_of(mark + key, size)
    return mark


def send_quietly(client, data):
    try:
        client.send(data)
    except OSError:
        pass  # the test has ended


def write_all(server, keys, mark, size):
    with server.connect() as client:
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            client.send(b"".join(b"set %s 0 0 %d\r\n%s\r\n"
                                 % (key, size, value_of(mark + key, size)) for key in some))
            client.expect(b"STORED\r\n" * len(some))


# Answers that nobody reads

@pytest.mark.seconds(180)
def test_a_million_pipelined_gets_nobody_reads():
    """In the end some read them all, and others leave."""
    readers, count = 50, 20000
    server = Server("-m", "32")
    value = value_of(b"k", 1000)
    with server.connect() as client:
        client.set(b"k", value)
    bystander = Bystander(server)
    limit = server.resident_mib() + ROOM_MIB + readers * READER_MIB
    clients = [server.connect() for _ in range(readers)]
    senders = [threading.Thread(target=send_quietly, args=(client, b"get k\r\n" * count),
                                daemon=True)
               for client in clients]
    for sender in senders:
        sender.start()
    wait_until(lambda: not is_writing(server), "the server sends no more")
    assert_idle(server)
    assert_within(server, limit)
    bystander.end("gets whose answers nobody reads")
    answers = b"VALUE k 0 1000\r\n%s\r\nEND\r\n" % value * 1000
    for client in clients if support.LONG else clients[:5]:
        for _ in range(count // 1000):
            assert client.read(len(answers)) == answers
        client.expect_nothing()
        client.close()
    for client in clients:
        client.close()
    assert_within(server, limit)


def is_writing(server):
    """More than the bystander makes it."""
    written = lambda: int(server.stats()["bytes_written"])
    before = written()
    time.sleep(0.2)
    return written() - before > 1 << 20
