"""The input of every published CVE of memcached, and how a robust server answers it; and bodies of
refused storage commands, which must never be run as commands. The inputs are taken from the
advisories."""
import os
import re
import socket
import subprocess
import time

import pytest

import support
from binary import (ADD, ADDQ, APPEND, APPENDQ, AUTH_ERROR, DELETE, FLUSH, GET, GETK, INVALID,
                    NOT_FOUND, NOT_STORED, OK, PREPEND, PREPENDQ, REPLACE, REPLACEQ, SASL_AUTH,
                    SASL_STEP, SET, SETQ, TOO_LARGE, UNKNOWN, ask, packet, plain, receive, refused,
                    statistics, store, talk)
from support import Server
from test_auth_file import FAILED, REFUSED, password_file, server_with, show
from test_udp import HEADER as FRAME
from test_udp import UdpServer

BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
TOO_LARGE_TEXT = b"SERVER_ERROR object too large for cache\r\n"
ERROR = b"ERROR\r\n"
ROOM_MIB = 200 if support.SANITIZED else 20


@pytest.fixture
def with_sasl():
    help_ = subprocess.run([support.CACHECASK, "-h"], stdout=subprocess.PIPE, check=True).stdout
    if b"sasl" not in help_.split(b"Built in:")[-1]:
        pytest.skip("built without SASL")
    path = os.path.join(support.place.new("sasl"), "users")
    with open(path, "w", encoding="ascii") as file:
        file.write("user:secret\n")
    support.give_away(path)
    return Server("-S", env={"MEMCACHED_SASL_PWDB": path})


def assert_served(server):
    """Another client comes right after, in either protocol, and the process lives."""
    with server.connect() as client:
        client.set(b"served", b"yes")
        client.talk(b"get served\r\n", b"VALUE served 0 3\r\nyes\r\nEND\r\n")
    with server.connect() as client:
        assert ask(client, packet(GETK, b"served"))[1:5] == (OK, b"\0\0\0\0", b"served", b"yes")
    assert server.is_alive(), server.log()


def assert_users_are_served(server):
    """The same where one has to say who one is."""
    with server.connect() as client:
        assert ask(client, plain(b"user", b"secret")).status == OK
        assert ask(client, store(SET, b"served", b"yes")).status == OK
        assert ask(client, packet(GET, b"served")).value == b"yes"
    assert server.is_alive(), server.log()


def assert_closes(server, request, status):
    """The request is refused with this status, the bytes after it are not run, and the connection
    ends."""
    opcode = request[1]
    with server.connect() as client:
        client.send(request + packet(FLUSH))
        assert receive(client)[:2] == (opcode, status), request
        client.expect_closed()


# One after the other

def test_cve_2009_1255(server, client):
    """`stats maps` showed /proc/self/maps, and with it where memory lies; it is no command, and no
    statistics show an address."""
    client.talk(b"stats maps\r\n", ERROR)
    client.talk(b"stats malloc\r\n", ERROR)
    for group in ("", "settings", "items", "slabs", "sizes", "conns", "store"):
        shown = client.ask(("stats %s" % group).strip().encode() + b"\r\n", b"END\r\n")
        assert not re.search(rb"\b(0x)?[57][0-9a-f]{11}\b(?! *\d)",
                             re.sub(rb"STAT (store_uuid|time|pid) .*", b"", shown)), shown
    assert_served(server)


@pytest.mark.parametrize("length",
                         [-1, -2, -2147483648, 2147483646, 2147483647, 4294967294, 4294967295,
                          4294967296, 18446744073709551614, 18446744073709551615])
def test_cve_2009_2415(server, length):
    """Two lengths whose sum overflows caused a write past the block; the request is refused, and
    announces no block."""
    before = server.resident_mib()
    for verb in (b"set", b"add", b"replace", b"append", b"prepend"):
        with server.connect() as client:
            client.talk(b"%s k 0 0 %d\r\n" % (verb, length), BAD_FORMAT)
            client.talk(b"get k\r\n", b"END\r\n")
    with server.connect() as client:
        client.talk(b"cas k 0 0 %d 1\r\n" % length, BAD_FORMAT)
        client.talk(b"ms k %d\r\n" % length, BAD_FORMAT)
        client.expect_nothing()
    assert server.resident_mib() < before + ROOM_MIB
    assert_served(server)


