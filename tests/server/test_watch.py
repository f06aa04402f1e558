"""watch: operators see what happens, as it happens, and hold up nobody."""
import re
import socket
import struct
import threading
import time
import urllib.parse

import pytest

import support
from support import Server, wait_until

HEAD = re.compile(rb"ts=(\d{10}\.\d{6}) gid=(\d+) (type=.*)")
SKIPPED = re.compile(rb"skipped=(\d+)")


class Watcher:
    """A client that watches; lines() are what has come, without the ends that differ from run to
    run."""

    def __init__(self, server, events=b"fetchers", others=0):
        """others: connections that are open already; when they are watched, those before them must
        have ended."""
        self.client = server.connect()
        if b"connevents" in events:
            wait_until(lambda: self.client.stats()["curr_connections"] == str(others + 1),
                       "it is alone")
        self.client.talk(b"watch %s\r\n" % events, b"OK\r\n")
        self.heads = []

    def line(self):
        line = self.client.read_until(b"\n")[:-1]
        match = HEAD.fullmatch(line)
        assert match, line
        self.heads.append((int(match.group(2)), float(match.group(1))))
        return re.sub(rb"cfd=\d+", b"cfd=N", match.group(3))

    def expect(self, *lines):
        for line in lines:
            assert self.line() == line

    def nothing_else(self):
        """A line that all of these tests can provoke comes next."""
        assert self.client.rest(0.1) == b""


@pytest.fixture
def server():
    return Server("-t", "2")


def test_fetchers(server):
    watcher = Watcher(server)
    with server.connect() as client:
        client.set(b"key", b"value")
        client.talk(b"get key none key\r\n",
                    b"VALUE key 0 5\r\nvalue\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n")
        client.talk(b"gat 0 none\r\n", b"END\r\n")
    found = b"type=item_get key=key status=found clsid=1 cfd=N size=5"
    missed = b"type=item_get key=none status=not_found clsid=0 cfd=N size=0"
    watcher.expect(found, missed, found, missed)
    watcher.nothing_else()


def test_a_line_is_numbered_and_has_the_time(server):
    watcher = Watcher(server)
    with server.connect() as client:
        client.talk(b"get a b\r\n", b"END\r\n")
    watcher.line()
    watcher.line()
    (first, at), (second, then) = watcher.heads
    assert second == first + 1 and at <= then and abs(time.time() - at) < 10


def test_mutations(server):
    watcher = Watcher(server, b"mutations")
    with server.connect() as client:
        for line, answer in ((b"set k 0 100 5\r\nvalue", b"STORED"),
                             (b"add k 0 0 1\r\nx", b"NOT_STORED"),
                             (b"replace none 0 0 1\r\nx", b"NOT_STORED"),
                             (b"append k 0 0 1\r\nx", b"STORED"),
                             (b"prepend none 0 0 1\r\nx", b"NOT_STORED"),
                             (b"cas k 0 0 1 1\r\nx", b"EXISTS"),
                             (b"cas none 0 0 1 1\r\nx", b"NOT_FOUND"),
                             (b"set k 0 -1 1\r\nx", b"STORED"),
                             (b"set k 0 0 2000000\r\n" + b"x" * 2000000,
                              b"SERVER_ERROR object too large for cache")):
            client.talk(line + b"\r\n", answer + b"\r\n")
    watcher.expect(*(b"type=item_store key=" + line for line in (
        b"k status=stored cmd=set ttl=100 clsid=1 cfd=N size=5",
        b"k status=not_stored cmd=add ttl=0 clsid=1 cfd=N size=1",
        b"none status=not_stored cmd=replace ttl=0 clsid=1 cfd=N size=1",
        b"k status=stored cmd=append ttl=0 clsid=1 cfd=N size=1",
        b"none status=not_stored cmd=prepend ttl=0 clsid=1 cfd=N size=1",
        b"k status=exists cmd=cas ttl=0 clsid=1 cfd=N size=1",
        b"none status=not_found cmd=cas ttl=0 clsid=1 cfd=N size=1",
        b"k status=stored cmd=set ttl=-1 clsid=1 cfd=N size=1",
        b"k status=too_large cmd=set ttl=0 clsid=1 cfd=N size=0")))
    watcher.nothing_else()


