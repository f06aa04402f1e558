"""The crash test: writers at full speed, kill -9 at a random moment, and nothing acknowledged is
lost or comes back.

Each writer owns keys of its own and knows, for each, the state that the server acknowledged last
and the writes that are on their way. After the kill a key must be in the acknowledged state, or in
that of a write behind it: writes of one connection are carried out in order, so it is the
acknowledged one and then some beginning of those in flight.

CRASH_CYCLES=n sets the number of cycles, SEED=n replays the choices of an earlier run (not the
moments at which the kernel ran whom).
"""
import os
import random
import signal
import threading
import time

import pytest

import support
from support import Server

CYCLES = int(os.environ.get("CRASH_CYCLES",
                            200 if support.LONG else (8 if support.SANITIZED else 20)))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
WRITERS = 4
KEYS = 150  # of each writer
DEPTH = 40  # commands on their way at once


class State:
    """The state of a key: None, or (value, flags, expires in the far future)."""

    def __init__(self):
        self.acknowledged = None
        self.in_flight = []  # states, in the order of the commands


def answer_to(command, state, argument):
    """Carries a command out on a state. Returns the answer and the new state."""
    if command == "set":
        return b"STORED", argument
    if command == "add":
        return (b"STORED", argument) if state is None else (b"NOT_STORED", state)
    if command == "delete":
        return (b"DELETED", None) if state is not None else (b"NOT_FOUND", None)
    if command == "touch":
        return (b"TOUCHED" if state is not None else b"NOT_FOUND"), state
    if command == "touch away":
        return (b"TOUCHED" if state is not None else b"NOT_FOUND"), None
    if command == "append":
        return ((b"STORED", (state[0] + argument, state[1])) if state is not None
                else (b"NOT_STORED", None))
    if command == "incr":
        if state is None:
            return b"NOT_FOUND", None
        number = b"%d" % (int(state[0]) + argument)
        return number, (number.ljust(len(state[0])), state[1])
    raise ValueError(command)


def encode(command, key, argument):
    if command in ("set", "add"):
        return b"%s %s %d 0 %d\r\n%s\r\n" % (command.encode(), key, argument[1], len(argument[0]),
                                             argument[0])
    if command == "append":
        return b"append %s 0 0 %d\r\n%s\r\n" % (key, len(argument), argument)
    if command == "incr":
        return b"incr %s %d\r\n" % (key, argument)
    return {"delete": b"delete %s\r\n", "touch": b"touch %s 100000\r\n",
            "touch away": b"touch %s -1\r\n"}[command] % key


class Writer:
    def __init__(self, number):
        self.number = number
        self.keys = [b"w%d-%d" % (number, i) for i in range(KEYS)]
        self.states = {key: State() for key in self.keys}
        self.acknowledged = 0
        self.version = 0
        self.error = None

    def choose(self, random_):
        """A key, a command for it, and its argument. A third of the keys are counters."""
        index = random_.randrange(KEYS)
        key = self.keys[index]
        self.version += 1
        if index % 3 == 0:
            command = random_.choice(("incr", "incr", "incr", "incr", "add", "touch", "delete"))
            return key, command, (b"%d" % self.version,
                                  index) if command == "add" else random_.randrange(1, 100)
        command = random_.choice(("set", "set", "set", "add", "append", "delete", "touch",
                                  "touch away"))
        if command == "append":
            return key, command, b"+%d" % self.version
        size = random_.choice((0, 10, 100, 100, 100, 1000, 1000, 30000))
        return key, command, (support.value_of(b"%s.%d" % (key, self.version), size), self.version)

    def run(self, server, seed):
        try:
            self.write(server, random.Random(seed))
        except (OSError, EOFError):
            pass  # killed
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def write(self, server, random_):
        waiting = []
        with server.connect() as client:
            while True:
                sent = []
                while len(waiting) < DEPTH:
                    key, command, argument = self.choose(random_)
                    state = self.states[key]
                    before = state.in_flight[-1] if state.in_flight else state.acknowledged
                    answer, after = answer_to(command, before, argument)
                    state.in_flight.append(after)
                    waiting.append((key, command, answer))
                    sent.append(encode(command, key, argument))
                client.send(b"".join(sent))
                for _ in range(random_.randrange(1, DEPTH + 1)):
                    self.take_answer(client, *waiting.pop(0))

    def take_answer(self, client, key, command, wanted):
        while b"\r\n" not in client.buffer:
            if not client.fill():
                raise EOFError
        got = client.line()[:-2]
        assert got == wanted, "%s %r: expected %r, got %r" % (command, key, wanted, got)
        state = self.states[key]
        state.acknowledged = state.in_flight.pop(0)
        self.acknowledged += 1

    def check(self, client):
        """Compares, and takes what is there as the new truth. Returns what is wrong."""
        found = client.gets(*self.keys)
        wrong = []
        for key, state in self.states.items():
            value = found.get(key)
            value = value and value[:2]
            if value not in [state.acknowledged] + state.in_flight:
                wrong.append("%r is %s, acknowledged was %s, in flight were %s" % (
                    key, shorten(value), shorten(state.acknowledged),
                    [shorten(s) for s in state.in_flight]))
            state.acknowledged = value
            state.in_flight = []
        return wrong


