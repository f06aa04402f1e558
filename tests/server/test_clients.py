"""Clients of other people: pymemcache and pylibmc over their whole API, and the tools of
libmemcached."""
import json
import os
import shutil
import subprocess
import time
from contextlib import closing

import pymemcache
import pytest
from pymemcache.client.base import PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import (MemcacheClientError, MemcacheIllegalInputError,
                                   MemcacheServerError)

import support


@pytest.fixture
def py(server):
    client = pymemcache.Client(("127.0.0.1", server.port), default_noreply=False,
                               timeout=support.TIMEOUT)
    yield client
    client.close()


# pymemcache

def test_set_and_get(py):
    assert py.set("k", b"value") is True
    assert py.get("k") == b"value"
    assert py.get("none") is None
    assert py.get("none", default=b"d") == b"d"


def test_add_and_replace(py):
    assert py.add("k", b"1") is True
    assert py.add("k", b"2") is False
    assert py.replace("k", b"3") is True
    assert py.replace("none", b"3") is False
    assert py.get("k") == b"3"


def test_append_and_prepend(py):
    py.set("k", b"b")
    assert py.append("k", b"c") is True
    assert py.prepend("k", b"a") is True
    assert py.get("k") == b"abc"
    assert py.append("none", b"c") is False
    assert py.prepend("none", b"c") is False


def test_gets_and_cas(py):
    py.set("k", b"1")
    value, unique = py.gets("k")
    assert value == b"1"
    assert py.cas("k", b"2", unique) is True
    assert py.cas("k", b"3", unique) is False
    assert py.cas("none", b"3", unique) is None
    assert py.gets("none") == (None, None)


def test_many(py):
    items = {"k%d" % i: b"v%d" % i for i in range(300)}
    assert py.set_many(items) == []
    assert py.get_many(list(items) + ["none"]) == items
    assert {key: value for key, (value, _) in py.gets_many(list(items)).items()} == items
    assert py.delete_many(list(items)) is True
    assert py.get_many(list(items)) == {}


def test_delete(py):
    py.set("k", b"1")
    assert py.delete("k") is True
    assert py.delete("k") is False


def test_incr_and_decr(py):
    py.set("k", b"10")
    assert py.incr("k", 5) == 15
    assert py.decr("k", 20) == 0
    assert py.incr("none", 1) is None
    assert py.decr("none", 1) is None
    py.set("text", b"x")
    with pytest.raises(MemcacheClientError):
        py.incr("text", 1)


def test_touch(py):
    support.touch_in_time(lambda: py.set("k", b"1", expire=2), lambda: py.touch("k", 1000))
    assert py.touch("k", 1000) is True
    assert py.touch("none", 1000) is False
    time.sleep(3.1)
    assert py.get("k") == b"1"


def test_noreply_of_everything(py):
    py.set("k", b"1", noreply=True)
    py.add("a", b"1", noreply=True)
    py.replace("k", b"10", noreply=True)
    py.append("k", b"0", noreply=True)
    py.prepend("k", b"1", noreply=True)
    py.incr("k", 1, noreply=True)
    py.decr("k", 2, noreply=True)
    py.touch("k", 0, noreply=True)
    py.delete("a", noreply=True)
    py.set_many({"x": b"x", "y": b"y"}, noreply=True)
    py.delete_many(["x"], noreply=True)
    assert py.get_many(["k", "a", "x", "y"]) == {"k": b"1099", "y": b"y"}
    py.flush_all(noreply=True)
    assert py.get("k") is None


def test_flush_all_with_a_delay(py):
    py.set("k", b"1")
    assert py.flush_all(delay=2) is True
    assert py.get("k") == b"1"
    time.sleep(3.1)
    assert py.get("k") is None


