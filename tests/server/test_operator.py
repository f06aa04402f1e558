"""The commands of operators: what they answer, beside what Debian's memcached answers to the same
bytes."""
import os
import re
import subprocess

import pytest

import support
from support import Client, Server, free_port, wait_until

MEMCACHED = "/usr/bin/memcached"
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"
DETAIL_USAGE = b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"
TOO_SMALL = b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
BAD_CLASS = b"BADCLASS invalid class id\r\n"
BAD_MOVE = b"BADCLASS invalid src or dst class id\r\n"
NO_SPARE = b"NOSPARE source class has no spare pages\r\n"
OK = b"OK\r\n"
ERROR = b"ERROR\r\n"
NOTHING = b""

# What is sent, what cachecask answers, and what memcached 1.6.18 does where that is something else,
# and why.
TABLE = (
    # Counting by prefixes
    (b"stats detail", DETAIL_USAGE),
    (b"stats detail x", DETAIL_USAGE),
    (b"stats detail dump", b"END\r\n"),
    (b"stats detail on", OK),
    (b"get a:1", b"END\r\n"),
    (b"stats detail dump", b"PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n"),
    (b"stats detail off", OK),
    (b"get a:1", b"END\r\n"),
    (b"stats detail dump x", b"PREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n"),
    (b"stats detail on x", OK),
    (b"stats detail off x", OK),
    (b"stats reset", b"RESET\r\n"),
    (b"stats detail dump", b"END\r\n"),
    (b"stats reset x", b"RESET\r\n"),
    # Other groups
    (b"stats nonsense", ERROR),
    (b"stats noreply", ERROR),
    (b"stats items", b"END\r\n"),
    (b"stats sizes", b"STAT sizes_status disabled\r\nEND\r\n"),
    (b"stats sizes x", b"STAT sizes_status disabled\r\nEND\r\n"),
    (b"stats sizes_enable", b"STAT sizes_status enabled\r\n"),
    (b"stats sizes", b"END\r\n"),
    (b"stats sizes_disable", b"STAT sizes_status disabled\r\n"),
    (b"stats cachedump", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats cachedump 1", b"CLIENT_ERROR bad command line\r\n"),
    (b"stats cachedump x 1", BAD_LINE),
    (b"stats cachedump 1 x", BAD_LINE),
    (b"stats cachedump -1 1", BAD_LINE),
    (b"stats cachedump 1 -1", BAD_LINE),
    (b"stats cachedump 0 0", b"END\r\n"),
    (b"stats cachedump 1 0", b"END\r\n"),
    (b"stats cachedump 1 0 0", b"END\r\n"),
    (b"stats cachedump 63 0", b"END\r\n"),
    (b"stats cachedump 64 0", b"CLIENT_ERROR Illegal slab id\r\n"),
    (b"stats cachedump 999 0", b"CLIENT_ERROR Illegal slab id\r\n"),
    # verbosity, cache_memlimit
    (b"verbosity", BAD_LINE, ERROR, "1.6.45 calls missing arguments so"),
    (b"verbosity x", BAD_LINE),
    (b"verbosity -1", BAD_LINE),
    (b"verbosity 1 2", OK),
    (b"verbosity 1 noreply", NOTHING),
    (b"verbosity noreply", NOTHING),
    (b"verbosity 0", OK),
    (b"cache_memlimit", ERROR),
    (b"cache_memlimit x", ERROR),
    (b"cache_memlimit -1", ERROR),
    (b"cache_memlimit 0", TOO_SMALL),
    (b"cache_memlimit 7", TOO_SMALL),
    (b"cache_memlimit 8", OK),
    (b"cache_memlimit 64 x", OK),
    (b"cache_memlimit 64 noreply", NOTHING),
    (b"cache_memlimit 99999999999999999999", ERROR),
    # LRU queues
    (b"lru", ERROR),
    (b"lru x", ERROR),
    (b"lru tune", ERROR),
    (b"lru tune 10 25 0.1", ERROR),
    (b"lru tune 10 25 0.1 2.0", OK),
    (b"lru tune 10 25 0.1 2.0 x", OK),
    (b"lru tune x 25 0.1 2.0", ERROR),
    (b"lru tune 10 x 0.1 2.0", ERROR),
    (b"lru tune 10 25 x 2.0", ERROR),
    (b"lru tune 60 60 0.1 2.0", b"ERROR hot and warm pcts must not exceed 80\r\n"),
    (b"lru tune 10 25 0 2.0", b"ERROR hot/warm age factors must be greater than 0\r\n"),
    (b"lru tune 10 25 -1 2.0", b"ERROR hot/warm age factors must be greater than 0\r\n"),
    (b"lru mode", ERROR),
    (b"lru mode x", ERROR),
    (b"lru mode flat", OK),
    (b"lru mode segmented", OK),
    (b"lru temp_ttl", ERROR),
    (b"lru temp_ttl x", ERROR),
    (b"lru temp_ttl 10", OK),
    (b"lru temp_ttl -1", OK),
    (b"lru temp_ttl 61 noreply", NOTHING),
    # The crawler
    (b"lru_crawler", ERROR),
    (b"lru_crawler x", ERROR),
    (b"lru_crawler enable x", ERROR),
    (b"lru_crawler enable", OK, b"ERROR failed to start lru crawler thread\r\n",
     "it runs: that is what was asked for"),
    (b"lru_crawler disable", OK),
    (b"lru_crawler crawl all", OK, b"CLIENT_ERROR lru crawler disabled\r\n",
     "it is part of the store and stays"),
    (b"lru_crawler enable", OK),
    (b"lru_crawler crawl", ERROR),
    (b"lru_crawler crawl 1", OK),
    (b"lru_crawler crawl 1,2,3", OK),
    (b"lru_crawler crawl 1, 2", ERROR),
    (b"lru_crawler crawl x", BAD_CLASS),
    (b"lru_crawler crawl 0", BAD_CLASS),
    (b"lru_crawler crawl 64", BAD_CLASS),
    (b"lru_crawler crawl -1", BAD_CLASS),
    (b"lru_crawler crawl all x", ERROR),
    (b"lru_crawler crawl hash", BAD_CLASS, b"ERROR an unknown error happened\r\n",
     "nothing unknown has happened"),
    (b"lru_crawler sleep", ERROR),
    (b"lru_crawler sleep x", BAD_LINE),
    (b"lru_crawler sleep -1", BAD_LINE),
    (b"lru_crawler sleep 1000001", b"CLIENT_ERROR sleep must be one second or less\r\n"),
    (b"lru_crawler sleep 1000000", OK),
    (b"lru_crawler tocrawl", ERROR),
    (b"lru_crawler tocrawl x", BAD_LINE),
    (b"lru_crawler tocrawl 0", OK),
    (b"lru_crawler metadump", ERROR),
    (b"lru_crawler metadump x", BAD_CLASS),
    (b"lru_crawler metadump 0", BAD_CLASS),
    (b"lru_crawler metadump 999", BAD_CLASS),
    (b"lru_crawler metadump all x", ERROR),
    (b"lru_crawler mgdump", ERROR),
    (b"lru_crawler mgdump x", BAD_CLASS, ERROR, "1.6.18 has no mgdump"),
    # Slabs
    (b"slabs", ERROR),
    (b"slabs x", ERROR),
    (b"slabs reassign", ERROR),
    (b"slabs reassign 1", ERROR),
    (b"slabs reassign 1 2 3", ERROR),
    (b"slabs reassign 1 2", NO_SPARE),
    (b"slabs reassign 0 1", NO_SPARE),
    (b"slabs reassign 1 1", b"SAME src and dst class are identical\r\n"),
    (b"slabs reassign -1 1", BAD_MOVE),
    (b"slabs reassign 1 999", BAD_MOVE),
    (b"slabs reassign 63 1", BAD_MOVE),
    (b"slabs reassign x 1", BAD_LINE),
    (b"slabs reassign 1 x", BAD_LINE),
    (b"slabs reassign 1 2 noreply", NOTHING, ERROR, "noreply is no mistake"),
    (b"slabs automove", ERROR),
    (b"slabs automove 0", OK),
    (b"slabs automove 2", OK),
    (b"slabs automove 3", ERROR),
    (b"slabs automove -1", BAD_LINE),
    (b"slabs automove x", BAD_LINE),
    (b"slabs automove 0 x", OK),
    (b"slabs automove ratio", ERROR),
    (b"slabs automove ratio x", ERROR),
    (b"slabs automove ratio 0.5", OK),
    (b"slabs automove window 5", BAD_LINE),
    # Others
    (b"watch nonsense", ERROR),
    (b"watch fetchers nonsense", ERROR),
    (b"shutdown", b"SERVER_ERROR: shutdown not enabled\r\n", b"ERROR: shutdown not enabled\r\n",
     "so in 1.6.45"),
    (b"shutdown x", b"SERVER_ERROR: shutdown not enabled\r\n", b"ERROR: shutdown not enabled\r\n",
     "so in 1.6.45"),
    (b"refresh_certs", b"Error TLS not enabled\r\n"),
)
MARK = re.compile(rb"VERSION [^\r\n]+\r\n$")

# Figures and settings of what is not there: extstore, TLS, NAPI.
NOT_HERE = re.compile(r"ext_|ssl_|slab_automove_freeratio|num_napi_ids|memory_file|idle_timeout")


class Memcached:
    """Debian's memcached, beside the server under test."""

    def __init__(self, *options):
        user = ["-u", "nobody"] if support.is_root() else []
        self.port = free_port()
        self.process = subprocess.Popen([MEMCACHED, *user, "-p", str(self.port), "-l", "127.0.0.1",
                                         *options],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        support.guardian.tell(b"+", self.process.pid)
        wait_until(self.is_ready, "memcached answers")

    def is_ready(self):
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def connect(self):
        return Client(("127.0.0.1", self.port))

    def stop(self):
        self.process.kill()
        self.process.wait()
        support.guardian.tell(b"-", self.process.pid)


@pytest.fixture
def memcached():
    if not os.path.exists(MEMCACHED):
        pytest.skip("memcached is not installed")
    other = Memcached()
    yield other
    other.stop()


def answer_to(client, line):
    client.send(line + b"\r\nversion\r\n")
    while not MARK.search(client.buffer):
        assert client.fill(), "closed by %r; before that: %r" % (line, bytes(client.buffer))
    return MARK.sub(b"", client.take(len(client.buffer)))


def test_each_command_answers_as_it_should():
    with Server().connect() as client:
        for line, answer, *_ in TABLE:
            assert answer_to(client, line) == answer, line


def test_memcached_answers_the_same_but_where_it_is_said(memcached):
    with memcached.connect() as client:
        for line, answer, *other in TABLE:
            wanted = other[0] if other else answer
            # Its crawler takes a moment to start, to end, and to stop
            if line.startswith(b"lru_crawler"):
                wait_until(lambda: answer_to(client, line) == wanted, line, timeout=10)
            else:
                assert answer_to(client, line) == wanted, line


def names(client, group):
    client.set(b"key", b"value")
    return list(client.stats(group))


@pytest.mark.parametrize("group", ["", "settings", "items", "slabs"])
def test_stats_have_memcacheds_names(memcached, group):
    with memcached.connect() as client:
        wanted = [name for name in names(client, group) if not NOT_HERE.match(name)]
    with Server().connect() as client:
        got = names(client, group)
    assert [name for name in wanted if name not in got] == []
    if group != "settings":  # memcached promises no order there
        assert [name for name in got if name in wanted] == wanted


def test_plain_stats_stay_below_4096_bytes_with_large_counters():
    """collectd has no larger buffer. Counters of 20 digits, but for what cannot become so large."""
    small = re.compile(r"rusage_|version$|libevent$|pid$|time$|uptime$|pointer_size$|threads$"
                       r"|accepting_conns$|hash_power_level$|"
                       r"max_connections$|curr_connections$|connection_structures$|log_watchers$"
                       r"|auth_|.*_running$|hash_is_expanding$|"
                       r"slabs_moved|slab_global_page_pool|lru_maintainer_juggles|malloc_fails"
                       r"|lrutail_reflocked|moves_|direct_reclaims|"
                       r"lru_bumps_dropped")
    with Server().connect() as client:
        length = len("END\r\n")
        for name, value in client.stats().items():
            width = len(value) + 6 if small.match(name) else 20
            length += len("STAT %s %s\r\n" % (name, "9" * width))
    assert length < 4096


def test_prefixes_are_counted():
    with Server("-D", ":").connect() as client:
        client.set(b"user:1", b"x")
        client.talk(b"get user:1 user:2 page:/:x plain :x\r\n", b"VALUE user:1 0 1\r\nx\r\nEND\r\n")
        client.talk(b"delete user:2\r\nadd user:1 0 0 1\r\nx\r\n", b"NOT_FOUND\r\nNOT_STORED\r\n")
        client.set(b"\x01\x7f:x", b"x")
        client.send(b"stats detail dump\r\n")
        assert sorted(client.read_until(b"END\r\n").split(b"\r\n")[:-2]) == [
            b"PREFIX  get 1 hit 0 set 0 del 0", b"PREFIX %01%7F get 0 hit 0 set 1 del 0",
            b"PREFIX page get 1 hit 0 set 0 del 0", b"PREFIX user get 2 hit 1 set 2 del 1"]
        assert client.stats("settings")["detail_enabled"] == "yes"
        client.talk(b"stats detail off\r\n", OK)
        assert client.stats("settings")["detail_enabled"] == "no"


def test_the_delimiter_can_be_chosen():
    with Server("-D", "/").connect() as client:
        client.talk(b"get a/b:c\r\nstats detail dump\r\n",
                    b"END\r\nPREFIX a get 1 hit 0 set 0 del 0\r\nEND\r\n")
        assert client.stats("settings")["stat_key_prefix"] == "/"


def test_clients_cannot_make_prefixes_without_end():
    server = Server("-D", ":")
    with server.connect() as client:
        for start in range(0, 20000, 1000):
            client.ask(b"".join(b"get %d:%s\r\n" % (n, b"x" * 100)
                                for n in range(start, start + 1000)), b"END\r\n" * 1000)
        assert client.ask(b"stats detail dump\r\n", b"END\r\n").count(b"PREFIX ") == 10000


def test_sizes_of_items():
    with Server("-o", "track_sizes").connect() as client:
        client.talk(b"stats sizes\r\n", b"END\r\n")
        for n, length in enumerate((1, 1, 7, 8, 1000, 900000)):
            client.set(b"%d" % n, b"x" * length)
        client.talk(b"stats sizes\r\n",
                    b"STAT 64 3\r\nSTAT 96 1\r\nSTAT 1088 1\r\nSTAT 900064 1\r\nEND\r\n")
        assert client.stats("settings")["track_sizes"] == "yes"
        client.talk(b"delete 0\r\nstats sizes_disable\r\nstats sizes\r\nstats sizes_enable\r\n"
                    b"stats sizes\r\n",
                    b"DELETED\r\nSTAT sizes_status disabled\r\nSTAT sizes_status disabled\r\n"
                    b"END\r\nSTAT sizes_status enabled\r\n"
                    b"STAT 64 2\r\nSTAT 96 1\r\nSTAT 1088 1\r\nSTAT 900064 1\r\nEND\r\n")


def test_sizes_above_a_mebibyte():
    with Server("-I", "16m", "-o", "track_sizes").connect() as client:
        client.set(b"a", b"x" * 1048519)
        client.set(b"b", b"x" * 1048520)
        client.set(b"c", b"x" * 5000000)
        client.talk(b"stats sizes\r\n",
                    b"STAT 1048576 1\r\nSTAT 2097152 1\r\nSTAT 8388608 1\r\nEND\r\n")


def test_many_sizes():
    """More lines than a chunk of the listing holds."""
    count = 2000 if support.SANITIZED else 5000
    with Server("-o", "track_sizes").connect() as client:
        for n in range(count):
            client.send(b"set %04d 0 0 %d noreply\r\n%s\r\n" % (n, 32 * n, b"x" * 32 * n))
        client.expect_nothing()
        found = client.stats("sizes")
    assert found == {str(64 + 32 * n): "1" for n in range(count)}


def test_cachedump_lists_keys():
    with Server().connect() as client:
        for n in range(100):
            client.set(b"key-%d" % n, b"x" * n, exptime=1000 * (n % 2))
        client.set(b"no\x01line", b"x")
        lines = client.ask(b"stats cachedump 1 0\r\n", b"END\r\n").split(b"\r\n")[:-2]
        found = {}
        for line in lines:
            key, length, expiry = re.fullmatch(rb"ITEM (\S+) \[(\d+) b; (\d+) s\]", line).groups()
            found[key] = (int(length), int(expiry) > 0)
        assert found == {b"key-%d" % n: (n, n % 2 == 1) for n in range(100)} and len(lines) == 100
        assert client.ask(b"stats cachedump 1 7\r\n", b"END\r\n").count(b"ITEM") == 7
        client.talk(b"stats cachedump 2 7\r\nget a\r\n", b"END\r\nEND\r\n")


def test_cachedump_is_refused_with_X():
    with Server("-X").connect() as client:
        refused = b"CLIENT_ERROR stats cachedump not allowed\r\n"
        client.talk(b"stats cachedump 1 0\r\nstats cachedump\r\nstats cachedump x y\r\n",
                    refused * 3)


def test_settings_show_what_was_changed():
    with Server().connect() as client:
        client.talk(b"verbosity 2\r\ncache_memlimit 100\r\n", OK + OK)
        settings = client.stats("settings")
        assert (settings["verbosity"], settings["maxbytes"]) == ("2", str(100 << 20))


def test_reset_sets_counters_back_but_not_what_is_stored():
    with Server().connect() as client:
        client.set(b"k", b"v")
        client.get(b"k")
        client.get(b"none")
        client.talk(b"stats reset\r\n", b"RESET\r\n")
        stats = client.stats()
        assert all(stats[name] == "0"
                   for name in ("cmd_get", "cmd_set", "get_hits", "get_misses", "total_items"))
        assert stats["curr_items"] == "1"


def test_threads_can_be_told_apart():
    """By top -H and ps -L: who it is that uses a core, or waits. With a filter on calls, too."""
    server = Server("-t", "2", "-o", "drop_privileges")
    with server.connect() as client:
        client.talk(b"watch\r\n", OK)
        with server.connect() as other:
            other.ask(b"lru_crawler metadump all\r\n", b"END\r\n")
        folder = f"/proc/{server.process.pid}/task"
        names = []
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/comm", encoding="ascii") as name:
                names.append(name.read().strip())
    assert names.count("cc-worker") == 2
    assert {"cc-syncer", "cc-allocator", "cc-evictor", "cc-background", "cc-cleaner", "cc-watch",
            "cc-dump"} <= set(names)
