#!/usr/bin/python3
"""The same random commands to Debian's memcached and to the server under test; their answers must
be the same.

The commands (grammar.py) come in streams. A stream follows from its seed alone: it begins with a
flush_all on a new connection and is sent in batches. A barrier follows each command, so that the
answers can be told apart; it also forces out what quiet commands leave pending. A stream with a
difference is played again without the commands that do not matter; what is left is shown, and how
to repeat it.

Answers are compared to the byte, but for CAS uniques, which are numbered in the order of their
appearance, for seconds that are left or have passed, which may differ by 2, and for what
differences.py lists.
"""
import argparse
import itertools
import os
import re
import select
import socket
import struct
import sys
import time

import differences
import grammar
import support

MEMCACHED = "/usr/bin/memcached"
OPTIONS = ("-m", "256", "-t", "2")
# While its own threads look at an item, memcached does not write over its value, and does not pad a
# shorter number.
OPTIONS_OF_MEMCACHED = ("-o", "no_lru_maintainer,no_lru_crawler")
PATIENCE_S = 10  # without a byte from either server
SHRINK_S = 20
SECONDS_APART = 2
BATCHES = [1, 5, 20, 100, 100, 400]
STREAM_LENGTHS = [50, 400, 2000]
PIECES = [1, 2, 3, 7, 30, 300, 70000]
CLOSED, SILENT = b"<closed>", b"<no answer>"


class Difference(AssertionError):
    pass


class Memcached(support.Server):
    """Debian's memcached, whatever is under test."""

    def command(self):
        user = ["-u", "nobody"] if support.is_root() else []
        return [MEMCACHED, "-p", str(self.port), "-l", "127.0.0.1", "-U", "0", *user,
                *OPTIONS_OF_MEMCACHED, *self.options]


def start_pair(**more):
    quirks = OPTIONS_OF_MEMCACHED if support.IS_MEMCACHED else ()
    return [Memcached(*OPTIONS, **more), support.Server(*OPTIONS, *quirks, **more)]


# A dialect: how barriers and CAS uniques are written, and how a connection's answers are made
# comparable.

class Text:
    barrier = b"version\r\n"
    barrier_answer = None  # learned from the server
    flush = b"flush_all\r\n"
    value_with_cas = re.compile(rb"(VALUE ([^ ]+) \d+ \d+ )(\d+)\r\n")
    seconds = None

    def __init__(self, commands):
        self.commands = commands
        self.seen = {}  # key: its last CAS unique
        self.ordinals = {}

    def write_cas(self, key):
        return b"%d" % self.seen.get(key, 1)

    def ordinal(self, unique):
        return self.ordinals.setdefault(unique, len(self.ordinals) + 1)

    def take_cas(self, found):
        unique = int(found[3])
        self.seen[found[2]] = unique
        return b"%s<%d>\r\n" % (found[1], self.ordinal(unique))

    def comparable(self, received):
        return self.value_with_cas.sub(self.take_cas, received)

    def answers(self, received):
        """One per command, and then whatever came after the last barrier."""
        return self.comparable(received).split(self.barrier_answer)


class Meta(Text):
    barrier = b"mn\r\n"
    barrier_answer = b"MN\r\n"
    told_cas = re.compile(rb"(HD c)(\d+) k([^ \r]+)\r\n")
    any_cas = re.compile(rb"( c(?:as=)?)(\d+)(?=[ \r])")
    debug_sizes = re.compile(rb"cls=\d+ size=\d+\r\n")
    seconds = re.compile(rb"(?<= t)\d+(?=[ \r])|(?<= l)\d+(?=[ \r])|(?<=exp=)-?\d+|(?<=la=)\d+")

    def comparable(self, received):
        for found in self.told_cas.finditer(received):
            self.seen[found[3]] = int(found[2])
        received = self.any_cas.sub(lambda found: b"%s<%d>"
                                    % (found[1], self.ordinal(int(found[2]))),
                                    super().comparable(received))
        return self.debug_sizes.sub(b"cls=# size=#\r\n", received)