def test_flags_through_a_serializer(server):
    class Json:
        def serialize(self, key, value):
            return ((value.encode(), 1) if isinstance(value, str)
                    else (json.dumps(value).encode(), 2))

        def deserialize(self, key, value, flags):
            return value.decode() if flags == 1 else json.loads(value)

    with closing(pymemcache.Client(("127.0.0.1", server.port), serde=Json(),
                                   default_noreply=False)) as client:
        client.set("text", "x")
        client.set("list", [1, {"a": None}])
        assert client.get_many(["text", "list"]) == {"text": "x", "list": [1, {"a": None}]}


def test_expire(py):
    py.set("k", b"1", expire=1)
    py.set("past", b"1", expire=-1)
    py.set("absolute", b"1", expire=int(time.time()) + 100)
    assert py.get("past") is None
    time.sleep(2.1)
    assert py.get("k") is None
    assert py.get("absolute") == b"1"


def test_stats_version_and_settings(py):
    assert py.version()
    stats = py.stats()
    assert stats[b"curr_items"] == 0 and stats[b"threads"] == 4 and stats[b"accepting_conns"] == 1
    assert py.stats("settings")[b"maxconns"] == 1024
    assert py.stats("items") == {}
    py.set("k", b"x")
    assert py.stats("items") != {}
    assert b"segments" in py.stats("store")


def test_cache_memlimit(py):
    assert py.cache_memlimit(128) is True


def test_errors(py):
    with pytest.raises(MemcacheServerError):
        py.set("large", b"x" * 2000000)
    assert py.get("large") is None
    with pytest.raises(MemcacheIllegalInputError):
        py.set("k" * 251, b"x")


def test_unicode_keys(server):
    with closing(pymemcache.Client(("127.0.0.1", server.port), allow_unicode_keys=True,
                                   default_noreply=False)) as client:
        client.set("schlüssel", b"x")
        assert client.get("schlüssel") == b"x"


def test_values_of_every_size(py):
    for size in list(range(0, 40)) + [4095, 4096, 4097, 65535, 65536, 1000000]:
        assert py.set("k", support.value_of(b"k", size))
        assert py.get("k") == support.value_of(b"k", size)


def test_shutdown(server):
    server.stop()
    server.options.append("-A")
    server.start()
    with closing(pymemcache.Client(("127.0.0.1", server.port), default_noreply=False)) as client:
        client.set("k", b"x")
        client.shutdown()
    assert server.reap() == 0


def test_quit(py):
    py.quit()
    assert py.set("k", b"1") is True  # on a new connection


def test_a_pool_of_connections(server):
    client = PooledClient(("127.0.0.1", server.port), max_pool_size=4, default_noreply=False)
    assert client.set("k", b"1") and client.get("k") == b"1"
    client.close()


# What all three kinds of clients have in common; every method once.

def store_and_find(client):
    assert (client.set("k", b"2") is True and client.get("k") == b"2" and
            client.get("none", b"d") == b"d")
    assert client.add("k", b"x") is False and client.replace("k", b"3") is True
    assert (client.append("k", b"0") is True and client.prepend("k", b"1") is True and
            client.get("k") == b"130")
    assert (client.incr("k", 5) == 135 and client.decr("k", 100) == 35 and
            client.incr("none", 1) is None)
    value, unique = client.gets("k")
    assert (value.strip() == b"35" and client.cas("k", b"x", unique) is True and
            client.cas("k", b"y", unique) is False)
    assert client.touch("k", 1000) is True and client.touch("none", 0) is False
    assert (client.delete("k") is True and client.delete("k") is False and
            client.gets("k")[0] is None)


def store_and_find_many(client):
    items = {"k%d" % i: b"v%d" % i for i in range(100)}
    assert client.set_many(items) == [] and client.get_many(list(items) + ["none"]) == items
    assert {key: value for key, (value, _) in client.gets_many(list(items)).items()} == items
    assert client.delete_many(["k0", "k1"]) is True and len(client.get_many(list(items))) == 98
    assert client.set_multi({"m": b"1"}) == [] and client.get_multi(["m"]) == {"m": b"1"}
    assert client.delete_multi(["m"]) is True and client.get_multi(["m"]) == {}