def test_deletions_sysevents_and_rawcmds_together(server):
    watcher = Watcher(server, b"deletions sysevents rawcmds")
    with server.connect() as client:
        client.set(b"k", b"v")
        client.talk(b"delete k\r\n", b"DELETED\r\n")
        client.talk(b"delete k\r\n", b"NOT_FOUND\r\n")
        client.talk(b"get a b\r\n", b"END\r\n")
        client.talk(b"incr none 1\r\nnonsense\r\n", b"NOT_FOUND\r\nERROR\r\n")
        client.talk(b"set k 0 0 2000000\r\n" + b"x" * 2000000 + b"\r\n",
                    b"SERVER_ERROR object too large for cache\r\n")
        client.talk(b"cache_memlimit 100\r\n", b"OK\r\n")
        client.talk(b"flush_all\r\n", b"OK\r\n")
    raw = b"type=raw_cmd cfd=N cmd="
    watcher.expect(raw + b"set%20k%200%200%201", raw + b"delete%20k",
                   b"type=deleted key=k cmd=delete clsid=1 cfd=N", raw + b"delete%20k",
                   raw + b"get%20a%20b", raw + b"incr%20none%201", raw + b"nonsense",
                   raw + b"set%20k%200%200%202000000", b"type=memory_limit megabytes=100",
                   raw + b"cache_memlimit%20100")
    assert re.fullmatch(rb"type=flush_all at=\d+", watcher.line())
    watcher.expect(raw + b"flush_all")
    watcher.nothing_else()


def test_what_is_not_watched_is_not_told(server):
    with server.connect() as client:
        client.set(b"k", b"v")
        watcher = Watcher(server, b"connevents", others=1)
        client.talk(b"get k\r\ndelete k\r\n", b"VALUE k 0 1\r\nv\r\nEND\r\nDELETED\r\n")
        client.set(b"k", b"v")
        watcher.nothing_else()


def test_connevents(server):
    watcher = Watcher(server, b"connevents")

    def opened():
        match = re.fullmatch(rb"type=conn_new rip=127.0.0.1 rport=(\d+) transport=tcp cfd=N",
                             watcher.line())
        assert int(match.group(1)) == port

    def closed(reason):
        watcher.expect(b"type=conn_close rip=127.0.0.1 rport=%d transport=tcp reason=%s cfd=N"
                       % (port, reason))

    def reset(client):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    for act, reason in ((lambda client: client.close(), b"normal"),
                        (lambda client: client.send(b"quit\r\n"), b"normal"),
                        (lambda client: client.send(b"x" * 3000), b"error"), (reset, b"error"),
                        (lambda client: client.send(b"GET / HTTP/1.0\r\n"), b"error")):
        client = server.connect()
        port = client.socket.getsockname()[1]
        opened()
        act(client)
        closed(reason)


def test_connevents_of_a_unix_socket():
    server = Server(unix=True)
    watcher = Watcher(server, b"connevents")
    server.connect().close()
    watcher.expect(b"type=conn_new rip=unix rport=0 transport=local cfd=N",
                   b"type=conn_close rip=unix rport=0 transport=local reason=normal cfd=N")


def test_no_key_forges_a_line(server):
    """Control bytes and blanks cannot end a word; every byte can be told from what stands there."""
    watcher = Watcher(server, b"fetchers mutations deletions rawcmds")
    key = b"\rts=1.0%gid=1\x01\x7f\xff\\\"'" + b"\xfe" * 200
    with server.connect() as client:
        client.set(key, b"1")
        client.talk(b"get %s\r\n" % key, b"VALUE %s 0 1\r\n1\r\nEND\r\n" % key)
        client.talk(b"delete %s\r\n" % key, b"DELETED\r\n")
    seen = []
    for _ in range(6):
        line = watcher.line()
        assert re.fullmatch(rb"[\x21-\x7e]+( [\x21-\x7e]+)*", line)
        if b" key=" in line:
            seen.append(urllib.parse.unquote_to_bytes(re.search(rb" key=(\S+)", line).group(1)))
    assert seen == [key] * 3


