"""lru_crawler metadump and mgdump: every key is listed once, and a client that lists holds up
nobody."""
import base64
import re
import socket
import threading
import time
import urllib.parse

import pytest

import support
from support import Server, forget_page_cache, value_of, wait_until

VALUE = 300
# Values of several times -m 2
KEYS = 100000 if support.LONG else (8000 if support.SANITIZED else 30000)
OK = b"OK\r\n"
BUSY = b"BUSY currently processing crawler request\r\n"
LINE = re.compile(rb"key=(\S+) exp=(-1|\d+) la=(\d+) cas=(\d+) fetch=(yes"
                  rb"|no) cls=1 size=(\d+) flags=(\d+)")


def key(number, kind=b"key"):
    """Long in metadump's lines, so that all of them are more than a socket takes."""
    return b"%s-%07d-%s" % (kind, number, b"/" * 150)


def load(server, start, end, kind=b"key"):
    with server.connect() as client:
        for first in range(start, end, 1000):
            numbers = range(first, min(first + 1000, end))
            client.send(b"".join(b"set %s 0 0 %d noreply\r\n%s\r\n"
                                 % (key(n, kind), VALUE, value_of(b"%d" % n, VALUE))
                                 for n in numbers))
        client.expect_nothing()


def metadump(client, which=b"all"):
    """[(key, words)], once it does not get BUSY."""
    answer = ask_until_free(client, b"lru_crawler metadump %s\r\n" % which, b"END\r\n")
    assert answer.startswith(OK), answer[:100]
    lines = [LINE.fullmatch(line) for line in answer[len(OK) : -len(b"END\r\n")].split(b"\n")[:-1]]
    assert all(lines), answer[:2000]
    return [(urllib.parse.unquote_to_bytes(line.group(1)), line.groups()) for line in lines]


def mgdump(client, which=b"all"):
    answer = ask_until_free(client, b"lru_crawler mgdump %s\r\n" % which, b"EN\r\n")
    assert answer.startswith(OK), answer[:100]
    keys = []
    for line in answer.split(b"\r\n")[1:-2]:
        words = line.split(b" ")
        assert words[0] == b"mg" and words[2:] in ([], [b"b"]), line
        keys.append(base64.b64decode(words[1], validate=True) if words[2:] else words[1])
    return keys


def ask_until_free(client, command, end):
    """A dump that was left by its client counts until its thread has noticed."""
    for _ in range(6000):
        client.send(command)
        answer = client.read(4)
        if answer != BUSY[:4]:
            return answer if answer.endswith(end) else answer + client.read_until(end)
        client.expect(BUSY[4:])
        time.sleep(0.01)
    raise AssertionError("BUSY for ever")


def assert_once(keys, wanted):
    assert len(keys) == len(set(keys)), "listed more than once"
    assert set(keys) == set(wanted)


@pytest.fixture
def server():
    return Server("-m", "8", "-t", "2")


@pytest.fixture
def full():
    """A server with more data than memory."""
    server = Server("-m", "8" if support.LONG else "2", "--segment-size=1m", "-t", "2")
    load(server, 0, KEYS)
    forget_page_cache(server)
    return server


class Lazy:
    """A client that asks for a dump and does not read it: its socket takes only a little."""

    def __init__(self, server, command=b"lru_crawler metadump all\r\n"):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(support.TIMEOUT)
        self.socket.connect(("127.0.0.1", server.port))
        self.socket.sendall(command)
        assert self.socket.recv(3)

    def rest(self, end):
        data = bytearray()
        while not data.endswith(end):
            part = self.socket.recv(1 << 16)
            assert part, "closed"
            data += part
        return bytes(data)

    def close(self):
        self.socket.close()


def test_an_empty_store(server):
    with server.connect() as client:
        client.talk(b"lru_crawler metadump all\r\nlru_crawler mgdump all\r\n"
                    b"lru_crawler metadump hash\r\n",
                    b"OK\r\nEND\r\nOK\r\nEN\r\nOK\r\nEND\r\n")