def test_cve_2010_1152(server):
    """Data without a line end was kept for ever; a line that long is the end of the connection."""
    before = server.resident_mib()
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        try:
            for _ in range(50):
                client.send(b"a" * 100000)
        except ConnectionError:
            pass
    for client in clients:
        assert client.rest() == b""
    assert server.resident_mib() < before + ROOM_MIB
    with server.connect() as client:
        client.send(b"a" * 3000)
        client.expect_closed()
    assert_served(server)


STORING = [(SET, 8), (ADD, 8), (REPLACE, 8), (SETQ, 8), (ADDQ, 8), (REPLACEQ, 8), (APPEND, 0),
           (PREPEND, 0), (APPENDQ, 0), (PREPENDQ, 0)]


@pytest.mark.parametrize("body_len", [0xFFFFFFE8, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF])
def test_cve_2011_4971(server, body_len):
    """A body that is negative as a signed number moved memory of that size; it is too large, and
    nothing is kept of it."""
    before = server.resident_mib()
    for opcode, extras_len in STORING:
        with server.connect() as client:
            client.send(packet(opcode, b"k", bytes(extras_len), body_len=body_len))
            assert receive(client) == refused(opcode, TOO_LARGE)
            client.send(packet(FLUSH) * 50000)  # all of it belongs to the body
            assert client.rest(0.05) == b""
    assert server.stats()["cmd_flush"] == "0"
    assert server.resident_mib() < before + ROOM_MIB
    assert_served(server)


def test_cve_2011_4971_in_sasl(with_sasl):
    """The same in what a client sends to authenticate itself: it is refused before anything of it
    is kept."""
    for opcode in (SASL_AUTH, SASL_STEP):
        for body_len in (0xFFFFFFE8, 0xFFFFFFFF, 0x80000000):
            with with_sasl.connect() as client:
                client.send(packet(opcode, b"PLAIN", b"", b"\0user\0secret", body_len=body_len))
                assert receive(client) == refused(opcode, AUTH_ERROR)
                client.expect_closed()
    assert_users_are_served(with_sasl)


NASTY_KEYS = [b"k" * 250, b"%s%n%x" * 41, b"\xff" * 250, b"k\0" * 125, b"\x1b[2J\r", b"k"]


@pytest.mark.parametrize("level", ["-vv", "-vvv"])
def test_cve_2013_0179(level):
    """A binary delete, logged with -vv, was printed beyond its key; it is answered, and logged with
    its key alone."""
    server = Server(level)
    with server.connect() as client:
        for key in NASTY_KEYS:
            assert ask(client, packet(DELETE, key)) == refused(DELETE, NOT_FOUND)
    for lie in (packet(DELETE, b"k", key_len=0xFFFF),
                packet(DELETE, b"k", key_len=0xFFFF, body_len=0)):
        assert_closes(server, lie, UNKNOWN)
    assert_closes(server, packet(DELETE, b"k" * 251), INVALID)
    assert_served(server)
    assert_lines_are_ours(server)


def assert_lines_are_ours(server):
    with open(server.log_path, "rb") as log:
        said = log.read()
    # A key has 250 bytes, and the letter of a flag may stand before it
    assert b"k" * 252 not in said
    assert all(len(line) < 4096 for line in said.split(b"\n"))
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f-\xff]",
                         said.replace("…".encode(), b"")), "bytes of clients are escaped"


@pytest.mark.parametrize("second", [
    packet(SASL_AUTH, b"PLAIN", b"", b"\0user\0wrong"),
    packet(SASL_STEP, b"PLAIN", b"", b"\0user\0wrong"), packet(SASL_AUTH, b"PLAIN"),
    packet(SASL_AUTH, b"NONSENSE", b"", b"x"),
], ids=["again", "step", "begun", "nonsense"])
def test_cve_2013_7239(with_sasl, second):
    """A client that was refused and tried again was let in; nobody gets in without the right
    password."""
    with with_sasl.connect() as client:
        client.send(plain(b"user", b"wrong") + second + store(SET, b"stolen", b"x"))
        assert receive(client) == refused(SASL_AUTH, AUTH_ERROR)
        assert receive(client).status != OK
        assert receive(client) == refused(SET, AUTH_ERROR)
        client.expect_closed()
    with with_sasl.connect() as client:
        assert ask(client, plain(b"user", b"secret")).status == OK
        assert ask(client, packet(GET, b"stolen")).status == NOT_FOUND
    assert_users_are_served(with_sasl)


