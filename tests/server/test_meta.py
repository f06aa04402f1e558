"""Meta commands on values that are only on disk, after restarts, from many clients at once, and
with large values."""
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import support
from support import Server, forget_page_cache, value_of

KEYS = 3000 if support.SANITIZED else 6000
VALUE = 1000


def key(number):
    return b"key-%d" % number


def value(number):
    return value_of(key(number), VALUE)


def talk(client, sent, wanted):
    """As client.talk; `<ttl>` in what is wanted is a time to live of 1000 s that has begun to
    run."""
    client.send(sent + b"mn\r\n")
    got = client.read_until(b"MN\r\n")
    pattern = re.escape(wanted).replace(b"<ttl>", rb"(1000|9\d\d)")
    assert re.fullmatch(pattern + b"MN\r\n", got), "expected %r\n     got %r" % (wanted, got)


def bury(server):
    """What was stored before is only on disk then."""
    with server.connect() as client:
        for start in range(0, KEYS, 500):
            client.talk(b"".join(b"ms %s %d F%d\r\n%s\r\n" % (key(n), VALUE, n, value(n))
                                 for n in range(start, start + 500)),
                        b"HD\r\n" * 500)
    forget_page_cache(server)


@pytest.fixture
def small():
    return Server("-m", "2", "--segment-size=1m")


def test_gets_of_cold_values_in_one_pipeline(small):
    bury(small)
    with small.connect() as client:
        numbers = range(0, KEYS, 7)
        client.talk(b"".join(b"mg %s f v\r\nmg none q\r\n" % key(n) for n in numbers) + b"mn\r\n",
                    b"".join(b"VA %d f%d\r\n%s\r\n" % (VALUE, n, value(n)) for n in numbers) +
                    b"MN\r\n")


def test_every_command_on_cold_values(small):
    with small.connect() as client:
        for n in range(20):
            client.talk(b"ms n%d 2 T1000 F3 E%d\r\n10\r\n" % (n, 100 + n), b"HD\r\n")
        bury(small)
        talk(client, b"mg n0 v t c T50 f\r\n", b"VA 2 t<ttl> c100 f3\r\n10\r\n")
        talk(client, b"mg n1 R2000 t\r\nmg n1\r\n", b"HD t<ttl> W\r\nHD Z\r\n")
        talk(client, b"md n2 I T1000\r\nmg n2 v t\r\nmg n2\r\n",
             b"HD\r\nVA 2 t<ttl> X W\r\n10\r\nHD Z X\r\n")
        talk(client, b"md n3 x\r\nmg n3 v f t\r\n", b"HD\r\nVA 0 f0 t<ttl>\r\n\r\n")
        talk(client, b"md n4 C1\r\nmd n4 C104\r\nmg n4\r\n", b"EX\r\nHD\r\nEN\r\n")
        talk(client, b"ma n5 v t\r\n", b"VA 2 t<ttl>\r\n11\r\n")
        talk(client, b"ma n6 MD v C106 E9 c\r\n", b"VA 1 c9\r\n9\r\n")
        talk(client, b"ms n7 1 MA s\r\n0\r\nmg n7 v t f\r\n", b"HD s3\r\nVA 3 t<ttl> f3\r\n100\r\n")
        talk(client, b"ms n8 1 C107 I\r\nx\r\nmg n8 v t\r\n", b"HD\r\nVA 1 t<ttl> X W\r\nx\r\n")
        talk(client, b"ms n9 1 C1000\r\nx\r\nms n9 1 C109\r\nx\r\n", b"EX\r\nHD\r\n")
        talk(client, b"ms n10 1 ME\r\nx\r\nms n10 1 MR\r\nx\r\n", b"NS\r\nHD\r\n")
        client.send(b"me n11\r\n")
        assert client.line().startswith(b"ME n11 exp=")
        talk(client, b"mg n12 u h\r\nmg n12 h\r\nmg n12 h\r\n", b"HD h0\r\nHD h0\r\nHD h1\r\n")