def empty_and_leave(client):
    client.set("k", b"1", noreply=True)
    assert client.get("k") == b"1"
    client.flush_all()
    assert client.get("k") is None
    client.quit()
    assert client.set("k", b"1") is True  # on a new connection
    client.disconnect_all()
    assert client.get("k") == b"1"
    client.close()


@pytest.mark.parametrize("kind", [pymemcache.Client, PooledClient, HashClient])
def test_every_method(server, kind):
    address = ("127.0.0.1", server.port)
    client = kind([address] if kind is HashClient else address, default_noreply=False,
                  timeout=support.TIMEOUT)
    store_and_find(client)
    store_and_find_many(client)
    if kind is not HashClient:
        assert client.version().startswith(b"1.6.") and client.stats()[b"curr_items"] == 98
    empty_and_leave(client)


def test_a_server_is_added(server):
    other = support.Server()
    client = HashClient([("127.0.0.1", server.port)], default_noreply=False)
    client.add_server(("127.0.0.1", other.port))
    assert client.set_many({"k%d" % i: b"x" for i in range(50)}) == []
    assert int(other.stats()["curr_items"]) > 0 and int(server.stats()["curr_items"]) > 0
    client.close()


def test_several_servers():
    servers = [support.Server() for _ in range(3)]
    client = HashClient([("127.0.0.1", server.port) for server in servers], default_noreply=False)
    items = {"k%d" % i: b"%d" % i for i in range(200)}
    assert client.set_many(items) == []
    assert client.get_many(list(items)) == items
    assert sum(int(server.stats()["curr_items"]) for server in servers) == 200
    client.close()


def test_a_restart_between_two_calls(server):
    client = RetryingClient(pymemcache.Client(("127.0.0.1", server.port), default_noreply=False),
                            attempts=3, retry_delay=0.1)
    client.set("k", b"1")
    server.restart("kill9")
    assert client.get("k") == b"1"
    client.close()


def test_a_unix_socket():
    server = support.Server(unix=True, start=False)
    server.unix_path = os.path.join(support.place.new("unix"), "socket")
    server.options += ["-a", "0777"]
    server.start()
    with closing(pymemcache.Client(server.unix_path, default_noreply=False)) as client:
        assert client.set("k", b"1") and client.get("k") == b"1"


# The tools of libmemcached

def tool(name, server, *arguments, check=True, directory=None, servers=True):
    path = shutil.which(name)
    if path is None:
        pytest.skip("%s is not installed" % name)
    command = [path] + (["--servers=127.0.0.1:%d" % server.port] if servers
                        else []) + list(arguments)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=support.TIMEOUT, cwd=directory, check=False)
    assert not check or done.returncode == 0, (command, done.returncode, done.stdout)
    return done.returncode, done.stdout


@pytest.fixture
def folder():
    path = support.place.new("files")
    with open(os.path.join(path, "poem"), "wb") as file:
        file.write(b"line one\r\nline two\n\x00" * 100)
    return path


def test_memccp_and_memccat(server, folder):
    tool("memccp", server, "--flags=7", "poem", directory=folder)
    with server.connect() as client:
        value, flags, _ = client.gets(b"poem")[b"poem"]
    assert (value, flags) == (b"line one\r\nline two\n\x00" * 100, 7)
    _, out = tool("memccat", server, "poem")
    assert out.startswith(b"line one\r\nline two\n")
    server.restart("kill9")
    tool("memccat", server, "--file=copy", "poem", directory=folder)
    with open(os.path.join(folder, "copy"), "rb") as file:
        assert file.read() == b"line one\r\nline two\n\x00" * 100


def test_memcexist_memcrm_and_memctouch(server):
    with server.connect() as client:
        support.touch_in_time(lambda: client.set(b"k", b"x", exptime=3),
                              lambda: tool("memctouch", server, "--expire=1000", "k",
                                           check=False)[0] == 0)
        assert tool("memcexist", server, "k")[0] == 0
        time.sleep(4.1)
        assert client.get(b"k") == b"x"
        tool("memcrm", server, "k")
        assert client.get(b"k") is None
        assert tool("memcexist", server, "k", check=False)[0] != 0
        assert tool("memctouch", server, "--expire=1", "k", check=False)[0] != 0