def test_the_words_of_a_line(server):
    with server.connect() as client:
        wait_until(lambda: int(client.stats("store")["cache_pages"]) >= 2, "values are cached")
        now = int(client.stats()["time"])
        client.set(b"one", b"abc", flags=7)
        client.set(b"two", b"", exptime=1000)
        assert client.get(b"two") == b""
        cas = {k: client.cas_of(k) for k in (b"one", b"two")}
        lines = {k: words for k, words in metadump(client)}
        assert set(lines) == {b"one", b"two"}
        for name, flags, fetched in ((b"one", b"7", b"yes"), (b"two", b"0", b"yes")):
            _, _, accessed, unique, fetch, size, client_flags = lines[name]
            assert 0 <= int(accessed) - now <= 5
            assert (int(unique), fetch, client_flags) == (cas[name], fetched, flags)
            assert int(size) >= 35
        assert lines[b"one"][1] == b"-1"
        assert 1000 <= int(lines[b"two"][1]) - now <= 1005
        client.set(b"three", b"x")
        assert dict(metadump(client))[b"three"][4] == b"no"


def test_keys_are_url_encoded_or_base64(server):
    plain = [b"plain", b"A-Z_0.9~", b"a%b+c&d=e", b"um\xc3\xa4laut", b"\xff\xfe",
             b"q\"<>[]{}|\\^`@:;,?#$'()*!/"]
    other = [b"c\x01", b"cc\x02\x7f", b"ccc\x7f", b"tab\there", b"nul\x00"]
    with server.connect() as client:
        for name in plain + other:
            client.set(name, b"x")
        answer = client.ask(b"lru_crawler metadump all\r\n", b"END\r\n")
        assert b"key=a%25b%2Bc%26d%3De exp" in answer
        assert b"key=A-Z_0.9~ exp" in answer
        assert b"key=%FF%FE exp" in answer
        assert_once([name for name, _ in metadump(client)], plain + other)
        answer = client.ask(b"lru_crawler mgdump all\r\n", b"EN\r\n")
        assert_once(answer.split(b"\r\n")[1:-2],
                    [b"mg " + name for name in plain] +
                    [b"mg " + base64.b64encode(name) + b" b" for name in other])
        assert_once(mgdump(client), plain + other)


def test_a_key_of_250_bytes_that_must_all_be_encoded(server):
    with server.connect() as client:
        client.set(b"\x01" * 250, b"x")
        client.set(b"\xff" * 250, b"x", flags=4294967295, exptime=2000000000)
        assert_once([name for name, _ in metadump(client)], [b"\x01" * 250, b"\xff" * 250])
        assert_once(mgdump(client), [b"\x01" * 250, b"\xff" * 250])


def test_classes(server):
    with server.connect() as client:
        client.set(b"one", b"1")
        for which in (b"all", b"hash", b"1", b"1,2", b"2,1", b"63,1", b"1,"):
            assert [name for name, _ in metadump(client, which)] == [b"one"], which
            assert mgdump(client, which) == [b"one"], which
        for which in (b"2", b"63", b"2,3"):
            client.talk(b"lru_crawler metadump %s\r\nlru_crawler mgdump %s\r\n" % (which, which),
                        b"OK\r\nEND\r\nOK\r\nEN\r\n")
        for which in (b"x", b"0", b"64", b"1,64", b"1,x", b"-1", b"1x", b"ALL",
                      b"99999999999999999999"):
            client.talk(b"lru_crawler metadump %s\r\n" % which, b"BADCLASS invalid class id\r\n")
            client.talk(b"lru_crawler mgdump %s\r\n" % which, b"BADCLASS invalid class id\r\n")
        client.talk(b"lru_crawler metadump ,\r\n", b"NOTSTARTED no items to crawl\r\n")
        for wrong in (b"metadump", b"mgdump", b"metadump all x", b"metadump all noreply", b"", b"x",
                      b"x y"):
            client.talk(b"lru_crawler %s\r\n" % wrong, b"ERROR\r\n")