class Binary(Text):
    """Answers are made lines of text, one a packet."""
    barrier = grammar.packet("noop", opaque=grammar.BARRIER_OPAQUE)
    barrier_answer = b"\x81" + barrier[1:]
    flush = grammar.packet("flush")
    head = struct.Struct(">BBHBBHIIQ")

    def __init__(self, commands):
        super().__init__(commands)
        self.key_of = {command.opaque: command.key for command in commands}

    def write_cas(self, key):
        return struct.pack(">Q", self.seen.get(key, 1))

    def shown(self, packet):
        (magic, opcode, key_len, extras_len, data_type, status, _, opaque,
         unique) = self.head.unpack_from(packet)
        if unique:
            self.seen[self.key_of.get(opaque)] = unique
            unique = self.ordinal(unique)
        key_at = 24 + extras_len
        value = packet[key_at + key_len:] if opcode != grammar.OPCODES["version"] else b"(version)"
        return b"%02x %02x status=%02x type=%d opaque=%x cas=<%d> extras=%s key=%s value=%s\n" % (
            magic, opcode, status, data_type, opaque, unique, packet[24:key_at].hex().encode(),
            packet[key_at:key_at + key_len], value)

    def one_answer(self, received):
        lines = []
        while len(received) >= 24 and received[0] == 0x81:
            end = 24 + int.from_bytes(received[8:12], "big")
            if end > len(received):
                break
            lines.append(self.shown(received[:end]))
            received = received[end:]
        return b"".join(lines) + received

    def answers(self, received):
        return [self.one_answer(part) for part in received.split(self.barrier_answer)]


DIALECTS = {"text": Text, "meta": Meta, "binary": Binary}


def learn_version(server):
    with server.connect() as client:
        return client.ask(b"version\r\n", b"\r\n")


class Side:
    """A connection to one of the two servers, for one stream."""

    def __init__(self, server, dialect, commands, pieces=None):
        self.client = server.connect()
        self.client.socket.setblocking(False)
        self.dialect = dialect(commands)
        if dialect is Text:
            self.dialect.barrier_answer = server.version
        # Chooses their sizes, when the bytes go out in many pieces
        self.pieces = pieces
        self.out = memoryview(b"")
        self.received = bytearray()
        self.counted = self.barriers = 0
        self.closed = self.silent = False

    def fileno(self):
        return self.client.socket.fileno()

    def begin(self, commands):
        barrier, write_cas = self.dialect.barrier, self.dialect.write_cas
        self.out = memoryview(b"".join(command.bytes(write_cas) +
                                       (barrier if not command.last else b"")
                                       for command in commands))
        self.received = bytearray()
        self.counted = self.barriers = 0

    def send(self):
        size = self.pieces.pick(PIECES) if self.pieces else len(self.out)
        try:
            self.out = self.out[self.client.socket.send(self.out[:size]):]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.out = memoryview(b"")  # what the server has said before is still to be read

    def receive(self):
        try:
            data = self.client.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.closed = not data
        self.received += data
        wanted = self.dialect.barrier_answer
        self.barriers += self.received.count(wanted, self.counted)
        last = self.received.rfind(wanted, self.counted)
        self.counted = (last + len(wanted) if last >= 0
                        else max(self.counted, len(self.received) - len(wanted) + 1))

    def answers(self):
        answers = self.dialect.answers(bytes(self.received))
        answers[-1] += CLOSED if self.closed else SILENT if self.silent else b""
        return answers


def exchange(sides, barriers, patience_s):
    """Sends all that waits, until both have answered so many barriers, or have closed, or nothing
    more comes."""
    waiting = list(sides)
    while waiting:
        readable, writable, _ = select.select(waiting, [side for side in waiting if side.out], [],
                                              patience_s)
        if not readable and not writable:
            for side in waiting:
                side.silent = True
            return
        for side in writable:
            side.send()
        for side in readable:
            side.receive()
        waiting = [side for side in waiting if side.barriers < barriers and not side.closed]


def same_but_for_seconds(dialect, theirs, ours):
    if (dialect.seconds is None or
        dialect.seconds.sub(b"#", theirs) != dialect.seconds.sub(b"#", ours)):
        return False
    return all(abs(int(a) - int(b)) <= SECONDS_APART
               for a, b in zip(dialect.seconds.findall(theirs), dialect.seconds.findall(ours)))


def find_difference(protocol, commands, theirs, ours):
    """The first command that was answered differently, with both answers; or None."""
    if theirs == ours:
        return None
    for command, a, b in itertools.zip_longest(commands, theirs, ours, fillvalue=None):
        a, b = a or b"", b or b""
        sent = command.shown() if command else b""
        if (a != b and not same_but_for_seconds(DIALECTS[protocol], a, b) and
            not differences.is_known(protocol, sent, a, b)):
            return command, a, b
    return None