def test_cve_2013_7290():
    """Logging a delete with -vv read on to the next NUL; keys of any length and bytes are deleted
    and logged."""
    server = Server("-vv")
    with server.connect() as client:
        for key in NASTY_KEYS:
            assert ask(client, store(SET, key, b"v" * 1000)).status == OK
            assert ask(client, packet(DELETE, key)).status == OK
            assert ask(client, packet(DELETE, key)) == refused(DELETE, NOT_FOUND)
    with server.connect() as client:
        client.talk(b"delete %s\r\n" % (b"k" * 250), b"NOT_FOUND\r\n")
        client.talk(b"delete %s\r\n" % (b"%n" * 125), b"NOT_FOUND\r\n")
        client.talk(b"delete %s\r\n" % (b"k" * 251), BAD_FORMAT)
    assert_served(server)
    assert_lines_are_ours(server)


def test_cve_2013_7291():
    """Other commands printed keys without a bound when verbose; all of them are answered, and
    logged in short lines."""
    server = Server("-vvv")
    for key in NASTY_KEYS:
        with server.connect() as client:
            assert ask(client, store(SET, key, b"1")).status == OK
        for opcode in range(0x25):
            # One of these is right for each that has a key, the others close
            for extras_len in (0, 4, 8, 20):
                with server.connect() as client:
                    client.send(packet(opcode, key, bytes(extras_len)))
    with server.connect() as client:
        for line in (b"get %s", b"gets %s %s", b"incr %s 1", b"touch %s 0", b"gat 0 %s",
                     b"mg %s v k", b"me %s", b"md %s", b"%s", b"stats %s",
                     b"lru_crawler metadump %s"):
            for key in (b"k" * 250, b"%n%s" * 60, b"\xfe" * 250):
                client.send(line.replace(b"%s", key) + b"\r\n")
    assert_served(server)
    assert_lines_are_ours(server)


@pytest.mark.parametrize("opcode", [APPEND, PREPEND, APPENDQ, PREPENDQ])
def test_cve_2016_8704(server, opcode):
    """An append whose key is longer than its body had a value of negative length; it is refused and
    closed."""
    for key_len, body_len in ((0xFA, 0), (0xFA, 1), (0xFA, 0xF9), (0xFFFF, 0xFFFE)):
        assert_closes(server, packet(opcode, b"k" * body_len, key_len=key_len, body_len=body_len),
                      UNKNOWN)
    assert_served(server)


@pytest.mark.parametrize("opcode", [SET, ADD, REPLACE, SETQ, ADDQ, REPLACEQ])
def test_cve_2016_8705(server, opcode):
    """The same in set, add and replace, whose extras count too; it is refused and closed."""
    for key_len, body_len in ((0xFA, 0), (0xFA, 0xFA), (0xFA, 0xFA + 7), (1, 8), (0xFFFF, 0xFFFF)):
        request = packet(opcode, b"", bytes(8), key_len=key_len,
                         body_len=body_len) + b"k" * body_len
        assert_closes(server, request, UNKNOWN)
    assert_closes(server, packet(opcode, b"k", bytes(7), b"v"), INVALID)
    assert_served(server)


def test_cve_2016_8706(with_sasl, server):
    """A mechanism that is longer than the body of its request; it is refused and closed, also where
    there is no SASL."""
    for opcode in (SASL_AUTH, SASL_STEP):
        for key_len, body_len in ((0x20, 1), (0x20, 0), (0xFA, 0xF9), (0xFFFF, 16)):
            lie = packet(opcode, b"x" * body_len, key_len=key_len, body_len=body_len)
            with with_sasl.connect() as client:
                client.send(lie)
                assert receive(client).status in (UNKNOWN, AUTH_ERROR)
                client.expect_closed()
            assert_closes(server, lie, UNKNOWN)
    assert_users_are_served(with_sasl)
    assert_served(server)