def test_the_other_subcommands(server):
    with server.connect() as client:
        for args, answer in ((b"enable", b"OK"), (b"disable", b"OK"), (b"crawl all", b"OK"),
                             (b"crawl 1,2", b"OK"), (b"crawl x", b"BADCLASS invalid class id"),
                             (b"crawl 64", b"BADCLASS invalid class id"), (b"crawl", b"ERROR"),
                             (b"sleep 0", b"OK"), (b"sleep 1000000", b"OK"), (b"sleep", b"ERROR"),
                             (b"sleep 1000001", b"CLIENT_ERROR sleep must be one second or less"),
                             (b"sleep x", b"CLIENT_ERROR bad command line format"),
                             (b"tocrawl 5", b"OK"),
                             (b"tocrawl -1", b"CLIENT_ERROR bad command line format"),
                             (b"enable x", b"ERROR")):
            client.talk(b"lru_crawler %s\r\n" % args, answer + b"\r\n")


def test_disabled_by_X():
    server = Server("-X")
    with server.connect() as client:
        client.set(b"one", b"1")
        client.talk(b"lru_crawler metadump all\r\n", b"ERROR metadump not allowed\r\n")
        client.talk(b"lru_crawler mgdump all\r\n", b"ERROR mgdump not allowed\r\n")
        client.talk(b"lru_crawler crawl all\r\n", b"OK\r\n")


def test_what_is_dead_is_not_listed(server):
    with server.connect() as client:
        for name in (b"stays", b"deleted", b"expires", b"overwritten"):
            client.set(name, b"1")
        client.talk(b"delete deleted\r\n", b"DELETED\r\n")
        client.talk(b"touch expires -1\r\n", b"TOUCHED\r\n")
        client.set(b"overwritten", b"2")
        assert_once(mgdump(client), [b"stays", b"overwritten"])
        client.talk(b"flush_all\r\nset new 0 0 1\r\nx\r\n", b"OK\r\nSTORED\r\n")
        assert_once(mgdump(client), [b"new"])


def test_commands_in_one_pipeline_keep_their_order(server):
    with server.connect() as client:
        client.send(b"set a 0 0 1\r\n1\r\nget a\r\nlru_crawler mgdump all\r\nget a\r\n"
                    b"set b 0 0 1\r\n2\r\n"
                    b"lru_crawler mgdump 2\r\nlru_crawler mgdump hash\r\ndelete a\r\n"
                    b"lru_crawler mgdump 1\r\nquit\r\nget b\r\n")
        client.expect(b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nOK\r\nmg a\r\nEN\r\nVALUE a 0 1\r\n"
                      b"1\r\nEND\r\nSTORED\r\nOK\r\nEN\r\n")
        assert_once(client.read_until(b"EN\r\n").split(b"\r\n")[:-2], [b"OK", b"mg a", b"mg b"])
        client.expect(b"DELETED\r\nOK\r\nmg b\r\nEN\r\n")
        client.expect_closed()


def test_every_key_of_a_store_larger_than_memory_once(full):
    wanted = [key(n) for n in range(KEYS)]
    with full.connect() as client:
        assert_once([name for name, _ in metadump(client)], wanted)
        assert_once(mgdump(client, b"hash"), wanted)
    full.restart("kill9")
    forget_page_cache(full)
    with full.connect() as client:
        assert_once([name for name, _ in metadump(client)], wanted)
        assert full.stats("store")["corrupt_records"] == "0"


@pytest.mark.parametrize("sync", ["always", "1"])
def test_a_dump_behind_writes_of_the_same_pipeline(sync):
    server = Server("-m", "8", "--sync=" + sync)
    with server.connect() as client:
        for turn in range(20):
            client.send(b"set key-%d 0 0 1\r\nx\r\nlru_crawler mgdump all\r\nversion\r\n" % turn)
            client.expect(b"STORED\r\nOK\r\n")
            assert_once(client.read_until(b"EN\r\n").split(b"\r\n")[:-2],
                        [b"mg key-%d" % n for n in range(turn + 1)])
            assert client.line().startswith(b"VERSION ")


