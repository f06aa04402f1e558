"""nutcracker (twemproxy) in front of two servers: it spreads the keys, and goes on with one when
the other is gone."""
import os
import shutil
import subprocess
import time
from contextlib import closing

import pymemcache
import pytest

import support

NUTCRACKER = shutil.which("nutcracker", path=os.environ.get("PATH", "") + ":/usr/sbin")

pytestmark = pytest.mark.skipif(NUTCRACKER is None, reason="nutcracker is not installed")

CONFIGURATION = """
pool:
  listen: 127.0.0.1:%d
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: true
  server_failure_limit: 1
  server_retry_timeout: 60000
  timeout: 2000
  servers:
   - 127.0.0.1:%d:1 one
   - 127.0.0.1:%d:1 two
"""
ITEMS = {"k%d" % number: b"v%d" % number for number in range(200)}


class Proxy(support.Server):
    def __init__(self, backends, **more):
        self.backends = backends
        super().__init__(**more)

    def command(self):
        path = os.path.join(self.folder, "nutcracker.yml")
        with open(path, "w", encoding="ascii") as file:
            file.write(CONFIGURATION % (self.port, *(server.port for server in self.backends)))
        return [NUTCRACKER, "-c", path, "-s", str(support.free_port()), "-a", "127.0.0.1"]

    def wait_until_ready(self, timeout=support.TIMEOUT):
        def accepts():
            try:
                self.connect().close()
                return True
            except OSError:
                assert self.is_alive(), self.log()
                return False

        support.wait_until(accepts, "nutcracker listens")


@pytest.fixture
def backends():
    return [support.Server(), support.Server()]


@pytest.fixture
def client(backends):
    proxy = Proxy(backends)
    with closing(pymemcache.Client(("127.0.0.1", proxy.port), default_noreply=False,
                                   timeout=support.TIMEOUT)) as client:
        yield client


def test_keys_are_spread_and_found(client, backends):
    assert client.set_many(ITEMS) == []
    assert client.get_many(list(ITEMS) + ["none"]) == ITEMS
    counts = [int(server.stats()["curr_items"]) for server in backends]
    assert sum(counts) == len(ITEMS) and min(counts) > 0
    assert client.delete("k7") is True and client.delete("k7") is False and client.get("k7") is None


def test_the_other_commands_pass_through(client):
    client.set("k", b"2")
    assert client.add("k", b"x") is False and client.replace("k", b"3") is True
    assert client.append("k", b"0") and client.prepend("k", b"1") and client.get("k") == b"130"
    assert (client.incr("k", 5) == 135 and client.decr("k", 35) == 100 and
            client.touch("k", 1000) is True)
    value, unique = client.gets("k")
    assert (value == b"100" and client.cas("k", b"x", unique) is True and
            client.cas("k", b"y", unique) is False)
    large = support.value_of(b"large", 1000000)
    assert client.set("large", large) and client.get("large") == large


def test_a_server_that_stops_is_left_out(client, backends):
    assert client.set_many(ITEMS) == []
    left = int(backends[1].stats()["curr_items"])
    backends[0].stop()
    deadline = time.monotonic() + support.TIMEOUT
    stored = 0
    # The first to notice gets an error, and then all keys go to the other one
    while stored < len(ITEMS):
        assert time.monotonic() < deadline
        try:
            stored = sum(client.set(key, value) for key, value in ITEMS.items())
        except (OSError, pymemcache.exceptions.MemcacheError):
            time.sleep(0.05)
    assert client.get_many(list(ITEMS)) == ITEMS
    assert int(backends[1].stats()["curr_items"]) == len(ITEMS) > left