def play(protocol, batches, servers, pieces=None, patience_s=PATIENCE_S):
    """Plays a stream from an empty store on. Returns None, or where it differs: (number of the
    batch, command, answer, answer)."""
    commands = [command for batch in batches for command in batch]
    sides = [Side(server, DIALECTS[protocol], commands, pieces if server is servers[1] else None)
             for server in servers]
    try:
        for number, batch in enumerate([[grammar.Command(DIALECTS[protocol].flush)]] + batches):
            for side in sides:
                side.begin(batch)
            exchange(sides, len(batch) + batch[-1].last, patience_s)
            found = find_difference(protocol, batch, sides[0].answers(), sides[1].answers())
            if found:
                return (number - 1, *found)
            if not batch[-1].last:
                assert not sides[0].closed and not sides[0].silent, (
                    "both servers stop at " + cut(batch[sides[0].barriers].shown()))
    finally:
        for side in sides:
            side.client.close()
    return None


def make_stream(protocol, seed):
    """Batches of commands; the same ones for the same seed."""
    dice = grammar.Dice("%s %d" % (protocol, seed))
    made = grammar.GRAMMARS[protocol](dice)
    left = dice.pick(STREAM_LENGTHS)
    batches = []
    while left > 0:
        batch = made.batch(dice.pick(BATCHES))
        left -= len(batch)
        batches.append(batch)
    if dice.one_in(4):
        batches.append([made.farewell()])
    return batches


def shrink(protocol, batches, servers):
    """Leaves out what does not matter, for a while. Each command that is left is a batch."""
    deadline = time.monotonic() + SHRINK_S
    commands = [command for batch in batches for command in batch]

    def differs(some):
        return play(protocol, [[command] for command in some], servers, patience_s=1)

    related = [command for command in commands if command.key in (None, commands[-1].key)]
    commands = next((some for some in (related, commands) if differs(some)), None)
    if commands is None:
        return batches
    size = len(commands) // 2
    while size > 0:
        at = 0
        while at < len(commands) and time.monotonic() < deadline:
            some = commands[:at] + commands[at + size:]
            if some and differs(some):
                commands = some
            else:
                at += size
        size //= 2
    return [[command] for command in commands]


def cut(text, size=300):
    return repr(text) if len(text) <= size else "%r… (%d bytes)" % (text[:size], len(text))


def report(protocol, seed, pieces, batches, found, servers):
    number, command = found[:2]
    batches = batches[:number] + [batches[number][:batches[number].index(command) + 1] if command
                                  else batches[number]]
    again = shrink(protocol, batches, servers)
    number, command, theirs, ours = play(protocol, again, servers) or found
    commands = [command for batch in again for command in batch]
    lines = ["%s: the answers differ" % protocol]
    lines += ["  sent       " + cut(sent.shown()) for sent in commands[-20:]]
    lines += ["  to         " + cut(command.shown() if command else b"(all that)"),
              "  memcached  " + cut(theirs), "  cachecask  " + cut(ours),
              "repeat with: tests/server/differential.py --protocol %s --seed %d --commands 1%s" % (
                  protocol, seed, " --split" if pieces else "")]
    return "\n".join(lines)


def run(protocol, seed, count, servers, split=False):
    """Plays streams with this seed and those that follow, until `count` commands have been
    answered. Raises Difference."""
    done = 0
    for server in servers:
        server.version = learn_version(server)
    while done < count:
        batches = make_stream(protocol, seed)
        pieces = grammar.Dice(seed) if split else None
        found = play(protocol, batches, servers, pieces)
        if found:
            raise Difference(report(protocol, seed, pieces, batches, found, servers))
        done += sum(len(batch) for batch in batches)
        seed += 1
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0],
                                     epilog="CACHECASK is the server under test.")
    parser.add_argument("--protocol", choices=sorted(DIALECTS), default="text")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--commands", type=int, default=20000,
                        help="how many at least; 1: the stream of that seed")
    parser.add_argument("--split", action="store_true", help="send the commands in small pieces")
    arguments = parser.parse_args()
    print("seed %d" % arguments.seed, flush=True)
    support.begin_session()
    try:
        servers = start_pair()
        begin = time.monotonic()
        done = run(arguments.protocol, arguments.seed, arguments.commands, servers, arguments.split)
        print("%d commands, no difference, %.1f s" % (done, time.monotonic() - begin))
    except Difference as difference:
        print(difference)
        return 1
    finally:
        support.end_test()
        support.end_session()
    return 0


if __name__ == "__main__":
    sys.exit(main())