def test_memcping_and_memcstat(server):
    tool("memcping", server)
    _, out = tool("memcstat", server)
    assert b"curr_items: 0" in out and b"threads: 4" in out
    _, out = tool("memcstat", server, "--args=settings")
    assert b"maxconns: 1024" in out
    assert b"1024" in out


def test_memcflush(server):
    with server.connect() as client:
        client.set(b"k", b"x")
        tool("memcflush", server)
        assert client.get(b"k") is None


def test_memcdump(server):
    with server.connect() as client:
        for number in range(20):
            client.set(b"key-%d" % number, b"x")
    status, out = tool("memcdump", server, check=False)
    if status == 0:
        assert set(out.split()) <= {b"key-%d" % number for number in range(20)}
    assert server.is_alive()


@pytest.mark.parametrize("binary", [[], ["--binary"]], ids=["text", "binary"])
def test_memcaslap(server, binary):
    """memcslap's newer sister, which compares what it gets with what it has set."""
    path = shutil.which("memcaslap")
    if path is None:
        pytest.skip("memcaslap is not installed")
    done = subprocess.run([path, "--servers=127.0.0.1:%d" % server.port, "--threads=1",
                           "--concurrency=8", "--execute_number=5000",
                           "--verify=1.0", *binary], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=support.TIMEOUT, check=False)
    out = done.stdout.decode()
    assert done.returncode == 0 and "verify_failed: 0" in out and "get_misses: 0" in out, out


def test_memccp_add_and_replace(server, folder):
    assert tool("memccp", server, "--replace", "poem", check=False, directory=folder)[0] != 0
    tool("memccp", server, "--add", "poem", directory=folder)
    assert tool("memccp", server, "--add", "poem", check=False, directory=folder)[0] != 0
    tool("memccp", server, "--replace", "--expire=1", "poem", directory=folder)


@pytest.mark.parametrize("test", ["get", "set", "mget"])
def test_memcslap(server, test):
    tool("memcslap", server, "--test=" + test, "--concurrency=4", "--execute-number=500",
         "--initial-load=500", check=test != "mget")


def test_memccapable(server):
    """libmemcached's own conformance test, of both protocols."""
    status, out = tool("memccapable", server, "-h", "127.0.0.1", "-p", str(server.port), "-t", "5",
                       servers=False, check=False)
    failed = [line for line in out.decode().split("\n") if "[FAIL]" in line]
    assert failed == [] and status == 0 and out.count(b"[pass]") == 54, out.decode()


@pytest.mark.parametrize("name,arguments", [("memcstat", []), ("memcflush", []),
                                            ("memccp", ["--flags=7", "poem"]),
                                            ("memccat", ["poem"]), ("memcexist", ["poem"]),
                                            ("memctouch", ["--expire=1000", "poem"]),
                                            ("memcrm", ["poem"])])
def test_tools_that_speak_binary(server, folder, name, arguments):
    with server.connect() as client:
        client.set(b"poem", b"of another kind", flags=1)
    tool(name, server, "--binary", *arguments, directory=folder)


# pylibmc, over libmemcached

@pytest.fixture(params=[False, True], ids=["text", "binary"])
def lib(request, server):
    pylibmc = pytest.importorskip("pylibmc")
    return pylibmc.Client(["127.0.0.1:%d" % server.port], binary=request.param,
                          behaviors={"cas": True, "tcp_nodelay": True})


def test_pylibmc_sets_and_gets(lib):
    assert lib.set("k", b"value") is True and lib.get("k") == b"value"
    assert lib.get("none") is None and lib.get("none", "default") == "default"
    for value in (b"", b"bytes", "text", "schön", 7, -7, 2**70, 1.5, True, [1, {"a": None}],
                  b"x" * 100000):
        assert lib.set("k", value) and lib.get("k") == value


