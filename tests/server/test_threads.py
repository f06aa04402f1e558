"""Everything at once: eight clients with all kinds of writes and reads, an operator, a server small
enough that cleaner, evictor, crawler and readers are always at work. script/test runs this under
ThreadSanitizer too, which reports each access that nothing orders and each pair of locks that is
taken both ways round; in its long form for ten minutes."""
import os
import random
import threading
import time

import pytest

import support
from support import Server, value_of

SECONDS = int(os.environ.get("THREADS_SECONDS", 600 if support.LONG else 8))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
CLIENTS = 8
KEYS = 6000
# The last two are larger than this cache takes
SIZES = [0, 1, 100, 1000, 5000, 10000, 20000, 20000, 70000, 300000]
EXPIRIES = [0, 0, 0, 0, 0, 0, 1, 2, 60, -1]
AT_WORK = ("cleaner_segments", "cleaner_moved_bytes", "expired_items", "cache_items_evicted",
           "disk_reads")


class Task(threading.Thread):
    """Repeats its turn until it must stop; the test's own thread reports what went wrong."""

    def __init__(self, server, number, stop):
        super().__init__()
        self.server, self.dice, self.stop = server, random.Random(SEED + number), stop
        self.error = None

    def run(self):
        try:
            while not self.stop.is_set():
                with self.server.connect() as client:
                    self.turn(client)
        except Exception as error:
            self.error = error
            self.stop.set()


class Busy(Task):
    """A client that asks for anything. Values under keys with a k are always value_of(key)."""

    commands = values = 0

    def turn(self, client):
        for _ in range(20):
            self.ask(client)

    def ask(self, client):
        client.send(b"".join(self.command() for _ in range(25)) + b"mn\r\n")
        self.commands += 25
        while (line := client.line()) != b"MN\r\n":
            words = line.split()
            if words[0] in (b"VALUE", b"VA"):
                size = int(words[3] if words[0] == b"VALUE" else words[1])
                key = words[1] if words[0] == b"VALUE" else words[-1][1:]
                value = client.read(size + 2)[:-2]
                assert (not key.startswith(b"k") or
                        value == value_of(key, size)), "%r holds another value" % key
                self.values += 1
            assert not line.startswith(b"SERVER_ERROR"), line

    def command(self):
        dice = self.dice
        key = b"k%d" % dice.randrange(KEYS)
        other = b"%c%d" % (dice.choice(b"nst"), dice.randrange(50))
        size = dice.choice(SIZES)
        data = value_of(key, size)
        return dice.choice([
            lambda: b"set %s 0 %d %d\r\n%s\r\n" % (key, dice.choice(EXPIRIES), size, data),
            lambda: b"set %s 0 %d %d noreply\r\n%s\r\n" % (key, dice.choice(EXPIRIES), size, data),
            lambda: b"add %s 0 %d %d\r\n%s\r\n" % (key, dice.choice(EXPIRIES), size, data),
            lambda: b"ms %s %d T%d\r\n%s\r\n" % (key, size, dice.choice(EXPIRIES), data),
            lambda: b"get %s\r\n" % b" ".join(b"k%d" % dice.randrange(KEYS)
                                              for _ in range(dice.randrange(1, 8))),
            lambda: b"get %s\r\n" % key,
            lambda: b"set %s 0 0 3000\r\n%s\r\n" % (key, value_of(key, 3000)),
            lambda: b"ms %s 4000\r\n%s\r\n" % (key, value_of(key, 4000)),
            lambda: b"mg %s v k t h l\r\n" % key,
            lambda: b"gat %d %s\r\n" % (dice.choice(EXPIRIES), key),
            lambda: b"touch %s %d\r\n" % (key, dice.choice(EXPIRIES)),
            lambda: b"delete %s\r\n" % key,
            lambda: b"md %s\r\n" % key,
            lambda: b"set n%d 0 0 1\r\n5\r\n" % dice.randrange(50),
            lambda: b"incr n%d 3\r\n" % dice.randrange(50),
            lambda: b"ma n%d MD N60 v\r\n" % dice.randrange(50),
            lambda: b"append %s 0 0 3\r\nabc\r\n" % other,
            lambda: b"prepend %s 0 0 3\r\nabc\r\n" % other,
            lambda: b"set %s 0 0 2\r\nxy\r\n" % other,
            lambda: b"cas %s 0 0 2 %d\r\nxy\r\n" % (other, dice.randrange(100)),
        ])()


class Operator(Task):
    """Requests of people and programs beside the server's main work."""

    def turn(self, client):
        what = self.dice.choice([b"stats", b"stats store", b"stats settings", b"stats conns",
                                 b"stats items"])
        client.ask(what + b"\r\n", b"END\r\n")
        client.talk(b"cache_memlimit %d\r\n" % self.dice.choice([8, 9, 12]), b"OK\r\n")
        if self.dice.random() < 0.2:
            client.ask(b"lru_crawler metadump all\r\n", b"END\r\n")
        if self.dice.random() < 0.02:
            client.talk(b"flush_all %d\r\n" % self.dice.choice([0, 1]), b"OK\r\n")
        support.forget_page_cache(self.server)
        self.stop.wait(0.05)


def idle(server):
    """Which parts have had nothing to do. On a slow disk clients come to little in a few seconds,
    and a flush_all leaves the cleaner nothing to move."""
    store = server.stats("store")
    return [counter for counter in AT_WORK if int(store[counter]) == 0]


@pytest.mark.seconds(SECONDS + 180)
def test_everything_at_once():
    print("SEED=%d" % SEED)
    server = Server("-t", "4", "-m", "8", "--disk-limit=64m", "--segment-size=1m", "-R", "20")
    stop = threading.Event()
    busy = [Busy(server, number, stop) for number in range(CLIENTS)]
    tasks = busy + [Operator(server, CLIENTS, stop)]
    for task in tasks:
        task.start()
    end = time.monotonic() + SECONDS + 90
    stop.wait(SECONDS)
    while time.monotonic() < end and not stop.is_set() and idle(server):
        stop.wait(1)
    stop.set()
    for task in tasks:
        task.join(60)
        if task.error:
            raise task.error
    print("%d commands, %d values" % (sum(client.commands for client in busy),
                                      sum(client.values for client in busy)))
    assert idle(server) == []
    server.stop()
    assert "Sanitizer" not in server.log()
