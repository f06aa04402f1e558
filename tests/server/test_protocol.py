"""The text protocol: the transcripts, and the statistics. What memcached 1.6.45 answered is in
test_recorded.py."""
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import support
import transcript

TRANSCRIPTS = transcript.load()
QUICK = [t for t in TRANSCRIPTS if not t.has("sleep")]
SLOW = [t for t in TRANSCRIPTS if t.has("sleep")]


def name(t):
    return t.name


@pytest.fixture(scope="module")
def server_with():
    """Servers by their options; all transcripts with the same ones share one."""
    servers = {}

    def get(options, unix=False):
        which = options, unix
        if which not in servers or not servers[which].is_alive():
            servers[which] = support.Server(*options, unix=unix, shared=True)
        return servers[which]

    yield get
    complaints = [server.give_up() for server in support.shared_servers]
    support.shared_servers.clear()
    assert not any(complaints), complaints


def empty(server):
    """A new connection to a server that holds nothing any more."""
    client = server.connect()
    if "-F" in server.options:
        client.ask(b"delete k\r\n", b"\r\n")
    else:
        client.talk(b"flush_all\r\n", b"OK\r\n")
    return client


def play(server, t, send, steps=None):
    client = empty(server)

    def send_if_open(client, data):
        try:
            send(client, data)
        except ConnectionError:
            # And the rest of what we had to say is of no interest to the server
            assert t.has("closed")

    transcript.Run(client, send_if_open).play(steps or t.steps)
    if not t.has("closed"):
        client.expect_nothing()
    client.close()
    assert server.is_alive(), server.log()


def send_whole(client, data):
    client.send(data)


def send_bytes(client, data):
    size = 1 if len(data) < 500 else 97
    for at in range(0, len(data), size):
        client.send(data[at : at + size])


@pytest.mark.parametrize("t", QUICK, ids=name)
def test_transcript(server_with, t):
    play(server_with(t.options), t, send_whole)


# test_tls.py cuts over TLS.
over_tcp_and_unix = pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix socket"])


@over_tcp_and_unix
@pytest.mark.parametrize("t", QUICK, ids=name)
def test_transcript_byte_by_byte(server_with, t, unix):
    play(server_with(t.options, unix), t, send_bytes)


def all_at_once(steps):
    """What is sent moves before what is expected, as far as it does not need an answer."""
    sends, answers = [], []
    for kind, argument in steps:
        if kind == "send" and re.search(rb"\$[a-z]", argument):
            yield from [("send", b"".join(sends))] + answers
            sends, answers = [], []
        if kind == "send":
            sends.append(argument)
        else:
            answers.append((kind, argument))
    yield from [("send", b"".join(sends))] + answers


@pytest.mark.parametrize("t", QUICK, ids=name)
def test_transcript_all_at_once(server_with, t):
    play(server_with(t.options), t, send_whole, list(all_at_once(t.steps)))


CUT_EVERYWHERE = [t for t in QUICK if t.name in (
    "a multiget gives hits in the order asked, and nothing for misses",
    "a bad data chunk leaves the old value, and costs exactly its length and two bytes",
    "bad flags or a bad expiry swallow the block",
    "noreply silences a bad data chunk",
    "append and prepend keep the flags",
    "N makes an empty item, and one client wins",
    "E chooses the CAS unique",
)]


@over_tcp_and_unix
@pytest.mark.parametrize("t", CUT_EVERYWHERE, ids=name)
def test_transcript_cut_at_every_byte(server_with, t, unix):
    steps = list(all_at_once(t.steps))
    size = len(steps[0][1])
    for cut in range(1, size):

        def send_in_two(client, data, cut=cut):
            client.send(data[:cut])
            time.sleep(0.002)
            client.send(data[cut:])

        play(server_with(t.options, unix), t, send_in_two, steps)


@pytest.fixture(scope="module")
def in_the_background():
    """The transcripts in which time passes, all side by side, each on a server of its own."""
    def run(t):
        server = support.Server(*t.options, shared=True)
        try:
            play(server, t, send_whole)
        finally:
            support.shared_servers.remove(server)
            complaint = server.give_up()
        assert not complaint, complaint

    with ThreadPoolExecutor(len(SLOW)) as pool:
        yield {t.name: pool.submit(run, t) for t in SLOW}


