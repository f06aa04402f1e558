"""Tools of others, unmodified: memcached-tool; and the names that monitors read."""
import os
import re
import subprocess

import pytest

from support import Server

TOOL = "/usr/share/memcached/scripts/memcached-tool"


@pytest.fixture
def server():
    server = Server("-o", "track_sizes")
    with server.connect() as client:
        for n in range(50):
            client.set(b"key-%d" % n, b"value %d" % n, flags=n, exptime=100000 * (n % 2))
        client.set(b"with%percent", b"x" * 2000)
    return server


def tool(server, *arguments):
    if not os.path.exists(TOOL):
        pytest.skip("memcached-tool is not installed")
    done = subprocess.run(["perl", TOOL, "127.0.0.1:%d" % server.port, *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=True)
    assert b"uninitialized" not in done.stderr, done.stderr
    return done.stdout.decode()


def table(text):
    return dict(line.split()[:2] for line in text.splitlines()[1:])


@pytest.mark.parametrize("arguments", [(), ("display",)])
def test_display(server, arguments):
    head, *classes = tool(server, *arguments).splitlines()
    assert head.split() == ["#", "Item_Size", "Max_age", "Pages", "Count", "Full?", "Evicted",
                            "Evict_Time", "OOM"]
    assert len(classes) == 1
    number, _, _, pages, count, *_ = classes[0].split()
    assert (number, count) == ("1", "51") and int(pages) > 0


def test_display_after_a_restart(server):
    server.restart()
    assert tool(server).splitlines()[1].split()[4] == "51"


def test_stats(server):
    stats = table(tool(server, "stats"))
    assert stats["curr_items"] == "51" and stats["cmd_set"] == "51" and int(stats["uptime"]) > 0


def test_settings(server):
    settings = table(tool(server, "settings"))
    assert settings["maxbytes"] == str(64 << 20) and settings["tcpport"] == str(server.port)


def test_sizes(server):
    assert table(tool(server, "sizes")) == {"96": "50", "2080": "1"}
    with server.connect() as client:
        client.talk(b"stats sizes_disable\r\n", b"STAT sizes_status disabled\r\n")
    assert table(tool(server, "sizes")) == {"sizes_status": "disabled"}


def test_keys(server):
    found = re.findall(r"^key=(\S+) exp=(-?\d+) la=\d+ cas=\d+ fetch=no cls=1 size=\d+",
                       tool(server, "keys"), re.M)
    assert sorted(key for key, _ in found) == sorted(["key-%d" % n for n in range(50)] +
                                                     ["with%25percent"])
    assert len(re.findall("^key=", tool(server, "keys", "10"),
                          re.M)) == 9, "of the ten lines that it takes, the first is the OK"


def test_dump_gives_the_commands_that_fill_another_server(server):
    """As an operator moves a cache to another machine: memcached-tool old dump | nc new."""
    commands = tool(server, "dump")
    assert commands.count("\r\n") == 2 * 51
    other = Server()
    with server.connect() as source, other.connect() as client:
        client.send(commands.encode())
        client.expect(b"STORED\r\n" * 51)
        keys = [b"key-%d" % n for n in range(50)] + [b"with%percent"]
        before, after = source.gets(*keys), client.gets(*keys)
        assert len(after) == 51
        assert {key: found[:2] for key, found in before.items()} == {
            key: found[:2] for key, found in after.items()}
        assert tool(other, "keys").count("exp=-1") == 26
    assert tool(server, "dump", "5").startswith("add ")


# What each of them asks for and picks from the answer.
MONITORS = {
    "munin": ("",
        "bytes curr_items evictions total_items bytes_read bytes_written curr_connections "
        "total_connections cmd_get cmd_set get_hits get_misses limit_maxbytes rusage_user "
        "rusage_system"),
    "collectd": ("",
        "pid uptime rusage_user rusage_system curr_connections threads cmd_get cmd_set cmd_touch "
        "cmd_flush get_hits get_misses incr_hits incr_misses decr_hits decr_misses bytes_read "
        "bytes_written bytes limit_maxbytes curr_items evictions listen_disabled_num"),
    "telegraf": ("",
        "accepting_conns auth_cmds auth_errors bytes bytes_read bytes_written cas_badval cas_hits "
        "cas_misses cmd_flush cmd_get cmd_set cmd_touch conn_yields connection_structures "
        "curr_connections curr_items decr_hits decr_misses delete_hits delete_misses "
        "evicted_active evicted_unfetched evictions expired_unfetched get_expired get_flushed "
        "get_hits get_misses hash_bytes hash_is_expanding hash_power_level incr_hits incr_misses "
        "limit_maxbytes listen_disabled_num max_connections reclaimed rejected_connections "
        "store_no_memory store_too_large threads total_connections total_items touch_hits "
        "touch_misses uptime"),
    "exporter": ("",
        "version libevent pointer_size time direct_reclaims total_malloced crawler_reclaimed "
        "crawler_items_checked lru_crawler_starts lru_maintainer_juggles "
        "time_in_listen_disabled_us cmd_meta log_worker_dropped log_worker_written "
        "log_watcher_skipped log_watcher_sent log_watchers"),
    "exporter, settings": ("settings",
        "maxconns lru_crawler lru_crawler_sleep lru_crawler_tocrawl lru_maintainer_thread "
        "hot_lru_pct warm_lru_pct hot_max_factor warm_max_factor item_size_max slab_chunk_max"),
    "phpMemcachedAdmin, items": ("items",
        "items:1:number items:1:age items:1:evicted items:1:evicted_nonzero items:1:evicted_time "
        "items:1:outofmemory items:1:tailrepairs items:1:reclaimed"),
    "phpMemcachedAdmin, slabs": ("slabs",
        "1:chunk_size 1:chunks_per_page 1:total_pages 1:total_chunks 1:used_chunks 1:free_chunks "
        "1:free_chunks_end 1:get_hits 1:cmd_set 1:delete_hits 1:incr_hits 1:decr_hits 1:cas_hits "
        "1:cas_badval 1:touch_hits active_slabs total_malloced"),
}


@pytest.mark.parametrize("monitor", MONITORS)
def test_a_monitor_finds_its_names(server, monitor):
    group, wanted = MONITORS[monitor]
    found = server.stats(group)
    assert [name for name in wanted.split() if name not in found] == []
    numbers = re.compile(r"-?\d+(\.\d+)?$")
    if group != "settings":
        assert [name for name in wanted.split()
                if not numbers.match(found[name]) and name not in ("version", "libevent")] == []
