"""The recorded answers of memcached 1.6.45, replayed: whole, cut anywhere, and from several
connections at once."""
import os
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import recorded
import support
from recorded import Sequence, Step
from support import Server

pytestmark = pytest.mark.skipif(support.IS_MEMCACHED, reason="recorded with a newer release")

TRIES = 10
BAD_FORMAT = "CLIENT_ERROR bad command line format\r\n"
OPAQUE_TOO_LONG = "CLIENT_ERROR opaque token too long\r\n"
BAD_DELETE = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"


# Where we differ on purpose: what is sent, what memcached answers (None: it waits), what we answer
# instead.
INTENDED = [
    # Clients' own test suites expect the error.
    (r"delete \S+ (?!0\s|noreply\s)\S+", "", lambda answer: BAD_DELETE),
    # If a line's block is dropped, the error goes out with the line; memcached waits for the block.
    (r"(set|append|prepend|replace) two words", None, lambda answer: BAD_FORMAT),
    # A key that was sent in base64 comes back so. memcached gives the bytes themselves of an item
    # that mg has made, even line ends.
    (r"mg \S+ b ", " kfoo", lambda answer: answer.replace(" kfoo", " kZm9v b")),
    # The block after an ms with a good length is data. memcached runs it as commands when a flag
    # is no letter.
    (r"ms \S+ \d+(?: [A-Za-z]\S*)* [^A-Za-z\s]", BAD_FORMAT, lambda answer: BAD_FORMAT),
    # A refused command changes nothing. memcached runs mg and ma all the same and then refuses to
    # answer.
    (r"ma .*Oo{32}", "non-numeric", lambda answer: OPAQUE_TOO_LONG),
    # The time to live of what is over already is 0 here; there it is -1, as if it never ended, or a
    # number that has wrapped.
    (r"ma .*N-1", " t-1", lambda answer: answer.replace(" t-1", " t0")),
]

# And here memcached has run it, so the rest of the sequence is about other items than ours.
RUN_ALL_THE_SAME = re.compile(r"ma .*Oo{32}|mg .*(N.*Oo{32}|Oo{32}.*N)")


def ours(step):
    for sent, answered, change in INTENDED:
        same = (step.answer is None if answered is None
                else step.answer is not None and answered in step.answer)
        if same and re.match(sent, step.sent):
            return Step(step.sent, change(step.answer), step.marked)
    return step


def comparable(steps):
    for index, step in enumerate(steps):
        if RUN_ALL_THE_SAME.match(step.sent) and step.answer == OPAQUE_TOO_LONG:
            return steps[: index + 1]
    return steps


SEQUENCES = [Sequence(s.number, [ours(step) for step in comparable(s.steps)])
             for s in recorded.load()]


def connect(server):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(support.TIMEOUT)
    client.connect(server.unix_path)
    return client


def answers(client):
    """Everything up to the end: we have said our last word."""
    client.shutdown(socket.SHUT_WR)
    got = []
    while True:
        data = client.recv(1 << 20)
        if not data:
            return b"".join(got)
        got.append(data)


def send_all(server, sequence, pieces, pause):
    with connect(server) as client:
        for piece in pieces:
            client.sendall(piece)
            if pause:
                time.sleep(pause)
        return sequence.difference(answers(client))


def replay(server, sequence, pieces, forget, pause=0.0):
    """Returns the difference, or None. Values stored for one second expire when the second they
    were stored in ends: only differences without that explanation count."""
    for _ in range(TRIES):
        forget()
        second = int(time.time())
        difference = send_all(server, sequence, pieces, pause)
        if not difference or int(time.time()) == second:
            break
    return difference


def empty(server):
    with connect(server) as client:
        client.sendall(b"flush_all\r\n")
        assert answers(client) == b"OK\r\n"


def judge(differences):
    wrong = [difference for difference in differences if difference]
    if wrong:
        pytest.fail("%d replays differ\n" % len(wrong) + "\n".join(wrong[:20]), pytrace=False)