@pytest.mark.parametrize("t", SLOW, ids=name)
def test_transcript_in_which_time_passes(in_the_background, t):
    in_the_background[t.name].result()


# Statistics

GENERAL = """pid uptime time version libevent pointer_size rusage_user rusage_system max_connections
curr_connections total_connections rejected_connections connection_structures response_obj_oom
response_obj_count response_obj_bytes read_buf_count read_buf_bytes read_buf_bytes_free read_buf_oom
cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses get_expired get_flushed
delete_misses delete_hits incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval
touch_hits touch_misses store_too_large store_no_memory auth_cmds auth_errors bytes_read
bytes_written limit_maxbytes accepting_conns listen_disabled_num time_in_listen_disabled_us threads
conn_yields hash_power_level hash_bytes hash_is_expanding slab_reassign_rescues
slab_reassign_evictions_nomem slab_reassign_busy_items slab_reassign_busy_deletes
slab_reassign_busy_nomem slab_reassign_last_busy_status slab_reassign_running slabs_moved bytes
curr_items total_items slab_global_page_pool expired_unfetched evicted_unfetched evicted_active
evictions reclaimed crawler_reclaimed crawler_items_checked direct_reclaims""".split()

STORE = """store_uuid epoch lsn lsn_synced segments segment_size disk_bytes live_bytes dead_bytes
keydir_entries keydir_bytes cache_bytes cache_pages ram_hits disk_hits disk_reads disk_read_us_p50
disk_read_us_p99 commits commit_records syncs sync_us_p99 sync_held_us corrupt_records read_errors
recovery_us recovered_items read_only""".split()

only_ours = pytest.mark.skipif(support.IS_MEMCACHED, reason="ours alone")


def test_stats_have_the_names_that_monitoring_reads(client):
    stats = client.stats()
    assert [wanted for wanted in GENERAL if wanted not in stats] == []
    assert len(client.ask(b"stats\r\n", b"END\r\n")) < 4096


def test_stats_keep_the_order_of_memcached(client):
    names = [stat for stat in client.stats() if stat in GENERAL]
    order = [wanted for wanted in GENERAL if wanted in names]
    assert names == order


def test_stats_count(server):
    client = server.connect()
    client.set(b"k", b"1")
    client.send(b"get k none\r\nincr k 1\r\nincr none 1\r\ndecr k 1\r\ndecr none 1\r\ntouch k 0\r\n"
                b"touch none 0\r\n"
                b"gat 0 k\r\ncas k 0 0 1 1\r\nx\r\ncas none 0 0 1 1\r\nx\r\ndelete none\r\n"
                b"delete k\r\nflush_all\r\n")
    client.read_until(b"OK\r\n")
    client.set(b"left", b"12345")
    stats = client.stats()
    wanted = dict(cmd_get=2, get_hits=1, get_misses=1, cmd_touch=3, touch_hits=2, touch_misses=1,
                  incr_hits=1, incr_misses=1, decr_hits=1, decr_misses=1, cas_misses=1,
                  cas_badval=1, cas_hits=0, delete_hits=1, delete_misses=1, cmd_flush=1,
                  curr_items=1)
    assert {stat: int(stats[stat]) for stat in wanted} == wanted
    assert int(stats["cmd_set"]) >= 2 and int(stats["total_items"]) >= 2
    assert int(stats["bytes"]) > 5


def test_stats_about_the_process(server):
    stats = server.stats()
    assert int(stats["pid"]) == server.process.pid
    assert int(stats["uptime"]) > 0
    assert abs(int(stats["time"]) - time.time()) < 5
    assert int(stats["pointer_size"]) == 64
    assert int(stats["limit_maxbytes"]) == 64 << 20
    assert int(stats["threads"]) == 4
    assert int(stats["max_connections"]) == 1024
    assert int(stats["accepting_conns"]) == 1
    for time_used in ("rusage_user", "rusage_system"):
        assert re.fullmatch(r"\d+\.\d{6}", stats[time_used])


