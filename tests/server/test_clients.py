"""Clients of other people: pymemcache over its whole API, and the tools of libmemcached."""
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
from pymemcache.exceptions import MemcacheClientError, MemcacheIllegalInputError, MemcacheServerError

import support


@pytest.fixture
def py(server):
    client = pymemcache.Client(("127.0.0.1", server.port), default_noreply=False, timeout=support.TIMEOUT)
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
    py.set("k", b"1", expire=2)
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
            return (value.encode(), 1) if isinstance(value, str) else (json.dumps(value).encode(), 2)

        def deserialize(self, key, value, flags):
            return value.decode() if flags == 1 else json.loads(value)

    with closing(pymemcache.Client(("127.0.0.1", server.port), serde=Json(), default_noreply=False)) as client:
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
    with closing(pymemcache.Client(("127.0.0.1", server.port), allow_unicode_keys=True, default_noreply=False)) as client:
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


def test_several_servers():
    servers = [support.Server() for _ in range(3)]
    client = HashClient([("127.0.0.1", server.port) for server in servers], default_noreply=False)
    items = {"k%d" % i: b"%d" % i for i in range(200)}
    assert client.set_many(items) == []
    assert client.get_many(list(items)) == items
    assert sum(int(server.stats()["curr_items"]) for server in servers) == 200
    client.close()


def test_a_restart_between_two_calls(server):
    client = RetryingClient(pymemcache.Client(("127.0.0.1", server.port), default_noreply=False), attempts=3, retry_delay=0.1)
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
    command = [path] + (["--servers=127.0.0.1:%d" % server.port] if servers else []) + list(arguments)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=support.TIMEOUT, cwd=directory,
                          check=False)
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
        client.set(b"k", b"x", exptime=3)
        assert tool("memcexist", server, "k")[0] == 0
        assert tool("memctouch", server, "--expire=1000", "k")[0] == 0
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


def test_memccp_add_and_replace(server, folder):
    assert tool("memccp", server, "--replace", "poem", check=False, directory=folder)[0] != 0
    tool("memccp", server, "--add", "poem", directory=folder)
    assert tool("memccp", server, "--add", "poem", check=False, directory=folder)[0] != 0
    tool("memccp", server, "--replace", "--expire=1", "poem", directory=folder)


@pytest.mark.parametrize("test", ["get", "set", "mget"])
def test_memcslap(server, test):
    tool("memcslap", server, "--test=" + test, "--concurrency=4", "--execute-number=500", "--initial-load=500",
         check=test != "mget")


def test_memccapable(server):
    """libmemcached's own conformance test of the text protocol."""
    status, out = tool("memccapable", server, "-h", "127.0.0.1", "-p", str(server.port), "-a", "-t", "5", servers=False,
                       check=False)
    failed = [line for line in out.decode().split("\n") if "[FAIL]" in line]
    assert failed == [] and status == 0, out.decode()
