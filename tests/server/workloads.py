"""Clients that know what they have written: session store, queue, rate limiter, mixed cache.

A workload has one connection. step() sends a batch and compares every answer, verify() compares
what is there with what must be; both raise Unexpected. It knows its keys by number, and a value by
key and version, so it holds a few bytes a key. The short tests run some hundred steps of it,
script/test-long soak an hour in several processes.
"""
import array
import math
import random
import time

from support import value_of

BATCH = 100
PATIENCE_S = 15  # no request may wait longer for its answer
LATE_S = 2  # around the second of its expiry a key may be there or not


class Unexpected(Exception):
    """An answer that must not be, a refusal among them."""


class Workload:
    def __init__(self, server, number, seed):
        """`number` tells the keys of one from those of another."""
        self.server = server
        self.number = number
        self.random = random.Random("%d %d" % (seed, number))
        self.client = None

    def connect(self):
        """Again after each start of the server."""
        self.client = self.server.connect(PATIENCE_S)

    def talk(self, commands, answers):
        """Sends all, and expects exactly these answers."""
        self.client.send(b"".join(commands))
        for command, answer in zip(commands, answers):
            buffer = self.client.buffer
            while len(buffer) < len(answer) and answer.startswith(buffer) and self.client.fill():
                pass
            if not buffer.startswith(answer):
                raise Unexpected(
                    "%r: expected %r, got %r" % (command[:80], answer[:80], bytes(buffer[:80]))
                )
            del buffer[: len(answer)]

    def lines(self, commands, count):
        self.client.send(b"".join(commands))
        return [self.client.line() for _ in range(count)]

    def expect_there(self, keys, value_of_key):
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            self.talk(
                [b"get %s\r\n" % key for key in some],
                [value_answer(key, value_of_key(key)) for key in some],
            )

    def expect_gone(self, keys):
        self.expect_answer(b"get %s\r\n", keys, b"END\r\n")

    def expect_answer(self, command, keys, answer):
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            self.talk([command % key for key in some], [answer] * len(some))

    def set_all(self, keys, value_of_key):
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            self.talk(
                [set_command(key, value_of_key(key)) for key in some], [b"STORED\r\n"] * len(some)
            )


def set_command(key, value, exptime=0):
    return b"set %s 0 %d %d\r\n%s\r\n" % (key, exptime, len(value), value)


def value_answer(key, value):
    return b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(value), value)


class Sessions(Workload):
    """gat and touch over keys that stay, each with a later expiry than the one before."""

    def __init__(self, server, number=0, seed=1, keys=500_000, value_size=200):
        super().__init__(server, number, seed)
        self.value_size = value_size
        self.expiry = array.array("I", bytes(4 * keys))
        self.next_expiry = int(time.time()) + 100_000

    def key(self, index):
        return b"session-%d-%07d" % (self.number, index)

    def value(self, key):
        return value_of(key, self.value_size)

    def load(self):
        self.set_all([self.key(index) for index in range(len(self.expiry))], self.value)

    def step(self):
        first = self.random.randrange(len(self.expiry))
        some = [(first + n * 7919) % len(self.expiry) for n in range(BATCH)]
        keys = [self.key(index) for index in some]
        self.next_expiry += 1
        if self.next_expiry % 2:
            self.talk(
                [b"gat %d %s\r\n" % (self.next_expiry, key) for key in keys],
                [value_answer(key, self.value(key)) for key in keys],
            )
        else:
            self.talk(
                [b"touch %s %d\r\n" % (key, self.next_expiry) for key in keys],
                [b"TOUCHED\r\n"] * BATCH,
            )
        for index in some:
            self.expiry[index] = self.next_expiry
        return BATCH

    def verify(self):
        for start in range(0, len(self.expiry), BATCH):
            self.verify_some(range(start, min(start + BATCH, len(self.expiry))))
        return len(self.expiry)

    def verify_some(self, some):
        """Values, and the time that is left to each."""
        earliest = int(time.time()) - 1
        self.client.send(b"".join(b"mg %s t v\r\n" % self.key(index) for index in some))
        answers = [
            (self.client.line().split(), self.client.read(self.value_size + 2)) for _ in some
        ]
        latest = int(time.time()) + 1
        for index, (head, value) in zip(some, answers):
            key, expiry = self.key(index), self.expiry[index]
            left = int(head[2][1:])
            right = expiry - latest <= left <= expiry - earliest if expiry else left == -1
            if head[0] != b"VA" or value[:-2] != self.value(key) or not right:
                raise Unexpected("%s: expiry %d, now %d, answered %r" % (key, expiry, latest, head))


