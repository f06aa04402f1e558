"""Every answer that a client got holds after kill -9: values, numbers, expiries, misses and
refusals, its own and other clients'.

Clients on all workers write to a few keys and read what the others write, while each write to the
log takes some milliseconds: so most of what a client sees is not written yet. Then the server is
killed, and what is there after the restart must be as new as all that was told:

  versions  Each stored value has a CAS unique, which grows with the log. A key may not hold an
            older one than a client has seen, nor one seen before a miss, a deletion or a refusal
            said that the key is absent. It may be absent only if a deletion may have come after the
            newest value that a client has seen.
  numbers   only grow, by incr.
  expiries  only grow, by the touches of one client.

HISTORY_KILLS=n sets the number of kills, SEED=n replays the choices of an earlier run (not the
moments at which the kernel ran whom).
"""
import os
import random
import threading
import time

import pytest

import support
from test_failing_calls import FailingServer

KILLS = int(os.environ.get("HISTORY_KILLS", 250 if support.LONG else 6))  # in each mode
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32) if support.LONG
                          else 20261201))
CLIENTS = 8
ANSWERS = 150  # before each kill, and up to as many more
DELAY_US = 10000
VERSIONS = [b"v%d" % i for i in range(4)]
NUMBERS = [b"n%d" % i for i in range(2)]
EXPIRIES = [b"t%d" % i for i in range(2)]
STEP_S = 1000  # between two expiries, so that the seconds of the test do not count
# The first expiry is that far away, so that nothing expires however long the test takes or waits
# for its turn
FIRST_STEP = 1000
BEGAN_S = int(time.time())
NEVER = float("inf")


