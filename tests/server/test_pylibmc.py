"""pylibmc, the Python face of libmemcached, over its whole API: in the text protocol and in the
binary one."""
import time

import pytest

import support

pylibmc = pytest.importorskip("pylibmc")


@pytest.fixture(params=["text", "binary"])
def client(request, server):
    client = pylibmc.Client(["127.0.0.1:%d" % server.port], binary=request.param == "binary",
                            behaviors={"cas": True, "tcp_nodelay": True})
    if request.param == "text":
        client.behaviors["verify_keys"] = True
    return client


def test_set_get_and_delete(client):
    assert client.set("k", "value") is True
    assert client.get("k") == "value" and client.get("none") is None and client.get("none", 5) == 5
    assert client.delete("k") is True and client.delete("k") is False and client.get("k") is None


def test_add_and_replace(client):
    try:
        assert client.replace("k", "1") is False
    except pylibmc.NotFound:
        pass  # the binary protocol tells it
    assert client.add("k", "2") is True and client.add("k", "3") is False
    assert client.replace("k", "4") is True and client.get("k") == "4"


def test_append_and_prepend(client):
    client.set("k", b"b")
    assert client.append("k", b"c") and client.prepend("k", b"a")
    assert client.get("k") == b"abc"
    assert not client.append("none", b"c") and not client.prepend("none", b"c")


def test_gets_and_cas(client):
    client.set("k", 1)
    value, unique = client.gets("k")
    assert value == 1 and client.cas("k", 2, unique) is True
    assert client.cas("k", 3, unique) is False and client.get("k") == 2
    assert client.gets("none") == (None, None)
    with pytest.raises(pylibmc.NotFound):
        client.cas("none", 1, unique)


def test_incr_and_decr(client):
    client.set("k", 10)
    assert (client.incr("k") == 11 and client.incr("k", 9) == 20 and client.decr("k", 5) == 15 and
            client.decr("k", 100) == 0)
    with pytest.raises(pylibmc.NotFound):
        client.incr("none")
    with pytest.raises(pylibmc.NotFound):
        client.decr("none")
    client.set("text", "x")
    with pytest.raises(pylibmc.Error):
        client.incr("text")
    client.set("other", 1)
    client.incr_multi(["k", "other"], delta=3)
    assert client.get_multi(["k", "other"]) == {"k": 3, "other": 4}


def test_many(client):
    items = {"k%d" % number: "v%d" % number for number in range(500)}
    assert client.set_multi(items) == [] and client.get_multi(list(items) + ["none"]) == items
    assert client.add_multi({"k0": "x", "new": "y"}) == ["k0"]
    assert (client.delete_multi(list(items)) and
            client.get_multi(list(items) + ["new"]) == {"new": "y"})
    assert client.set_multi({"a": 1, "b": 2}, key_prefix="p:") == []
    assert (client.get_multi(["a", "b"], key_prefix="p:") == {"a": 1, "b": 2} and
            client.get("p:a") == 1)
    assert client.delete_multi(["a", "b"], key_prefix="p:") and client.get("p:a") is None


def test_types_come_back_as_they_went(client):
    for value in ("text", "schlüssel", b"bytes\x00\r\n", 7, -7, 1 << 70, True, 1.5, None,
                  [1, {"a": (2,)}], ""):
        client.set("k", value)
        assert client.get("k") == value


def test_values_of_every_size_and_compressed_ones(client):
    for size in [0, 1, 1000, 4095, 4096, 65536, 1000000]:
        value = support.value_of(b"k", size)
        assert client.set("k", value) and client.get("k") == value
        assert client.set("k", value, min_compress_len=100) and client.get("k") == value
    with pytest.raises(pylibmc.TooBig):
        client.set("k", b"x" * (2 << 20))


def test_expiry_and_touch(client):
    client.set("short", "x", time=1)
    client.set_multi({"many": "x"}, time=1)
    support.touch_in_time(lambda: client.set("touched", "x", time=1),
                          lambda: client.touch("touched", 1000))
    assert not client.touch("none", 1000)
    time.sleep(2.1)
    assert client.get_multi(["short", "touched", "many"]) == {"touched": "x"}


def test_flush_all(client):
    client.set("k", "x")
    assert client.flush_all() is True and client.get("k") is None


def test_stats(client, server):
    client.set("k", "x")
    (name, stats), = client.get_stats()
    assert (b"%d" % server.port in name and int(stats["curr_items"]) == 1 and
            int(stats["pid"]) == server.process.pid)


def test_a_key_that_is_too_long(client):
    with pytest.raises(ValueError):
        client.set("k" * 251, "x")
    client.set("k", "x")
    assert client.get("k") == "x"


def test_a_lost_connection_is_made_anew(client, server):
    client.set("k", "x")
    client.disconnect_all()
    assert client.get("k") == "x"
    server.restart("kill9")
    for _ in range(5):
        try:
            client.get("k")
        except pylibmc.Error:
            time.sleep(0.1)
    assert client.get("k") == ("x" if not support.IS_MEMCACHED else None)


def test_clones_and_pools(client):
    client.set("k", "x")
    assert client.clone().get("k") == "x"
    pool = pylibmc.ClientPool(client, 2)
    with pool.reserve() as one, pool.reserve() as two:
        assert one.get("k") == two.get("k") == "x"


@pytest.mark.parametrize("behaviors", [{"no_block": True}, {"_noreply": True}],
                         ids=lambda b: list(b)[0])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_behaviors_that_change_the_stream(server, binary, behaviors):
    client = pylibmc.Client(["127.0.0.1:%d" % server.port], binary=binary, behaviors=behaviors)
    for number in range(300):
        client.set("k%d" % number, "v%d" % number)
    items = {"k%d" % number: "v%d" % number for number in range(300)}
    support.wait_until(lambda: client.get_multi(list(items)) == items, "all have been stored")


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_several_servers(binary):
    servers = [support.Server() for _ in range(3)]
    client = pylibmc.Client(["127.0.0.1:%d" % server.port for server in servers], binary=binary,
                            behaviors={"ketama": True})
    items = {"k%d" % number: number for number in range(300)}
    assert client.set_multi(items) == [] and client.get_multi(list(items)) == items
    counts = [int(server.stats()["curr_items"]) for server in servers]
    assert sum(counts) == 300 and min(counts) > 0


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_a_unix_socket(binary):
    server = support.Server(unix=True, start=False)
    server.options += ["-a", "0777"]
    server.start()
    client = pylibmc.Client([server.unix_path], binary=binary)
    assert client.set("k", "x") and client.get("k") == "x"