def test_keys_that_stay_are_listed_once_while_others_come_and_go(full):
    stop = threading.Event()

    def write(seed):
        with full.connect() as client:
            turn = 0
            while not stop.is_set():
                turn += 1
                first = turn * 100 * seed % (KEYS // 2)
                client.send(b"".join(
                    b"set %s 0 0 3 noreply\r\nnew\r\nset %s 0 0 1 noreply\r\nx\r\n"
                    b"delete %s noreply\r\ntouch %s 0 noreply\r\n"
                    % (key(n), key(n % 2000, b"other"), key(n % 1999, b"other"), key(n + KEYS // 2))
                    for n in range(first, first + 100)))
                client.expect_nothing()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 3)]
    for writer in writers:
        writer.start()
    try:
        with full.connect() as client:
            for _ in range(3):
                keys = [name for name, _ in metadump(client)]
                assert len(keys) == len(set(keys))
                assert_once([name for name in keys if name.startswith(b"key-")],
                            [key(n) for n in range(KEYS)])
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_a_client_that_does_not_read_holds_up_nobody(full):
    lazy = Lazy(full)
    before = full.resident_mib()
    with full.connect() as one, full.connect() as other:  # one of them is with the same worker
        for turn in range(200):
            for client in (one, other):
                client.set(b"hot-%d" % turn, b"x")
                assert client.get(key(turn * 7)) is not None
        one.talk(b"lru_crawler mgdump all\r\n", BUSY)
        other.talk(b"lru_crawler metadump hash\r\n", BUSY)
        one.talk(b"lru_crawler metadump x\r\n", b"BADCLASS invalid class id\r\n")
    assert full.resident_mib() - before < 16
    lines = lazy.rest(b"END\r\n").split(b"\n")
    # A part of the first line was read before
    assert len([line for line in lines if b"key-" in line]) >= KEYS - 1
    lazy.socket.sendall(b"version\r\n")
    assert lazy.socket.recv(100).startswith(b"VERSION")
    with full.connect() as client:
        assert len(mgdump(client)) == KEYS + 200


def test_what_a_lazy_client_sends_meanwhile_waits(full):
    lazy = Lazy(full, b"lru_crawler metadump all\r\nset mine 0 0 1\r\nx\r\n")
    with full.connect() as client:
        lazy.socket.sendall(b"get mine\r\n")
        time.sleep(0.1)
        assert client.get(b"mine") is None
        value = b"VALUE mine 0 1\r\nx\r\nEND\r\n"
        assert lazy.rest(value).endswith(b"\nEND\r\nSTORED\r\n" + value)
        assert client.get(b"mine") == b"x"


def test_clients_that_close_in_the_middle(full):
    for _ in range(10):
        with full.connect() as client:
            client.talk(b"get none\r\n", b"END\r\n")
            ask = b"lru_crawler metadump all\r\n"
            client.send(ask)
            while client.read(4) == BUSY[:4]:
                client.expect(BUSY[4:])
                client.send(ask)
    for _ in range(5):
        lazy = Lazy(full)
        lazy.close()
        with full.connect() as client:
            assert_once(mgdump(client), [key(n) for n in range(KEYS)])
    wait_until(lambda: int(full.stats()["curr_connections"]) <= 2, "closed connections are gone")


def test_a_client_that_only_sends_gets_all(full):
    """As in: echo lru_crawler mgdump all | nc."""
    with full.connect() as client:
        client.send(b"lru_crawler mgdump all\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert len(client.read_until(b"\r\nEN\r\n").split(b"\r\n")) == KEYS + 3
        client.expect_closed()


def test_many_dumps_one_after_the_other_and_at_once(server):
    load(server, 0, 2000)
    wanted = {key(n) for n in range(2000)}
    failures = []

    def dump():
        try:
            with server.connect() as client:
                for _ in range(10):
                    assert_once(mgdump(client), wanted)
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=dump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_the_server_stops_during_a_dump(full):
    lazy = Lazy(full)
    time.sleep(0.5)  # and its dump has come as far as it can
    full.stop()
    lazy.close()
    full.start()
    with full.connect() as client:
        client.send(b"lru_crawler metadump all\r\n")
        client.read(10)
        full.stop()