def test_stats_count_connections(server):
    others = [server.connect() for _ in range(5)]
    for other in others:
        other.ask(b"version\r\n", b"\r\n")
    with server.connect() as client:
        assert 6 <= int(client.stats()["curr_connections"]) <= 7
        for other in others:
            other.close()
        support.wait_until(lambda: int(client.stats()["curr_connections"]) <= 2,
                           "closed connections are counted out")
        assert int(client.stats()["total_connections"]) >= 6


def test_stats_bytes_read_and_written(client):
    before = client.stats()
    client.set(b"k", b"x" * 1000)
    assert client.get(b"k") == b"x" * 1000
    after = client.stats()
    assert int(after["bytes_read"]) - int(before["bytes_read"]) >= 1000
    assert int(after["bytes_written"]) - int(before["bytes_written"]) >= 1000


def test_stats_reset(client):
    client.get(b"none")
    client.talk(b"stats reset\r\n", b"RESET\r\n")
    stats = client.stats()
    assert stats["get_misses"] == "0" and stats["cmd_get"] == "0"


def test_stats_settings(server):
    settings = server.stats("settings")
    wanted = dict(maxbytes=str(64 << 20), maxconns="1024", tcpport=str(server.port), udpport="0",
                  num_threads="4", item_size_max=str(1 << 20), evictions="on", cas_enabled="yes",
                  flush_enabled="yes", binding_protocol="auto-negotiate", domain_socket="NULL",
                  verbosity="0", inter="127.0.0.1")
    assert {setting: settings.get(setting) for setting in wanted} == wanted


def test_stats_of_items_and_slabs_show_one_class(client):
    client.set(b"k", b"value")
    items, slabs = client.stats("items"), client.stats("slabs")
    if not support.IS_MEMCACHED:
        assert {stat.split(":")[1] for stat in items} == {"1"}
        assert {stat.split(":")[0] for stat in slabs if ":" in stat} == {"1"}
        assert items["items:1:number"] == "1"
    assert "active_slabs" in slabs and "total_malloced" in slabs


def test_stats_sizes(client):
    assert "sizes_status" in client.stats("sizes")


def test_stats_conns_shows_every_connection(server):
    with server.connect() as client:
        stats = client.stats("conns")
        addresses = [value for stat, value in stats.items() if stat.endswith(":addr")]
        assert "tcp:127.0.0.1:%d" % client.socket.getsockname()[1] in addresses
        assert "tcp:127.0.0.1:%d" % server.port in addresses
        assert any(stat.endswith(":state") for stat in stats)


class Peers:
    """Connections in different states, and what `stats conns` says of them."""

    def __init__(self, server):
        self.server = server
        self.names = {}
        self.clients = []

    def add(self, name, sent=b""):
        client = self.server.connect()
        client.send(sent)
        self.clients.append(client)
        self.names["tcp:127.0.0.1:%d" % client.socket.getsockname()[1]] = name

    def states(self, asks):
        """{name: state}"""
        stats = asks.stats("conns")
        found = {self.names.get(value): stats[stat.replace(":addr", ":state")]
                 for stat, value in stats.items() if stat.endswith(":addr")}
        found.pop(None, None)
        return found


def test_stats_conns_tells_memcacheds_states(server):
    peers = Peers(server)
    with server.connect() as client:
        client.set(b"big", b"x" * 1000000)
        peers.names["tcp:127.0.0.1:%d" % client.socket.getsockname()[1]] = "asks"
        peers.add("says nothing")
        peers.add("is done", b"version\r\n")
        peers.add("half a line", b"get k")
        peers.add("half a block", b"set k 0 0 100\r\nabc")
        peers.add("half a meta block", b"ms k 100\r\nabc")
        peers.add("half a packet", b"\x80\1\0\1\x08" + bytes(6) + b"\x10" + bytes(12) + b"a")
        peers.add("half a header", b"\x80\1\0")
        peers.add("too large", b"set k 0 0 9000000\r\nabc")
        peers.add("refused", b"ms k 100 F+5\r\nabc")
        peers.add("watches", b"watch\r\n")
        peers.add("does not read", b"get big\r\n" * 50)
        wanted = {
            "asks": "conn_parse_cmd", "says nothing": "conn_new_cmd", "is done": "conn_read",
            "half a line": "conn_read", "half a block": "conn_nread",
            "half a meta block": "conn_nread", "half a packet": "conn_nread",
            "half a header": "conn_read", "too large": "conn_swallow", "refused": "conn_swallow",
            "watches": "conn_watch", "does not read": "conn_mwrite",
        }
        try:
            support.wait_until(lambda: peers.states(client) == wanted, "the states are as wanted")
        finally:
            print(peers.states(client))  # shown when the test fails