class Queue(Workload):
    """Sets unique keys and deletes the oldest; beside keys that stay."""

    def __init__(
        self,
        server,
        number=0,
        seed=1,
        depth=5000,
        static=10_000,
        static_size=100,
        longest=1000,
        exptime=0,
    ):
        """With an exptime the keys are left to expire, not deleted."""
        super().__init__(server, number, seed)
        self.depth = depth
        self.longest = longest
        self.exptime = exptime
        self.static_size = static_size
        self.static = [b"static-%d-%07d" % (number, index) for index in range(static)]
        self.head = self.tail = 0

    def key(self, index):
        return b"queue-%d-%010d" % (self.number, index)

    def value(self, key):
        return value_of(key, 1 + int(key[-10:]) * 7919 % self.longest)

    def static_value(self, key):
        return value_of(key, self.static_size)

    def load(self):
        self.set_all(self.static, self.static_value)

    def step(self):
        new = [self.key(index) for index in range(self.head, self.head + BATCH)]
        self.talk(
            [set_command(key, self.value(key), self.exptime) for key in new],
            [b"STORED\r\n"] * BATCH,
        )
        self.head += BATCH
        if self.exptime:
            self.tail = self.head
        elif self.head - self.tail > self.depth:
            self.expect_answer(
                b"delete %s\r\n",
                [self.key(n) for n in range(self.tail, self.tail + BATCH)],
                b"DELETED\r\n",
            )
            self.tail += BATCH
        return 2 * BATCH

    def verify(self):
        if self.exptime:
            time.sleep(self.exptime + LATE_S)
        live = [self.key(index) for index in range(self.tail, self.head)]
        gone = set(range(max(0, self.tail - 1000), self.tail))
        if self.tail:
            gone.update(self.random.randrange(self.tail) for _ in range(5000))
        self.expect_there(self.static, self.static_value)
        self.expect_there(live, self.value)
        self.expect_gone([self.key(index) for index in sorted(gone)])
        return len(self.static) + len(live) + len(gone)


class RateLimiter(Workload):
    """add with a TTL of 2 s, then incr: each key lives for one window and is never used again."""

    TTL_S = 2
    TIMES = 3

    def __init__(self, server, number=0, seed=1):
        super().__init__(server, number, seed)
        self.count = 0

    def key(self, index):
        return b"rate-%d-%010d" % (self.number, index)

    def load(self):
        pass

    def step(self):
        keys = [self.key(index) for index in range(self.count, self.count + BATCH)]
        self.count += BATCH
        began = time.monotonic()
        for command in [b"add %%s 0 %d 1\r\n0\r\n" % self.TTL_S] + [b"incr %s 1\r\n"] * self.TIMES:
            answers = self.lines([command % key for key in keys], BATCH)
            self.check(command, answers, time.monotonic() - began)
        return BATCH * (1 + self.TIMES)

    def check(self, command, answers, seconds):
        """What is asked late may have expired."""
        wanted = (
            {b"STORED\r\n"}
            if command.startswith(b"add")
            else {b"%d\r\n" % n for n in range(1, self.TIMES + 1)}
        )
        if seconds > self.TTL_S - 1.1:
            wanted.add(b"NOT_FOUND\r\n")
        if not wanted.issuperset(answers) or len(set(answers) - {b"NOT_FOUND\r\n"}) > 1:
            raise Unexpected("%r after %.1f s: %r" % (command, seconds, sorted(set(answers))))

    def verify(self):
        time.sleep(self.TTL_S + LATE_S)
        gone = set(range(max(0, self.count - 10_000), self.count))
        if self.count:
            gone.update(self.random.randrange(self.count) for _ in range(5000))
        self.expect_gone([self.key(index) for index in sorted(gone)])
        return len(gone)