def replay_all(server, cut, pause=0.0):
    for sequence in SEQUENCES:
        yield replay(server, sequence, cut(sequence.stream()), lambda: empty(server), pause)


@pytest.fixture
def server():
    return Server("-t", "4", unix=True)


def test_nearly_all_of_the_recording_is_compared():
    assert len(SEQUENCES) == 498
    assert sum(len(sequence.steps) for sequence in SEQUENCES) > 11000


def test_whole_sequences(server):
    judge(replay_all(server, lambda stream: [stream]))


def test_byte_by_byte(server):
    """But for the marker, and for the inside of a long run of equal bytes, where nothing is
    decided."""
    pieces = re.compile(rb"%s|(.)\1{20,}(?=\1)|." % re.escape(recorded.MARKER.encode()), re.S)
    judge(replay_all(server, lambda stream: [match[0] for match in pieces.finditer(stream)]))


def test_cut_in_two(server):
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    choose = random.Random(seed)
    print("SEED=%d" % seed)

    def cut(stream):
        at = choose.randrange(1, len(stream))
        return [stream[:at], stream[at:]]

    for _ in range(50 if support.LONG else 2):
        judge(replay_all(server, cut, pause=0.0005))


# From several connections at once: each has keys of its own, which look like those of the
# recording.

CONNECTIONS = 8


def key_of(connection, key):
    """The key in whose place a connection has its own."""
    if re.fullmatch("k{250,}", key):
        return "cdefghij"[connection] * len(key)
    if key in ("a", "b"):
        return ("ABCDEFGH" if key == "a" else "STUVWXYZ")[connection]
    return {
        "key:3": "key:%d" % connection,
        "key3": "key%d" % connection,  # as it comes back from base64
        "Zm9v": "Zm9" + "opqrstuv"[connection],
        "x\x01y": "x%cy" % (connection + 1),
    }.get(key, key)


def rename_sent(connection, sent):
    line, newline, rest = sent.partition("\n")
    words = line.split(" ")
    named = [index for index, word in enumerate(words) if word]
    name = words[named[0]] if named else ""
    keys = {"get": named[1:], "gets": named[1:], "gat": named[2:],
            "gats": named[2:]}.get(name, named[1:2])
    for index in keys:
        key = words[index].rstrip("\r")
        words[index] = key_of(connection, key) + words[index][len(key) :]
    return " ".join(words) + newline + rest


def rename_answer(connection, answer):
    def change(match):
        return match[1] + key_of(connection, match[2])

    answer = re.sub(r"(^VALUE )(\S+)", change, answer, flags=re.M)
    return re.sub(r"(^(?:HD|VA|EN|NF|NS|EX)\b[^\r\n]*? k)([^ \r\n]+)", change, answer, flags=re.M)


def renamed(connection, sequence):
    steps = []
    for step in sequence.steps:
        if step.sent.startswith("flush_all"):
            break  # would be everybody's
        steps.append(Step(rename_sent(connection, step.sent),
                          rename_answer(connection, step.answer), step.marked))
    return Sequence(sequence.number, steps)


def forget(server, connection):
    keys = [key_of(connection, key) for key in ("a", "b", "key:3", "Zm9v", "x\x01y", "k" * 250)]
    lines = ["delete %s noreply" % key for key in keys] + ["md %s b" % keys[2], "md %s b" % keys[3]]
    with connect(server) as client:
        client.sendall("".join(line + "\r\n" for line in lines).encode("latin-1"))
        answers(client)


def test_eight_connections_at_once(server):
    def run(connection):
        for sequence in SEQUENCES[connection % 4 :: 4]:
            own = renamed(connection, sequence)
            if own.steps:
                yield replay(server, own, [own.stream()], lambda: forget(server, connection))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for differences in pool.map(lambda connection: list(run(connection)), range(CONNECTIONS)):
            judge(differences)