@only_ours
def test_stats_store_has_our_own_figures(server):
    with server.connect() as client:
        client.set(b"a", b"1")
        client.set(b"b", b"2")
        client.ask(b"delete b\r\n", b"\r\n")
        stats = client.stats("store")
    assert [wanted for wanted in STORE if wanted not in stats] == []
    assert stats["keydir_entries"] == "1"
    assert int(stats["commits"]) >= 1 and int(stats["commit_records"]) >= 3
    assert stats["read_only"] in ("0", "no") and stats["corrupt_records"] == "0"


@only_ours
def test_an_expired_get_and_a_flushed_one_are_told_apart_from_misses(client):
    client.set(b"k", b"v", exptime=1)
    time.sleep(2.1)
    client.get(b"k")
    stats = client.stats()
    assert stats["get_misses"] == "1" and stats["get_expired"] == "1"


def test_too_large_is_counted(client):
    client.talk(b"set k 0 0 2000000\r\n" + b"x" * 2000000 + b"\r\n",
                b"SERVER_ERROR object too large for cache\r\n")
    assert client.stats()["store_too_large"] == "1"


# Rules that no transcript can say

def test_cas_uniques_differ_between_keys_and_only_grow(client):
    last = 0
    for i in range(100):
        key = b"k%d" % (i % 7)
        client.set(key, b"x")
        unique = client.cas_of(key)
        assert unique > last
        last = unique


def test_a_multiget_has_no_limit_on_its_keys(client):
    client.set(b"hit", b"x")
    keys = b" ".join(b"key-%d" % i for i in range(20000)) + b" hit"
    client.talk(b"get " + keys + b"\r\n", b"VALUE hit 0 1\r\nx\r\nEND\r\n")
    client.talk(b"get" + b" hit" * 20000 + b"\r\n", b"VALUE hit 0 1\r\nx\r\n" * 20000 + b"END\r\n")


def test_the_limit_covers_the_key_and_some_header(client):
    client.set(b"k", b"x" * 1047552)
    client.talk(b"set k 0 0 1049600\r\n" + b"x" * 1049600 + b"\r\n",
                b"SERVER_ERROR object too large for cache\r\n")


def test_thousands_of_commands_in_one_go_are_answered_in_order(client):
    count = 5000
    sent = b"".join(b"set k%d 0 0 %d\r\n%d\r\nget k%d\r\n" % (i, len(str(i)), i, i)
                    for i in range(count))
    wanted = b"".join(b"STORED\r\nVALUE k%d 0 %d\r\n%d\r\nEND\r\n" % (i, len(str(i)), i)
                      for i in range(count))
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, sent)
        client.expect(wanted)
        sending.result()


def test_a_reader_in_the_middle_of_a_reply_gets_the_whole_old_value(server):
    old, new = b"o" * 1000000, b"n" * 1000000
    with server.connect() as reader, server.connect() as writer:
        writer.set(b"k", old)
        reader.send(b"get k\r\n" * 20)
        reader.read(100)
        for _ in range(5):
            writer.set(b"k", new)
        answer = reader.read(20 * len(b"VALUE k 0 1000000\r\n" + old + b"\r\nEND\r\n") - 100)
        for value in re.findall(rb"(?:^|\r\n)([on]{900000,})\r\n", answer):
            assert set(value) in ({ord("o")}, {ord("n")}), "two values in one answer"
        reader.expect_nothing()


def test_clients_that_vanish_in_the_middle_leave_nothing_behind(server):
    for part in (b"s", b"set k 0 0 10", b"set k 0 0 10\r\n", b"set k 0 0 10\r\nhalf", b"get a b c",
                 b"get k\r\n" * 1000):
        with server.connect() as client:
            client.send(part)
    with server.connect() as client:
        assert client.get(b"k") is None