class Told:
    """All that clients were told since the last restart. Times are those of this process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.answers = 0
        self.began = {}  # token of a value: when its store was sent
        self.values = {key: {} for key in VERSIONS}  # CAS unique: (when it was told first, token)
        # When the last command was sent that found it there
        self.present = {key: 0 for key in VERSIONS}
        self.absent = {key: 0 for key in VERSIONS}  # and the last one that did not
        self.deletions = {key: [] for key in VERSIONS}  # when each was answered
        self.numbers = {key: 0 for key in NUMBERS}
        self.expiries = {key: 0 for key in EXPIRIES}

    def value(self, key, cas, token):
        with self.lock:
            self.answers += 1
            self.values[key].setdefault(cas, (time.monotonic(), token))

    def at_least(self, kind, key, number):
        with self.lock:
            self.answers += 1
            kind[key] = max(kind[key], number)

    def deletion(self, key, answered):
        """A deletion that has been answered then, or begins (NEVER)."""
        with self.lock:
            self.deletions[key].append(answered)

    def wrong_version(self, key, cas, token):
        """The fault of the value found, or of its absence (cas 0)."""
        told = self.values[key]
        newest = max(told, default=0)
        if cas == 0:
            there = max(self.began.get(told[newest][1], 0) if newest else 0, self.present[key])
            after = any(answered >= there for answered in self.deletions[key])
            return (None if after or not there
                    else "absent, but %d was told and nobody has deleted it" % newest)
        if cas < newest:
            return "%d %r, but %d was told" % (cas, token, newest)
        if cas in told and told[cas][0] < self.absent[key]:
            return "%d %r, but it was told before the key was told to be absent" % (cas, token)
        return None


class HistoryClient:
    def __init__(self, server, told, number, seed):
        self.client = server.connect()
        self.told = told
        self.number = number
        self.seed = seed
        self.random = random.Random(seed * 100 + number)
        self.count = 0
        self.seen = {}  # the last CAS unique of each key
        self.error = None

    def run(self):
        try:
            while True:
                self.step()
        except (OSError, EOFError):
            pass  # killed
        except AssertionError as error:
            if "closed" not in str(error):
                self.error = error

    def ask(self, command):
        """Returns the words of the answer, and its value."""
        self.client.send(command)
        words = self.client.line().split()
        value = self.client.read(int(words[1]) + 2)[:-2] if words[0] == b"VA" else None
        return words, value

    def step(self):
        key = self.random.choice(VERSIONS * 2 + NUMBERS + EXPIRIES)
        if key in VERSIONS:
            self.random.choice((self.store, self.store, self.add, self.swap, self.delete, self.read,
                                self.read))(key)
        elif key in NUMBERS:
            words, value = self.ask(b"ma %s v\r\n" % key if self.random.random() < 0.5
                                    else b"mg %s v\r\n" % key)
            self.told.at_least(self.told.numbers, key, int(value))
        elif self.number == EXPIRIES.index(key) and self.random.random() < 0.8:
            self.touch(key)
        else:
            words, value = self.ask(b"mg %s t\r\n" % key)
            self.told.at_least(self.told.expiries, key, step_of(words))

    def put(self, key, flags):
        self.count += 1
        token = b"%d.%d.%d" % (self.seed, self.number, self.count)
        sent = self.told.began[token] = time.monotonic()
        words, _ = self.ask(b"ms %s %d c %s\r\n%s\r\n" % (key, len(token), flags, token))
        if words[0] == b"HD":
            self.told.value(key, int(words[1][1:]), token)
        elif words[0] == b"NF":
            self.told.at_least(self.told.absent, key, sent)
        else:
            self.told.at_least(self.told.present, key, sent)
        return words[0]

    def store(self, key):
        assert self.put(key, b"") == b"HD"

    def add(self, key):
        assert self.put(key, b"ME") in (b"HD", b"NS")

    def swap(self, key):
        assert self.put(key, b"C%d" % self.seen.get(key, 1)) in (b"HD", b"EX", b"NF")

    def delete(self, key):
        sent = time.monotonic()
        self.told.deletion(key, NEVER)
        words, _ = self.ask(b"md %s\r\n" % key)
        with self.told.lock:
            self.told.deletions[key].remove(NEVER)
        if words[0] == b"HD":
            self.told.deletion(key, time.monotonic())
        self.told.at_least(self.told.absent, key, sent)

    def read(self, key):
        sent = time.monotonic()
        words, value = self.ask(b"mg %s c v\r\n" % key)
        if words[0] == b"EN":
            self.told.at_least(self.told.absent, key, sent)
            return
        self.seen[key] = int(words[2][1:])
        self.told.value(key, self.seen[key], value)

    def touch(self, key):
        self.count += 1
        step = self.told.expiries[key] + 1
        words, _ = self.ask(b"touch %s %d\r\n" % (key, BEGAN_S + step * STEP_S))
        assert words == [b"TOUCHED"]
        self.told.at_least(self.told.expiries, key, step)


def step_of(words):
    """Of the answer to `mg key t`."""
    return round((int(words[1][1:]) + time.time() - BEGAN_S) / STEP_S)


def current_step(client, key):
    return step_of(client.ask(b"mg %s t\r\n" % key, b"\r\n").split())


def check(client, told):
    """Compares, and returns what is wrong."""
    wrong = []
    for key in VERSIONS:
        client.send(b"mg %s c v\r\n" % key)
        words = client.line().split()
        token = client.read(int(words[1]) + 2)[:-2] if words[0] == b"VA" else b""
        wrong.append((key, told.wrong_version(key, int(words[2][1:]) if token else 0, token)))
    for key in NUMBERS:
        found = int(client.get(key))
        wrong.append((key, found < told.numbers[key] and
                      "%d, but %d was told" % (found, told.numbers[key])))
    for key in EXPIRIES:
        found = current_step(client, key)
        wrong.append((key, found < told.expiries[key] and
                      "expiry %d, but %d was told" % (found, told.expiries[key])))
    return ["%s is %s" % (key.decode(), what) for key, what in wrong if what]


def run_clients(server, told, seed, answers):
    clients = [HistoryClient(server, told, number, seed) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    support.wait_until(lambda: told.answers >= answers or any(client.error for client in clients),
                       "answers", 60)
    server.kill9()
    for thread in threads:
        thread.join()
    for client in clients:
        assert client.error is None, client.error


@pytest.mark.seconds(60 + 3 * KILLS)
@pytest.mark.parametrize("sync", ["1", "always"])
def test_what_any_client_was_told_holds_after_kill_9(sync):
    print("SEED=%d" % SEED)
    chosen = random.Random(SEED)
    server = FailingServer("-t", "4", "--sync=" + sync)
    server.start_failing()
    with server.connect() as client:
        for key in NUMBERS:
            client.set(key, b"0")
        for key in EXPIRIES:
            client.talk(b"set %s 0 %d 1\r\nx\r\n" % (key, BEGAN_S + FIRST_STEP * STEP_S),
                        b"STORED\r\n")
    for turn in range(KILLS):
        told = Told()
        with server.connect() as client:
            told.expiries = {key: current_step(client, key) for key in EXPIRIES}
        server.faults["write_us"] = DELAY_US
        run_clients(server, told, chosen.randrange(1 << 32), ANSWERS + chosen.randrange(ANSWERS))
        server.faults["write_us"] = 0
        server.start_failing()
        with server.connect() as client:
            wrong = check(client, told)
        assert not wrong, "after kill %d: %s" % (turn + 1, "; ".join(wrong))