def test_evictions():
    server = Server("-m", "2", "--disk-limit=4m", "--segment-size=128k", "-o",
                    "worker_logbuf_size=4096,watcher_logbuf_size=4096")
    watcher = Watcher(server, b"evictions")
    evicted = []
    with server.connect() as client:
        for n in range(4000):
            client.send(b"set key-%d 0 %d 2000 noreply\r\n%s\r\n"
                        % (n, 1000 * (n % 2), b"x" * 2000))
        client.expect_nothing()
        wait_until(lambda: int(client.stats()["evictions"]) > 100, "evictions")
        wait_until(lambda: int(client.stats()["log_worker_written"]) ==
                   int(client.stats()["evictions"]), "all are told")
        count = int(client.stats()["evictions"])
        for _ in range(count):
            match = re.fullmatch(rb"type=eviction key=key-(\d+) fetch=no ttl=(-1"
                                 rb"|\d+) la=\d+ clsid=1 size=2000", watcher.line())
            n = int(match.group(1))
            assert (match.group(2) == b"-1") == (n % 2 == 0)
            evicted.append(b"key-%d" % n)
        assert len(set(evicted)) == count
        assert client.gets(*evicted) == {}


def test_what_cannot_be_watched(server):
    with server.connect() as client:
        client.talk(b"watch nonsense\r\nwatch fetchers nonsense\r\nget a\r\n",
                    b"ERROR\r\nERROR\r\nEND\r\n")
    server = Server("-W")
    with server.connect() as client:
        refused = b"CLIENT_ERROR watch commands not allowed\r\n"
        client.talk(b"watch\r\nwatch fetchers\r\nwatch nonsense\r\nget a\r\n",
                    refused * 3 + b"END\r\n")


def test_watch_alone_watches_fetchers(server):
    watcher = Watcher(server, b"")
    with server.connect() as client:
        client.talk(b"set k 0 0 1\r\nx\r\nget none\r\n", b"STORED\r\nEND\r\n")
    assert b"item_get key=none" in watcher.line()
    watcher.nothing_else()


@pytest.mark.parametrize("sync", ["always", "1"])
def test_what_comes_before_watch_is_answered_and_what_comes_behind_it_is_not(sync):
    server = Server("--sync=" + sync)
    with server.connect() as watcher, server.connect() as client:
        watcher.send(b"set k 0 0 1\r\nx\r\nwatch mutations\r\nget k\r\nquit\r\n" + b"y" * 3000)
        watcher.expect(b"STORED\r\nOK\r\n")
        watcher.send(b"get k\r\nset k 0 0 1\r\ny\r\n")
        assert client.get(b"k") == b"x"
        client.set(b"other", b"1")
        assert b"key=other" in watcher.read_until(b"\n")
        assert watcher.rest(0.1) == b""


def test_a_watcher_that_closes_is_forgotten(server):
    watchers = [Watcher(server) for _ in range(3)]
    with server.connect() as client:
        assert client.stats()["log_watchers"] == "3"
        watchers[0].client.close()
        watchers[1].client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                             struct.pack("ii", 1, 0))
        watchers[1].client.close()
        wait_until(lambda: client.stats()["log_watchers"] == "1", "two have gone")
        client.talk(b"get a\r\n", b"END\r\n")
        watchers[2].line()
        watchers[2].client.close()
        wait_until(lambda: client.stats()["log_watchers"] == "0", "all have gone")
        wait_until(lambda: client.stats()["curr_connections"] == "1", "their connections too")
        written = client.stats()["log_worker_written"]
        client.talk(b"get a\r\n", b"END\r\n")
        assert client.stats()["log_worker_written"] == written


def test_a_new_watcher_does_not_see_what_was_before_it(server):
    first = Watcher(server)
    with server.connect() as client:
        for _ in range(10):  # lines are on their way when it begins to watch
            with server.connect() as second:
                second.talk(b"get old\r\n" * 50 + b"watch\r\n", b"END\r\n" * 50 + b"OK\r\n")
                client.talk(b"get new\r\n", b"END\r\n")
                assert b"key=new" in second.read_until(b"\n")
    for _ in range(10):
        first.expect(*[b"type=item_get key=old status=not_found clsid=0 cfd=N size=0"] * 50)
        assert b"key=new" in first.line()