def shorten(value):
    return value and (value[0][:60], len(value[0]), value[1])


def end_under_load(server, writers, random_, how):
    """Returns the exit status, and how long the end took."""
    threads = [threading.Thread(target=writer.run, args=(server, random_.random()))
               for writer in writers]
    for thread in threads:
        thread.start()
    time.sleep(random_.uniform(0, 0.3))
    server.process.send_signal(how)
    started = time.monotonic()
    server.process.wait(support.TIMEOUT)
    seconds = time.monotonic() - started
    for thread in threads:
        thread.join()
    return server.reap(), seconds


def check_all(server, writers):
    for writer in writers:
        if writer.error:
            raise writer.error
    with server.connect() as client:
        wrong = [line for writer in writers for line in writer.check(client)]
    assert not wrong, "%d keys are wrong\n%s" % (len(wrong), "\n".join(wrong[:20]))


def cycle(server, writers, random_):
    end_under_load(server, writers, random_, signal.SIGKILL)
    if random_.random() < 0.3:  # killed again while it recovers, or soon after
        server.launch()
        time.sleep(random_.uniform(0, 0.02))
        server.kill9()
    server.start()
    check_all(server, writers)


@pytest.mark.seconds(60 + 3 * CYCLES)
@pytest.mark.parametrize("options", [
    ("-m", "64"),
    ("-m", "1", "--segment-size=256k", "-t", "2"),
    ("-m", "8", "--sync=none", "--segment-size=64k"),
    ("-m", "8", "--sync=always", "--segment-size=1m"),
    ("-m", "8", "-M", "--disk-limit=16m", "--segment-size=64k"),
], ids=["plenty of memory", "little memory", "small segments and no sync", "sync always",
        "little disk"])
def test_nothing_acknowledged_is_lost_and_nothing_deleted_comes_back(options):
    print("SEED=%d" % SEED)
    random_ = random.Random("%d %s" % (SEED, options))
    server = Server(*options)
    writers = [Writer(number) for number in range(WRITERS)]
    for turn in range(max(1, CYCLES // 4)):
        try:
            cycle(server, writers, random_)
        except BaseException:
            print("cycle %d" % turn)
            raise
    print("%d acknowledged writes checked over %d kills"
          % (sum(w.acknowledged for w in writers), turn + 1))
    assert sum(writer.acknowledged for writer in writers) > 0


@pytest.mark.seconds(300 if support.LONG else 60)
def test_a_recovery_may_be_killed_again_and_again():
    """A start must understand the changes of one that died before it: hundreds of them find the
    same as one."""
    print("SEED=%d" % SEED)
    random_ = random.Random("%d recovery" % SEED)
    server = Server("-m", "8", "-M", "--segment-size=64k")
    writers = [Writer(number) for number in range(WRITERS)]
    end_under_load(server, writers, random_, signal.SIGKILL)
    started = time.monotonic()
    server.start()
    whole = time.monotonic() - started
    server.kill9()
    for _ in range(200 if support.LONG else 10):
        server.launch()
        time.sleep(random_.uniform(0, whole))
        server.kill9()
    server.start()
    check_all(server, writers)
    assert sum(writer.acknowledged for writer in writers) > 0


@pytest.mark.seconds(600 if support.LONG else 60)
def test_sigterm_under_load_loses_nothing_and_takes_no_time():
    print("SEED=%d" % SEED)
    random_ = random.Random("%d sigterm" % SEED)
    server = Server("-m", "8", "--segment-size=256k")
    writers = [Writer(number) for number in range(WRITERS)]
    longest = 0
    for _ in range(100 if support.LONG else 5):
        status, seconds = end_under_load(server, writers, random_, signal.SIGTERM)
        assert status == 0, server.log()
        longest = max(longest, seconds)
        server.start()
        check_all(server, writers)
    print("the longest end took %.2f s" % longest)
    assert longest < (15 if support.SANITIZED else 5)