@pytest.mark.parametrize("opcode", [SET, ADD, SETQ, ADDQ])
def test_cve_2017_9951(server, opcode):
    """The fix of 2016-8705 forgot lengths compared with their sign; they are too large, or
    contradict themselves."""
    for body_len in (0x80000000, 0xFFFFFF00, 0xFFFFFFFF):
        with server.connect() as client:
            client.send(packet(opcode, b"k" * 250, bytes(8), body_len=body_len))
            assert receive(client) == refused(opcode, TOO_LARGE)
    for key_len, body_len in ((0xFFFF, 0xFFFFFFFF), (251, 0x80000000)):
        assert_closes(server, packet(opcode, b"k", bytes(8), key_len=key_len, body_len=body_len),
                      INVALID)
    assert_served(server)


def test_cve_2018_1000115(server, client):
    """UDP was on, and answers many times as large as requests went to whoever was named; it is off
    unless it is asked for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.3)
        udp.connect(("127.0.0.1", server.port))
        with pytest.raises((ConnectionRefusedError, socket.timeout)):
            udp.send(FRAME.pack(1, 0, 1, 0) + b"stats\r\n")
            udp.recv(1 << 16)
    assert client.stats("settings")["udpport"] == "0"
    assert_served(server)


def test_cve_2018_1000127(server):
    """With so many references to one item its reference count wrapped; readers get the old value,
    and the item is unharmed."""
    value = support.value_of(b"k", 3000)
    times = 70000
    with server.connect() as client:
        client.set(b"k", value)
    readers = [server.connect() for _ in range(3)]
    for reader in readers:
        reader.send(b"get" + b" k" * times + b"\r\n")
    # Each has referred to the item before it goes; else all its references might meet a key that is
    # deleted
    for reader in readers:
        assert reader.line() == b"VALUE k 0 3000\r\n" and reader.read(3002) == value + b"\r\n"
    for _ in range(3):
        with server.connect() as client:
            client.talk(b"touch k 0\r\n", b"TOUCHED\r\n")
            client.talk(b"delete k\r\n", b"DELETED\r\n")
            client.set(b"other", b"x" * 3000)
            client.set(b"k", value)
    readers[0].close()
    for reader in readers[1:]:
        seen = 1
        while (line := reader.line()) != b"END\r\n":
            assert line == b"VALUE k 0 3000\r\n" and reader.read(3002) == value + b"\r\n"
            seen += 1
        assert seen <= times
    with server.connect() as client:
        assert client.get(b"k") == value
        client.talk(b"delete k\r\n", b"DELETED\r\n")
        client.talk(b"get k\r\n", b"END\r\n")
    assert_served(server)


def test_cve_2019_11596(server, client):
    """`lru mode` and `lru temp_ttl` without their argument read a word that was not there; they are
    errors."""
    for line in (b"lru", b"lru mode", b"lru temp_ttl", b"lru tune", b"lru tune 10",
                 b"lru tune 10 20", b"lru nonsense", b"lru mode \0"):
        assert client.ask(line + b"\r\n", b"\r\n").startswith((b"ERROR", b"CLIENT_ERROR")), line
    client.expect_nothing()
    assert_served(server)


def test_cve_2019_15026():
    """`stats conns` read past the path of a Unix socket; it shows the path, however long it is, and
    each line is whole."""
    for length in (20, 107):
        folder = support.place.new("u")
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "s" * max(1, length - len(folder) - 1))
        server = Server(unix=True, start=False)
        server.unix_path = path
        server.start()
        with server.connect() as client:
            shown = client.ask(b"stats conns\r\n", b"END\r\n")
            assert re.fullmatch(rb"(STAT \d+:\w+ [\x20-\x7e]*\r\n)+END\r\n", shown), shown
            assert b"unix:" + path.encode() in shown
        assert_served(server)


@pytest.mark.parametrize("extras_len", [9, 20, 21, 24, 25, 64, 128, 255])
def test_cve_2020_10931(server, extras_len):
    """Extras longer than any command has were copied over the stack; they are refused and
    closed."""
    for opcode in (GET, SET, ADD, APPEND, DELETE, FLUSH, 0x05, 0x0A, 0x0B, 0x10, 0x1C, 0x1D):
        if (opcode, extras_len) != (0x05, 20):
            key = b"" if opcode in (FLUSH, 0x0A, 0x0B) else b"k"
            assert_closes(server, packet(opcode, key, bytes(extras_len)), INVALID)
            assert_closes(server,
                          packet(opcode, key, b"", extras_len=extras_len, body_len=len(key)),
                          UNKNOWN)
    with server.connect() as client:
        assert talk(client, packet(0x7F, b"k", bytes(extras_len))) == [refused(0x7F, UNKNOWN)]
    assert_served(server)


META = [
    (b"mg", BAD_FORMAT), (b"ms", BAD_FORMAT), (b"md", BAD_FORMAT), (b"ma", BAD_FORMAT),
    (b"me", BAD_FORMAT), (b"mg " + b"k" * 251, BAD_FORMAT), (b"me " + b"k" * 251, BAD_FORMAT),
    (b"ms k", BAD_FORMAT), (b"ms k x", BAD_FORMAT), (b"ms k -1", BAD_FORMAT),
    (b"ms k 2147483647", BAD_FORMAT), (b"mg k " + b"\xff" * 30, BAD_FORMAT),
    (b"mg k" + b" P" * 2, b"CLIENT_ERROR duplicate flag\r\n"),
    (b"mg k O" + b"x" * 100, b"CLIENT_ERROR opaque token too long\r\n"), (b"mg k !", BAD_FORMAT),
    (b"mg k T", b"CLIENT_ERROR bad token in command line format\r\n"),
    (b"mg k R99999999999999999999", b"CLIENT_ERROR bad token in command line format\r\n"),
    (b"mg ====  b", b"CLIENT_ERROR error decoding key\r\n"), (b"me k b x", BAD_FORMAT),
    (b"mg " + b" " * 2000, BAD_FORMAT),
]


@pytest.mark.parametrize("line, answer", META, ids=lambda value: repr(value[:20]))
def test_cve_2020_22570(server, client, line, answer):
    """Meta commands without what they need, or with more than they may have, ended the server; they
    are errors."""
    client.talk(line + b"\r\n", answer)
    client.talk(b"mn\r\n", b"MN\r\n")
    assert_served(server)


@pytest.mark.parametrize("content", [
    b"a:" + b"x" * 255 + b"\n", b"u" * 1000 + b":p\n", b"x" * 100000, b"x" * 100000 + b"\n",
    b"user\n", b"user", b"\n" * 100, b"a:b\n" + b"c" * 256 + b"\n", b"\0" * 300,
    b"user:pass\0word" + b"x" * 300, b"a:b\n:\n" + b"\xff" * 5000,
], ids=lambda content: "%d-%r" % (len(content), content[:6]))
def test_cve_2021_37519(content):
    """A password file with a line that is too long, or has no colon, caused a write past the
    buffer; it is refused, with a message."""
    path = password_file(content)
    status, said = Server("-Y", path, start=False).launch().wait_for_exit()
    assert status == 1 and path in said
    server = server_with(b"a:b\n" * 5)
    with server.connect() as client:
        client.talk(show(b"a", b"b"), b"STORED\r\n")
        client.expect_nothing()


def test_cve_2022_48571():
    """A request in more than one datagram ended the server; nothing says so any more: each of them
    is dropped."""
    server = UdpServer()
    udp = server.udp()
    value = b"set k 0 0 2000\r\n" + b"x" * 2000 + b"\r\n"
    before = int(server.stats("store")["udp_dropped"])
    for total in (0, 2, 3, 65535):
        for sequence in (0, 1, total):
            udp.send(value[sequence * 1000 % 2000 :][:1000], sequence=sequence, total=total)
    udp.expect_nothing()
    assert int(server.stats("store")["udp_dropped"]) == before + 12
    assert udp.ask(b"get k\r\n") == b"END\r\n"
    assert_served(server)


@pytest.mark.parametrize("blanks", [1, 20, 99, 240, 2000, 2040])
def test_cve_2023_46852(server, client, blanks):
    """Many blanks after `get` (in the proxy, which is not here) overflowed a table; they count for
    nothing."""
    client.set(b"k", b"value")
    for line in (b"get" + b" " * blanks + b"k\r\n", b"get k" + b" " * blanks + b"\r\n"):
        client.talk(line, b"VALUE k 0 5\r\nvalue\r\nEND\r\n")
    client.talk(b"get" + b" " * blanks + b"k" + b" " * blanks + b"none k\r\n",
                b"VALUE k 0 5\r\nvalue\r\n" * 2 + b"END\r\n")
    client.talk(b"mg" + b" " * blanks + b"k v\r\n", b"VA 5\r\nvalue\r\n")
    client.talk(b"get" + b" " * blanks + b"\r\n", BAD_FORMAT)
    assert_served(server)


def test_cve_2023_46853(server, client):
    """A line that ends in \\n alone (in the proxy) was read by one byte too much; it is a line like
    any other."""
    client.talk(b"set k 0 0 5\nvalue\r\n", b"STORED\r\n")
    client.talk(b"get k\n", b"VALUE k 0 5\r\nvalue\r\nEND\r\n")
    client.talk(b"mg k v\nmn\n", b"VA 5\r\nvalue\r\nMN\r\n")
    client.talk(b"delete k\nget k\n", b"DELETED\r\nEND\r\n")
    client.talk(b"\n", BAD_FORMAT)
    client.talk(b"get\n", BAD_FORMAT)
    client.talk(b"ms k 2\nhi\r\nmg k v\n", b"HD\r\nVA 2\r\nhi\r\n")
    assert_served(server)


# Bodies of refused storage commands: never run as commands.

ATTACK = b"delete victim\r\nflush_all\r\nset victim 0 0 4\r\nevil\r\nquit"
PADDING = b"\r\nflush_all" * 200  # over -I 1k
LARGE = ATTACK + PADDING
PACKETS = packet(DELETE, b"victim") + packet(FLUSH) + store(SET, b"victim", b"evil")


class Victim:
    """A server on which attacks may try to destroy something, and nothing was destroyed."""

    def __init__(self, *options, **more):
        self.server = Server("-I", "1k", *options, **more)
        with self.server.connect() as client:
            client.set(b"victim", b"precious")
            client.set(b"k", b"old")

    def check(self):
        with self.server.connect() as client:
            client.talk(b"get victim\r\n", b"VALUE victim 0 8\r\nprecious\r\nEND\r\n")
            stats = client.stats()
            assert (stats["cmd_flush"], stats["delete_hits"]) == ("0", "0")
        assert self.server.is_alive(), self.server.log()


@pytest.fixture(scope="module")
def shared_victim():
    victim = Victim(shared=True)
    support.shared_servers.remove(victim.server)
    yield victim
    victim.check()
    victim.server.give_up()


def say_at_once(client, line, body):
    client.send(line + b"\r\n" + body + b"\r\n")


def say_late(client, line, body):
    """The body comes when the line has been refused already, and in pieces."""
    client.send(line + b"\r\n")
    for at in range(0, len(body), 700):
        time.sleep(0.01)
        client.send(body[at : at + 700])
    client.send(b"\r\n")


VERBS = [b"set", b"add", b"replace", b"append", b"prepend", b"cas"]


def storing(verb, key=b"k", flags=b"0", exptime=b"0", length=len(ATTACK), unique=b"1", noreply=b""):
    line = b"%s %s %s %s %d" % (verb, key, flags, exptime, length)
    return line + (b" " + unique if verb == b"cas" else b"") + noreply


REFUSED_LINES = [
    (what, line, body, answer)
    for verb in VERBS
    for what, line, body, answer in [
        ("too large", storing(verb, length=len(LARGE)), LARGE, TOO_LARGE_TEXT),
        ("far too large", storing(verb, length=len(LARGE * 10)), LARGE * 10, TOO_LARGE_TEXT),
        ("bad flags", storing(verb, flags=b"x"), ATTACK, BAD_FORMAT),
        ("negative flags", storing(verb, flags=b"-1"), ATTACK, BAD_FORMAT),
        ("flags of 65 bits", storing(verb, flags=b"18446744073709551616"), ATTACK, BAD_FORMAT),
        ("bad expiry", storing(verb, exptime=b"x"), ATTACK, BAD_FORMAT),
        ("key too long", storing(verb, key=b"k" * 251), ATTACK, BAD_FORMAT),
        ("key far too long", storing(verb, key=b"k" * 1900), ATTACK, BAD_FORMAT),
        ("key too long, and too large", storing(verb, key=b"k" * 251, length=len(LARGE)), LARGE,
         BAD_FORMAT),
        ("bad flags, noreply", storing(verb, flags=b"x", noreply=b" noreply"), ATTACK, b""),
        ("too large, noreply", storing(verb, length=len(LARGE), noreply=b" noreply"), LARGE, b""),
    ]
] + [
    ("bad unique", storing(b"cas", unique=b"x"), ATTACK, BAD_FORMAT),
    ("no unique", b"cas k 0 0 %d" % len(ATTACK), ATTACK, BAD_FORMAT),
    ("bad chunk", b"set k 0 0 %d" % (len(ATTACK) - 2), ATTACK[:-2] + b"XX",
     b"CLIENT_ERROR bad data chunk\r\n" + BAD_FORMAT),
    ("ms, too large", b"ms k %d" % len(LARGE), LARGE, TOO_LARGE_TEXT),
    ("ms, unknown flag", b"ms k %d z" % len(ATTACK), ATTACK, b"CLIENT_ERROR invalid flag\r\n"),
    ("ms, flag twice", b"ms k %d c c" % len(ATTACK), ATTACK, b"CLIENT_ERROR duplicate flag\r\n"),
    ("ms, bad token", b"ms k %d Tx" % len(ATTACK), ATTACK,
     b"CLIENT_ERROR bad token in command line format\r\n"),
    ("ms, bad mode", b"ms k %d MX" % len(ATTACK), ATTACK,
     b"CLIENT_ERROR invalid mode for ms M token\r\n"),
    ("ms, long opaque", b"ms k %d O%s" % (len(ATTACK), b"o" * 40), ATTACK,
     b"CLIENT_ERROR opaque token too long\r\n"),
    ("ms, no flag", b"ms k %d 0 0" % len(ATTACK), ATTACK, BAD_FORMAT),
    ("ms, no flag among others", b"ms k %d c ! I" % len(ATTACK), ATTACK, BAD_FORMAT),
    ("ms, bad base64", b"ms A %d b" % len(ATTACK), ATTACK, b"CLIENT_ERROR error decoding key\r\n"),
    ("ms, key too long", b"ms %s %d" % (b"k" * 251, len(ATTACK)), ATTACK, BAD_FORMAT),
    ("add of what is there", b"add victim 0 0 %d" % len(ATTACK), ATTACK, b"NOT_STORED\r\n"),
    ("replace of nothing", b"replace none 0 0 %d" % len(ATTACK), ATTACK, b"NOT_STORED\r\n"),
    ("append to nothing", b"append none 0 0 %d" % len(ATTACK), ATTACK, b"NOT_STORED\r\n"),
    ("another unique", b"cas victim 0 0 %d 999999" % len(ATTACK), ATTACK, b"EXISTS\r\n"),
    ("cas of nothing", b"cas none 0 0 %d 1" % len(ATTACK), ATTACK, b"NOT_FOUND\r\n"),
]


@pytest.mark.parametrize("say", [say_at_once, say_late])
@pytest.mark.parametrize("what, line, body, answer", REFUSED_LINES,
                         ids=["%s %s" % (line[:7].split()[0].decode(), what)
                             for what, line, body, answer in REFUSED_LINES])
def test_the_body_of_a_refused_command_is_not_run(shared_victim, say, what, line, body, answer):
    with shared_victim.server.connect() as client:
        say(client, line, body)
        client.expect(answer)
        client.expect_nothing()
    shared_victim.check()


def test_the_body_of_a_command_without_room_is_not_run():
    victim = Victim("-M", "-m", "8", "--disk-limit", "4m", "--segment-size", "64k")
    with victim.server.connect() as client:
        for start in range(0, 40000, 100):
            client.send(b"".join(b"set fill-%d 0 0 900\r\n%s\r\n" % (n, b"x" * 900)
                                 for n in range(start, start + 100)))
            answers = {client.line() for _ in range(100)}
            if b"SERVER_ERROR out of memory storing object\r\n" in answers:
                break
        for say in (say_at_once, say_late):
            for n in range(1000):  # some room may have come since
                say(client, b"set new-%d 0 0 %d" % (n, len(ATTACK)), ATTACK)
                answer = client.line()
                if answer != b"STORED\r\n":
                    break
            assert answer == b"SERVER_ERROR out of memory storing object\r\n"
            client.expect_nothing()
    victim.check()


def test_the_body_of_one_who_has_shown_no_password_is_not_run():
    server = server_with(b"user:password\n")
    with server.connect() as client:
        client.talk(show(b"user", b"password"), b"STORED\r\n")
        client.set(b"victim", b"precious")
        with server.connect() as stranger:
            for say in (say_at_once, say_late):
                # It has the form of a password, `delete victim…`
                say(stranger, b"set x 0 0 %d" % len(ATTACK), ATTACK)
                stranger.expect(FAILED)
                say(stranger, b"set x 0 0 %d" % len(LARGE), LARGE)
                stranger.expect(b"CLIENT_ERROR bad authentication token format\r\n")
                say(stranger, b"add x 0 0 9", b"flush_all")
                say(stranger, b"ms x 9 0 0", b"flush_all")
                stranger.expect(REFUSED * 2)
        client.talk(b"get victim\r\n", b"VALUE victim 0 8\r\nprecious\r\nEND\r\n")
        assert client.stats()["cmd_flush"] == "0"


def test_a_line_that_announces_no_body_has_none(server, client):
    """As in memcached: no storage command, or a length that is no length; what follows is the next
    command, and is answered so."""
    for line, answer in ((b"SET k 0 0 9", ERROR), (b"store k 0 0 9", ERROR),
                         (b"set k 0 0 -9", BAD_FORMAT), (b"set k 0 0 x", BAD_FORMAT),
                         (b"set k 0 9", BAD_FORMAT), (b"ms k -9", BAD_FORMAT),
                         (b"ms k x !", BAD_FORMAT)):
        client.talk(line + b"\r\nget no:body\r\n", answer + b"END\r\n")
    assert_served(server)


@pytest.mark.parametrize("opcode, extras_len", STORING)
def test_the_body_of_a_refused_packet_is_not_run(shared_victim, opcode, extras_len):
    with shared_victim.server.connect() as client:
        large = packet(opcode, b"k", bytes(extras_len), PACKETS * 100)
        assert talk(client, large, large) == [refused(opcode, TOO_LARGE)] * 2
        late = packet(opcode, b"k", bytes(extras_len), PACKETS * 100)
        client.send(late[:30])
        time.sleep(0.01)
        client.send(late[30:])
        assert receive(client) == refused(opcode, TOO_LARGE)
        assert talk(client) == []
    shared_victim.check()


def test_the_body_of_a_packet_that_is_not_stored_is_not_run(shared_victim):
    with shared_victim.server.connect() as client:
        assert [answer.status for answer in talk(
            client, store(ADD, b"victim", PACKETS), store(REPLACE, b"none", PACKETS),
            packet(APPEND, b"none", b"", PACKETS), store(SET, b"victim", PACKETS, cas=999999),
            packet(0x45, b"k", b"", PACKETS))] == [2, 1, NOT_STORED, 2, UNKNOWN]
    shared_victim.check()


def test_the_body_of_a_strangers_packet_is_not_run(with_sasl):
    with with_sasl.connect() as user:
        assert ask(user, plain(b"user", b"secret")).status == OK
        assert ask(user, store(SET, b"victim", b"precious")).status == OK
        for request in (store(SET, b"k", PACKETS), packet(SASL_AUTH, b"PLAIN", b"", PACKETS),
                        packet(0x45, b"k", b"", PACKETS)):
            with with_sasl.connect() as stranger:
                stranger.send(request)
                assert receive(stranger) == refused(request[1], AUTH_ERROR)
                stranger.rest(0.05)
        assert ask(user, packet(GET, b"victim")).value == b"precious"
        assert statistics(user)["cmd_flush"] == "0"


def test_the_body_of_a_refused_datagram_is_not_run():
    server = UdpServer("-I", "1k")
    udp = server.udp()
    with server.connect() as client:
        client.set(b"victim", b"precious")
        assert udp.ask(b"set k 0 0 %d\r\n%s\r\n" % (len(LARGE), LARGE)) == TOO_LARGE_TEXT
        assert udp.ask(b"set k x 0 %d\r\n%s\r\n" % (len(ATTACK), ATTACK)) == BAD_FORMAT
        udp.send(b"set k 0 0 900\r\n" + ATTACK)  # the rest never comes
        udp.expect_nothing()
        client.talk(b"get victim\r\n", b"VALUE victim 0 8\r\nprecious\r\nEND\r\n")
        assert client.stats()["cmd_flush"] == "0"