def states(client):
    client.talk(b"mg stale v c f u\r\n", b"VA 5 c7 f2 Z X\r\nhello\r\n")
    client.talk(b"mg won v c u\r\n", b"VA 5 c8 Z\r\nhello\r\n")
    client.talk(b"mg made v c u\r\n", b"VA 0 c9 Z\r\n\r\n")
    client.talk(b"mg empty v c f u\r\n", b"VA 0 c10 f0\r\n\r\n")


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_states_survive(how):
    server = Server()
    with server.connect() as client:
        client.talk(b"ms stale 5 E6 F2\r\nhello\r\nmd stale I E7\r\nmg stale\r\n",
                    b"HD\r\nHD\r\nHD X W\r\n")
        client.talk(b"ms won 5 E8 T1000\r\nhello\r\nmg won R2000\r\n", b"HD\r\nHD W\r\n")
        client.talk(b"mg made N1000 E9\r\n", b"HD W\r\n")
        client.talk(b"ms empty 5 F3\r\nhello\r\nmd empty x E10\r\n", b"HD\r\nHD\r\n")
        client.talk(b"ms later 5 E11\r\nhello\r\nmd later I E12\r\n", b"HD\r\nHD\r\n")
        states(client)
    server.restart(how)
    with server.connect() as client:
        states(client)
        client.talk(b"mg later c v\r\nmg later c\r\n", b"VA 5 c12 X W\r\nhello\r\nHD c12 Z X\r\n")
        client.talk(b"ms stale 1\r\nx\r\nmg stale v\r\n", b"HD\r\nVA 1\r\nx\r\n")


def test_states_are_carried_by_cache_and_disk(small):
    with small.connect() as client:
        client.talk(b"ms stale 5 E6 F2\r\nhello\r\nmd stale I E7\r\nmg stale\r\n",
                    b"HD\r\nHD\r\nHD X W\r\n")
        for _ in range(2):
            bury(small)
            client.talk(b"mg stale v c f\r\n", b"VA 5 c7 f2 Z X\r\nhello\r\n")


def test_one_of_many_wins():
    server = Server("-t", "4")
    barrier = threading.Barrier(8)

    def ask(_):
        with server.connect() as client:
            answers = []
            for n in range(200):
                barrier.wait()
                client.send(b"mg vivified-%d N100\r\nmg stale-%d\r\n" % (n, n))
                answers.append((client.line(), client.line()))
            return answers

    with server.connect() as client:
        for n in range(200):
            client.talk(b"ms stale-%d 1\r\nx\r\nmd stale-%d I\r\n" % (n, n), b"HD\r\nHD\r\n")
    with ThreadPoolExecutor(8) as pool:
        everybody = list(pool.map(ask, range(8)))
    for answers in zip(*everybody):
        assert sorted(vivified for vivified, _ in answers) == [b"HD W\r\n"] + [b"HD Z\r\n"] * 7
        assert sorted(stale for _, stale in answers) == [b"HD X W\r\n"] + [b"HD Z X\r\n"] * 7


def test_large_values_with_their_flags(small):
    with small.connect() as client:
        for size in (16000, 16384, 17000, 500000, 1000000):
            data = value_of(b"large", size)
            client.talk(b"ms large %d T1000 s k\r\n%s\r\n" % (size, data),
                        b"HD s%d klarge\r\n" % size)
            client.talk(b"md large I\r\n", b"HD\r\n")
            talk(client, b"mg large s v t\r\n",
                 b"VA %d s%d t<ttl> X W\r\n%s\r\n" % (size, size, data))
            client.talk(b"mg large v\r\n" * 3, b"VA %d Z X\r\n%s\r\n" % (size, data) * 3)


def test_counters():
    server = Server()
    with server.connect() as client:
        client.send(b"ms k 1 E5\r\n1\r\nmg k\r\nmg k T100\r\nmg none\r\nma k\r\nma k MD\r\n"
                    b"ma none\r\nms k 1 C1\r\nx\r\n"
                    b"ms none 1 C1\r\nx\r\nms k 1 C1 MA\r\nx\r\nme k\r\nmd none\r\nmd k\r\nmn\r\n")
        client.read_until(b"MN\r\n")
        stats = client.stats()
    wanted = dict(cmd_get=2, get_hits=1, get_misses=1, cmd_touch=1, touch_hits=1, incr_hits=1,
                  decr_hits=1, incr_misses=1, cmd_set=4, cas_badval=1, cas_misses=1, cmd_meta=1,
                  delete_hits=1, delete_misses=1)
    assert {name: int(stats[name]) for name in wanted} == wanted
