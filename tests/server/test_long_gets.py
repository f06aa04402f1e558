"""A get of very many keys by clients that write all of it before they read anything: over TCP, a
Unix socket and TLS."""
import pymemcache
import pytest

import support
import test_tls
from support import Server

memcache = pytest.importorskip("memcache")
pylibmc = pytest.importorskip("pylibmc")

KEYS = ["key-of-thirty-bytes-%010d" % number for number in range(50000)]
# Of a hundred bytes each, so that the replies fill every buffer on their way, too
STORED = KEYS[::7]
LINE_MAX = (16 << 20) - 1
certificates = test_tls.certificates


def value(key):
    return key.encode() * 4


def start(transport, request):
    if transport == "tls":
        if b"enable-ssl" not in test_tls.BUILT_IN:
            pytest.skip("built without TLS")
        return test_tls.TlsServer(request.getfixturevalue("certificates"))
    return Server(unix=transport == "unix")


@pytest.fixture(params=["tcp", "unix", "tls"])
def server(request):
    server = start(request.param, request)
    with server.connect() as client:
        for at in range(0, len(STORED), 1000):
            part = STORED[at : at + 1000]
            client.talk(b"".join(b"set %s 0 0 120\r\n%s\r\n" % (key.encode(), value(key))
                                 for key in part),
                        b"STORED\r\n" * len(part))
    return server


def test_written_before_anything_is_read(server):
    with server.connect() as client:
        for command, count in ((b"get", 12000), (b"get", len(KEYS)), (b"gets", len(KEYS))):
            client.send(command + b"".join(b" " + key.encode() for key in KEYS[:count]) + b"\r\n")
            found = client.read_values()
            assert {key.decode(): entry[0] for key, entry in found.items()} == {
                key: value(key) for key in KEYS[:count:7]}


def test_by_pymemcache(server):
    address = server.unix_path or ("127.0.0.1", server.port)
    tls = getattr(server, "context", None)
    if tls:
        address = ("localhost", server.port)
    client = pymemcache.Client(address, timeout=support.TIMEOUT, tls_context=tls)
    assert client.get_many(KEYS) == {key: value(key) for key in STORED}
    client.close()


def test_by_python_memcached(server):
    if hasattr(server, "context"):
        pytest.skip("it knows no TLS")
    address = "unix:" + server.unix_path if server.unix_path else "127.0.0.1:%d" % server.port
    client = memcache.Client([address], socket_timeout=support.TIMEOUT)
    assert client.get_multi(KEYS) == {key: value(key) for key in STORED}
    client.disconnect_all()


@pytest.mark.parametrize("binary", [False, True])
def test_by_pylibmc(server, binary):
    """In binary each key is a request, and with a Unix socket's small buffers both sides would wait
    for each other, as they do with memcached."""
    if hasattr(server, "context"):
        pytest.skip("it knows no TLS")
    if binary and server.unix_path:
        pytest.skip("it writes many requests before it reads")
    client = pylibmc.Client([server.unix_path or "127.0.0.1:%d" % server.port], binary=binary,
                            behaviors={"_poll_timeout": support.TIMEOUT * 1000})
    assert client.get_multi(KEYS) == {key: value(key) for key in STORED}


def test_a_bad_key_is_all_that_is_answered(server):
    with server.connect() as client:
        client.send(b"get" + b"".join(b" " + key.encode() for key in KEYS) + b" " + b"k" * 251 +
                    b"\r\n")
        client.expect(b"CLIENT_ERROR bad command line format\r\n")
        client.talk(b"mn\r\n", b"MN\r\n")


def test_as_long_as_it_may_be(server):
    with server.connect() as client:
        client.send(b"get" + b" none" * ((LINE_MAX - 6) // 5) + b"\r\n")
        client.expect(b"END\r\n")
        client.talk(b"mn\r\n", b"MN\r\n")


def test_longer_than_it_may_be(server):
    with server.connect() as client:
        try:
            client.send(b"get" + b" none" * (LINE_MAX // 5 + 40000))
        except ConnectionError:
            return
        try:
            client.read_until(b"CLIENT_ERROR line too long\r\n")
            client.expect_closed()
        except ConnectionError:
            pass  # the end of the connection may overtake what was said


def test_who_sends_one_slowly_holds_up_nobody(server):
    with server.connect() as slow, server.connect() as client:
        slow.send(b"get" + b" none" * 500000)
        for _ in range(200):
            slow.send(b" none")
            client.talk(b"mn\r\n", b"MN\r\n")
        slow.talk(b"\r\n", b"END\r\n")


def test_many_such_lines_at_a_time():
    """Incomplete requests may take so much memory and no more; a client that needs more gets an
    error, and all others are served."""
    # One line of the longest kind always has room
    server = Server("-t", "1", "-o", "read_buf_mem_limit=1")
    before = server.resident_mib()
    clients = [server.connect() for _ in range(20)]
    refused = 0
    for client in clients:
        try:
            client.send(b"get" + b" none" * 600000)  # 3 MB
        except ConnectionError:
            refused += 1
    support.wait_until(lambda: int(server.stats()["read_buf_oom"]) >= 10, "memory to run out")
    assert server.resident_mib() < before + 17 + (400 if support.SANITIZED else 24)
    answered = 0
    for client in clients:
        try:
            client.send(b"\r\n")
            answered += client.read_until(b"\r\n") == b"END\r\n"
        except (ConnectionError, EOFError, AssertionError):
            refused += 1
    assert 1 <= answered <= 8
    assert server.log().count("read_buf_mem_limit") == 1
    with server.connect() as client:
        client.send(b"get" + b" none" * 600000 + b"\r\n")
        client.expect(b"END\r\n")


def test_a_large_value_that_finds_no_memory_costs_its_connection_and_nothing_else():
    server = Server("-t", "1", "-I", "8m", "-o", "read_buf_mem_limit=1")
    clients = [server.connect() for _ in range(8)]
    told = 0
    for client in clients:
        try:
            client.send(b"set k 0 0 8000000\r\n" + b"x" * 7000000)
        except ConnectionError:
            told += 1
    support.wait_until(lambda: int(server.stats()["read_buf_oom"]) > 0, "memory to run out")
    stored = 0
    for client in clients:
        try:
            client.send(b"x" * 1000000 + b"\r\n")
            stored += client.line() == b"STORED\r\n"
        except (ConnectionError, EOFError, AssertionError):
            pass
    assert 1 <= stored < 8
    with server.connect() as client:
        client.set(b"k", b"y" * 7900000)
        assert client.get(b"k") == b"y" * 7900000