def test_pylibmc_adds_replaces_and_joins(lib):
    import pylibmc

    assert lib.add("k", "1") is True and lib.add("k", "2") is False
    assert lib.replace("k", "3") is True
    try:
        assert lib.replace("none", "3") is False  # in text
    except pylibmc.NotFound:
        pass
    lib.set("k", b"middle")
    assert lib.append("k", b" end") and lib.prepend("k", b"begin ")
    assert lib.get("k") == b"begin middle end"


def test_pylibmc_counts(lib):
    import pylibmc

    lib.set("n", 10)
    assert (lib.incr("n") == 11 and lib.incr("n", 9) == 20 and lib.decr("n") == 19 and
            lib.decr("n", 9) == 10)
    assert lib.decr("n", 100) == 0 and lib.get("n") == 0
    with pytest.raises(pylibmc.NotFound):
        lib.incr("none")
    lib.set_multi({"a": 1, "b": 2})
    lib.incr_multi(["a", "b"], delta=5)
    assert lib.get_multi(["a", "b"]) == {"a": 6, "b": 7}


def test_pylibmc_many_at_once(lib):
    items = {"k%d" % n: "%d" % n for n in range(500)}
    assert lib.set_multi(items) == []
    assert lib.get_multi(list(items) + ["none"]) == items
    assert lib.add_multi({"k1": "x", "new": "x"}) != [] and lib.get("new") == "x"
    assert lib.get_multi(["1", "2"], key_prefix="k") == {"1": "1", "2": "2"}
    assert lib.delete_multi(list(items)) is True
    assert lib.get_multi(list(items)) == {}


def test_pylibmc_cas(lib):
    assert lib.set("k", "1")
    value, cas = lib.gets("k")
    assert value == "1" and lib.cas("k", "2", cas) is True
    assert lib.cas("k", "3", cas) is False and lib.get("k") == "2"
    assert lib.gets("none") == (None, None)


def test_pylibmc_deletes_and_flushes(lib):
    lib.set("k", "1")
    assert lib.delete("k") is True and lib.delete("k") is False
    lib.set("k", "1")
    assert lib.flush_all() is True and lib.get("k") is None


def test_pylibmc_expires_and_touches(lib):
    lib.set("short", "1", time=1)
    support.touch_in_time(lambda: lib.set("long", "1", time=1), lambda: lib.touch("long", 100))
    assert lib.touch("long", 100) is True and lib.touch("none", 100) is False
    time.sleep(2.1)
    assert lib.get("short") is None and lib.get("long") == "1"


def test_pylibmc_statistics(lib):
    lib.set("k", "1")
    (_, stats), = lib.get_stats()
    assert stats["curr_items"] == b"1" and stats["threads"] == b"4"


def test_pylibmc_compresses(lib):
    assert lib.set("k", "x" * 50000, min_compress_len=1000) and lib.get("k") == "x" * 50000


def test_pylibmc_clones_and_pools(lib):
    import pylibmc

    assert lib.clone().set("k", "1") and lib.get("k") == "1"
    pool = pylibmc.ClientPool(lib, 4)
    with pool.reserve() as client:
        assert client.get("k") == "1"
    lib.disconnect_all()
    assert lib.get("k") == "1"


def test_pylibmc_without_waiting_for_answers(server):
    """libmemcached's noreply and non-blocking modes: quiet operations, many of them."""
    pylibmc = pytest.importorskip("pylibmc")
    lib = pylibmc.Client(["127.0.0.1:%d" % server.port], binary=True,
                         behaviors={"_noreply": True, "no_block": True})
    for n in range(1000):
        lib.set("k%d" % n, "%d" % n)
    assert lib.get_multi(["k%d" % n for n in range(1000)]) == {"k%d" % n: "%d" % n
                                                               for n in range(1000)}


def test_pylibmc_large_values(lib):
    import pylibmc

    with pytest.raises(pylibmc.Error):
        lib.set("k", b"x" * 2000000)
    assert lib.set("k", b"x" * 1000000) and lib.get("k") == b"x" * 1000000