def test_twenty_may_watch(server):
    watchers = [Watcher(server) for _ in range(20)]
    with server.connect() as client:
        client.talk(b"watch\r\nget a\r\n", b"WATCHER_TOO_MANY log watcher limit reached\r\nEND\r\n")
        for watcher in watchers:
            assert b"key=a" in watcher.line()
        states = [value for name, value in client.stats("conns").items() if name.endswith(":state")]
        assert states.count("conn_watch") == 20
        watchers[5].client.close()
        wait_until(lambda: client.stats()["log_watchers"] == "19", "one has gone")
        Watcher(server)


def test_lines_of_all_workers_come_in_the_order_of_their_numbers():
    server = Server("-t", "4", "-o", "worker_logbuf_size=4096,watcher_logbuf_size=16384")
    watcher = Watcher(server)
    count = 2000 if support.SANITIZED else 10000

    def fetch(name):
        with server.connect() as client:
            for start in range(0, count, 50):
                client.ask(b"".join(b"get %s-%d\r\n" % (name, n) for n in range(start, start + 50)),
                           b"END\r\n" * 50)

    threads = [threading.Thread(target=fetch, args=(b"c%d" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen = {b"c%d" % n: 0 for n in range(4)}
    for _ in range(4 * count):
        name, n = re.search(rb"key=(c\d)-(\d+) ", watcher.line()).groups()
        assert int(n) == seen[name]
        seen[name] += 1
    for thread in threads:
        thread.join()
    gids = [gid for gid, _ in watcher.heads]
    assert gids == list(range(gids[0], gids[0] + 4 * count))
    watcher.nothing_else()


def test_a_watcher_that_does_not_read_loses_lines_and_is_told_how_many():
    server = Server("-t", "2", "-o", "watcher_logbuf_size=4,worker_logbuf_size=4096")
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.settimeout(support.TIMEOUT)
    lazy.connect(("127.0.0.1", server.port))
    lazy.sendall(b"watch fetchers\r\n")
    assert lazy.recv(4) == b"OK\r\n"
    sent = 0
    with server.connect() as client:
        before = server.resident_mib()
        while int(client.stats()["log_watcher_skipped"]) < 1000:
            client.ask(b"get %s\r\n" % (b"k" * 200) * 1000, b"END\r\n" * 1000)
            sent += 1000
        wait_until(lambda: sum(int(client.stats()[name]) for name in
                               ("log_watcher_sent", "log_watcher_skipped", "log_worker_dropped")) ==
                   sent, "all are passed on")
        assert server.resident_mib() - before < 16
        stats = client.stats()
    buffer = b""
    lines = skipped = told = 0
    while lines < int(stats["log_watcher_sent"]):
        buffer += lazy.recv(1 << 16)
        *whole, buffer = buffer.split(b"\n")
        for line in whole:
            match = SKIPPED.fullmatch(line)
            if match:
                skipped += int(match.group(1))
            else:
                assert HEAD.fullmatch(line), line
                lines += 1
    # The count of lost lines is logged before the next line
    with server.connect() as client:
        while skipped < int(client.stats()["log_watcher_skipped"]):
            client.talk(b"get last\r\n", b"END\r\n")
            buffer += lazy.recv(1 << 16)
            skipped += sum(int(n) for n in SKIPPED.findall(buffer))
            buffer = buffer[buffer.rfind(b"\n") + 1:]
            told += 1
            assert told < 10
    lazy.close()


def test_a_worker_that_is_too_fast_drops_lines_and_counts_them():
    server = Server("-t", "1", "-o", "worker_logbuf_size=1")
    watcher = Watcher(server)
    with server.connect() as client:
        for _ in range(50):
            client.ask(b"get %s\r\n" % b" ".join(b"k%d" % n for n in range(200)), b"END\r\n")
        stats = client.stats()
        assert int(stats["log_worker_dropped"]) > 0
        assert int(stats["log_worker_dropped"]) + int(stats["log_worker_written"]) == 50 * 200
        for _ in range(int(stats["log_worker_written"])):
            watcher.line()


def test_the_server_stops_while_somebody_watches(server):
    watchers = [Watcher(server, b"fetchers connevents", others=n) for n in range(4)]
    with server.connect() as client:
        client.send(b"get a\r\n" * 10000)
        client.read(5)
        server.stop()
    for watcher in watchers:
        watcher.client.close()