class Mix(Workload):
    """Sets, gets and deletes values of 10 bytes to 8 MB, with and without a TTL."""

    TTLS_S = (0, 0, 0, 5, 60, 3600, 100_000)
    SMALLEST, LARGEST = 10, 8_000_000

    def __init__(self, server, number=0, seed=1, keys=20_000, budget=100 << 20):
        """Keeps at most `budget` bytes alive."""
        super().__init__(server, number, seed)
        self.budget = budget
        self.size = array.array("I", bytes(4 * keys))  # 0: not there
        self.version = array.array("I", bytes(4 * keys))
        self.expiry = array.array("I", bytes(4 * keys))
        self.stored = 0

    def key(self, index):
        return b"mix-%d-%07d" % (self.number, index)

    def value(self, index):
        return value_of(b"%s.%d" % (self.key(index), self.version[index]), self.size[index])

    def load(self):
        pass

    def step(self):
        index = self.random.randrange(len(self.size))
        choice = self.random.random()
        if choice < 0.5:
            self.set(index)
        elif choice < 0.9:
            self.get(index)
        else:
            self.delete(index)
        return 1

    def random_size(self):
        return int(
            self.SMALLEST
            * math.exp(math.log(self.LARGEST / self.SMALLEST) * self.random.random() ** 2)
        )

    def set(self, index):
        size = self.random_size()
        while self.stored - self.size[index] + record_size(20, size) > self.budget:
            some = self.random.randrange(len(self.size))
            if self.size[some]:
                self.delete(some)
        ttl = self.random.choice(self.TTLS_S)
        self.forget(index)
        self.version[index] += 1
        self.size[index] = size
        self.stored += size
        self.expiry[index] = int(time.time()) + ttl if ttl else 0
        # A TTL of days is a moment for the server, and so are these.
        self.talk(
            [set_command(self.key(index), self.value(index), self.expiry[index])], [b"STORED\r\n"]
        )

    def forget(self, index):
        self.stored -= self.size[index]
        self.size[index] = 0

    def get(self, index):
        key = self.key(index)
        before = time.time()
        self.client.send(b"get %s\r\n" % key)
        head = self.client.line()
        value = (
            self.client.read(int(head.split()[3]) + 7)[:-7] if head.startswith(b"VALUE ") else None
        )
        if not self.may_be(index, value, before):
            raise Unexpected(
                "get %s: version %d, size %d, expiry %d, now %d, got %r…"
                % (
                    key,
                    self.version[index],
                    self.size[index],
                    self.expiry[index],
                    time.time(),
                    value and value[:60],
                )
            )

    def may_be(self, index, value, before):
        expiry = self.expiry[index]
        if value is None:
            return not self.size[index] or (expiry and time.time() > expiry - LATE_S)
        return (
            self.size[index]
            and value == self.value(index)
            and (not expiry or before < expiry + LATE_S)
        )

    def delete(self, index):
        expiry = self.expiry[index]
        answer = self.lines([b"delete %s\r\n" % self.key(index)], 1)[0]
        there = bool(self.size[index])
        near = expiry and time.time() > expiry - LATE_S
        if answer not in (
            (b"DELETED\r\n", b"NOT_FOUND\r\n")
            if near
            else ((b"NOT_FOUND\r\n", b"DELETED\r\n")[there],)
        ):
            raise Unexpected(
                "delete %s: %r, there %d, expiry %d" % (self.key(index), answer, there, expiry)
            )
        self.forget(index)

    def verify(self):
        for index in range(len(self.size)):
            self.get(index)
        return len(self.size)


def record_size(key_len, value_len):
    """In the log, and in the hint file."""
    return 32 + (key_len + value_len + 7) // 8 * 8 + 24
