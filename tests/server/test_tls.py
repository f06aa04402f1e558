"""TLS: handshakes, certificates and their change, and that it carries the same bytes as a plain
connection."""
import contextlib
import ctypes
import ctypes.util
import os
import random
import select
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from pymemcache.client.base import Client as Pymemcache

import support
import test_binary
import test_protocol
from support import CACHECASK, Client, Server, free_port, value_of

HANDSHAKE_S = 10  # how long the server waits for one

BUILT_IN = subprocess.run([CACHECASK, "-h"], stdout=subprocess.PIPE,
                          check=True).stdout.split(b"Built in")[-1]
pytestmark = pytest.mark.skipif(b"enable-ssl" not in BUILT_IN, reason="built without TLS")


# Certificates: made once, with the openssl command

class Certificates:
    def __init__(self, directory):
        self.directory = directory
        for name in ("ca", "stranger-ca"):
            self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
                         "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                         self.path(name, "key"), "-out", self.path(name), "-days", "3", "-subj",
                         "/CN=" + name)
        for name, signer in (("server", "ca"), ("renewed", "ca"), ("client", "ca"),
                             ("stranger", "stranger-ca")):
            self.sign(name, signer)
        self.openssl("pkey", "-in", self.path("server", "key"), "-outform", "DER", "-out",
                     self.path("server-der", "key"))
        self.openssl("pkey", "-in", self.path("server", "key"), "-aes256", "-passout",
                     "pass:secret", "-out", self.path("locked", "key"))
        for name in os.listdir(directory):
            os.chmod(os.path.join(directory, name), 0o644)

    def path(self, name, kind="pem"):
        return os.path.join(self.directory, "%s.%s" % (name, kind))

    @staticmethod
    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=support.TIMEOUT, check=False)
        assert done.returncode == 0, done.stdout.decode()

    def sign(self, name, signer):
        with open(self.path("extensions", "cnf"), "w", encoding="ascii") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                     "-nodes", "-keyout", self.path(name, "key"), "-out", self.path(name, "csr"),
                     "-subj", "/CN=" + name)
        self.openssl("x509", "-req", "-in", self.path(name, "csr"), "-CA", self.path(signer),
                     "-CAkey", self.path(signer, "key"), "-CAcreateserial", "-days", "3", "-out",
                     self.path(name), "-extfile", self.path("extensions", "cnf"))

    def context(self, client=None, least=ssl.TLSVersion.TLSv1_2, most=ssl.TLSVersion.TLSv1_3):
        """The certificates that a client trusts and shows."""
        context = ssl.create_default_context(cafile=self.path("ca"))
        context.minimum_version, context.maximum_version = least, most
        if client:
            context.load_cert_chain(self.path(client), self.path(client, "key"))
        return context


@pytest.fixture(scope="module")
def certificates():
    return Certificates(support.place.new("certificates"))


class TlsClient(Client):
    def send(self, data):
        try:
            super().send(data)
        except ssl.SSLEOFError:
            raise ConnectionResetError from None  # as a plain socket has it


class TlsServer(Server):
    """A server with -Z, whose connections speak TLS."""

    def __init__(self, certificates, *options, extended="", start=True, **more):
        self.certificates = certificates
        self.context = certificates.context()
        self.chain, self.key = certificates.path("server"), certificates.path("server", "key")
        super().__init__(*options, start=False, **more)
        self.extended = extended
        if start:
            self.start()

    def command(self):
        files = "ssl_chain_cert=%s,ssl_key=%s" % (self.chain, self.key)
        return super().command() + ["-Z", "-o", ",".join(filter(None, (files, self.extended)))]

    def connect(self, timeout=support.TIMEOUT, context=None, port=None, session=None):
        client = TlsClient(("127.0.0.1", port or self.port), timeout)
        client.socket = (context or
                         self.context).wrap_socket(client.socket, server_hostname="localhost",
                                                   session=session, suppress_ragged_eofs=False)
        self.clients.append(client)
        return client

    def connect_plainly(self, port=None):
        client = Client(("127.0.0.1", port or self.port))
        self.clients.append(client)
        return client

    def use_copies(self):
        """Its certificate and key lie where they can be changed."""
        directory = support.place.new("changing")
        self.chain, self.key = os.path.join(directory, "chain"), os.path.join(directory, "key")
        return self.install("server")

    def install(self, name):
        for source, target in ((self.certificates.path(name), self.chain),
                               (self.certificates.path(name, "key"), self.key)):
            with open(source, "rb") as file:
                content = file.read()
            with open(target + ".new", "wb") as file:
                file.write(content)
            os.rename(target + ".new", target)
        return self


@pytest.fixture
def server(certificates):
    return TlsServer(certificates)


class NeverEnding:
    """Clients that begin a handshake when the tests begin, and one that has done its own."""

    def __init__(self, certificates):
        self.server = TlsServer(certificates, "-v", shared=True)
        self.started = time.monotonic()
        self.silent, self.talking = self.server.connect_plainly(), self.server.connect_plainly()
        self.done = self.server.connect()
        self.talking.send(b"\x16\x03\x01")

    def wait_for_end(self):
        """Seconds until both have been closed."""
        for client in (self.silent, self.talking):
            assert select.select([client.socket], [], [], 3 * HANDSHAKE_S)[0], "still open"
        return time.monotonic() - self.started


@pytest.fixture(scope="module", autouse=True)
def never_ending(certificates):
    clients = NeverEnding(certificates)
    yield clients
    support.shared_servers.remove(clients.server)
    complaint = clients.server.give_up()
    assert not complaint, complaint


def shown(client):
    """The name in the certificate that the server has shown."""
    return dict(part[0] for part in client.socket.getpeercert()["subject"])["commonName"]


def is_refused(connect):
    """With TLS 1.3 a client hears of its refusal only when it reads."""
    try:
        with connect() as client:
            client.send(b"version\r\n")
            return not client.fill()
    except (ssl.SSLError, ConnectionError):
        return True


# Clients

def test_set_and_get(server):
    with server.connect() as client:
        client.set(b"k", b"value", flags=7)
        assert client.gets(b"k")[b"k"][:2] == (b"value", 7)
        assert client.socket.version() == "TLSv1.3" and shown(client) == "server"


def test_openssl_s_client(server, certificates):
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port,
                           "-CAfile", certificates.path("ca"), "-verify_return_error",
                           "-verify_hostname", "localhost", "-quiet"],
                          input=b"set k 0 0 5\r\nvalue\r\nget k\r\nquit\r\n",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=support.TIMEOUT,
                          check=False)
    assert done.stdout == b"STORED\r\nVALUE k 0 5\r\nvalue\r\nEND\r\n", done.stderr.decode()


def test_pymemcache(server, certificates):
    client = Pymemcache(("localhost", server.port), tls_context=certificates.context(),
                        default_noreply=False, timeout=support.TIMEOUT)
    assert client.set("k", b"value") and client.get("k") == b"value"
    assert client.set_many({"a%d" % i: b"x" * i for i in range(100)}) == []
    assert client.get_many(["a%d" % i for i in range(100)]) == {"a%d" % i: b"x" * i
                                                                for i in range(100)}
    assert client.set("n", b"41") and client.incr("n", 1) == 42
    value, cas = client.gets("k")
    assert value == b"value" and client.cas("k", b"other", cas)
    assert client.delete("k") and client.get("k") is None
    client.quit()


# The stream

@pytest.mark.parametrize("t", test_protocol.CUT_EVERYWHERE, ids=test_protocol.name)
def test_a_transcript_cut_at_every_byte(certificates, t):
    server = TlsServer(certificates, *t.options)
    steps = list(test_protocol.all_at_once(t.steps))
    for cut in range(1, len(steps[0][1])):

        def send_in_two(client, data, cut=cut):
            client.send(data[:cut])
            time.sleep(0.001)
            client.send(data[cut:])

        test_protocol.play(server, t, send_in_two, steps)


def test_a_binary_session_cut_at_every_byte(certificates):
    test_binary.split_at_every_byte(TlsServer(certificates, "-I", "2k"))


def test_every_transcript_byte_by_byte(certificates):
    server = TlsServer(certificates)
    for t in test_protocol.QUICK:
        if not t.options:
            test_protocol.play(server, t, test_protocol.send_bytes)


class ByHand:
    """TLS over a socket, with the say over which of its bytes are sent together."""

    def __init__(self, server, context):
        self.socket = socket.create_connection(("127.0.0.1", server.port), support.TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def do(self, operation, send):
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                result = None
            send(self.outgoing.read())
            if result is not None:
                return result
            data = self.socket.recv(1 << 16)
            assert data, "closed"
            self.incoming.write(data)

    def read(self, count):
        data = b""
        while len(data) < count:
            data += self.do(lambda: self.tls.read(1 << 20), self.socket.sendall)
        return data


def test_records_that_arrive_byte_by_byte(server, certificates):
    client = ByHand(server, certificates.context())

    def slowly(data):
        for i in range(len(data)):
            client.socket.sendall(data[i : i + 1])

    client.do(lambda: client.tls.do_handshake() or True, slowly)
    client.do(lambda: client.tls.write(b"set k 0 0 5\r\nvalue\r\nget k\r\n"), slowly)
    wanted = b"STORED\r\nVALUE k 0 5\r\nvalue\r\nEND\r\n"
    assert client.read(len(wanted)) == wanted


class KeyUpdater:
    """A client that can ask the server for a new key, of OpenSSL itself: Python's ssl cannot. It
    takes little at once, and never waits for the server to take something: what the socket refuses
    stays in unsent."""

    def __init__(self, port):
        self.openssl = ctypes.CDLL(ctypes.util.find_library("ssl"))
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_s_mem", "BIO_new"):
            getattr(self.openssl, name).restype = ctypes.c_void_p
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The server's buffer grows with it
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 500)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.unsent = b""
        method = ctypes.c_void_p(self.openssl.TLS_client_method())
        self.context = ctypes.c_void_p(self.openssl.SSL_CTX_new(method))
        self.tls = ctypes.c_void_p(self.openssl.SSL_new(self.context))
        self.incoming, self.outgoing = (
            ctypes.c_void_p(self.openssl.BIO_new(ctypes.c_void_p(self.openssl.BIO_s_mem())))
            for _ in range(2))
        self.openssl.SSL_set_bio(self.tls, self.incoming, self.outgoing)
        while self.openssl.SSL_connect(self.tls) != 1:
            self.flush()
            self.take()
        self.flush()

    def flush(self):
        room = ctypes.create_string_buffer(1 << 16)
        while (got := self.openssl.BIO_read(self.outgoing, room, len(room))) > 0:
            self.unsent += room.raw[:got]
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self.socket.send(self.unsent):]

    def take(self):
        assert select.select([self.socket], [], [], support.TIMEOUT)[0], "nothing comes"
        data = self.socket.recv(1 << 16)
        assert data, "closed"
        assert self.openssl.BIO_write(self.incoming, data, len(data)) == len(data)

    def update(self):
        assert self.openssl.SSL_key_update(self.tls, 1) == 1  # SSL_KEY_UPDATE_REQUESTED
        assert self.openssl.SSL_do_handshake(self.tls) == 1
        self.flush()

    def send(self, data):
        assert self.openssl.SSL_write(self.tls, data, len(data)) == len(data)
        self.flush()

    def receive(self):
        room = ctypes.create_string_buffer(1000)
        while (got := self.openssl.SSL_read(self.tls, room, len(room))) <= 0:
            self.flush()
            self.take()
        return room.raw[:got]

    def unread(self):
        """The number of our bytes that the server has not taken from its socket."""
        self.flush()
        ours = "0100007F:%04X" % self.socket.getsockname()[1]
        with open("/proc/net/tcp", encoding="ascii") as table:
            return len(self.unsent) + next(
                int(words[4].split(":")[1], 16) for words in map(str.split, table)
                if words[2] == ours)

    def is_kept_waiting(self):
        """Waits until the server has taken all that we have sent, or has left it for a tenth of a
        second."""
        last, same = None, 0
        while (unread := self.unread()) and same < 5:
            same = same + 1 if unread == last else 0
            last = unread
            time.sleep(0.02)
        return unread > 0

    def close(self):
        self.socket.close()
        self.openssl.SSL_free(self.tls)
        self.openssl.SSL_CTX_free(self.context)


def processor_time(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as stat:
        words = stat.read().rsplit(") ", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_a_receive_that_must_wait_until_something_is_sent(server):
    """Each request for a new key has an answer of its own. Where the socket takes no more of them
    the server reads nothing, and waits for the socket, not in circles."""
    value = value_of(b"k", 8000)
    client = KeyUpdater(server.port)
    # More than we take: from then on nothing moves, and the system sees no reason to give the
    # server a larger buffer.
    client.send(b"set k 0 0 %d noreply\r\n%s\r\nget k\r\n" % (len(value), value))
    count = 0
    while not client.is_kept_waiting():
        assert count < 200000, "the server takes them all"
        for _ in range(50):
            client.update()
        count += 50
    print("%d new keys" % count)
    client.send(b"version\r\n")
    before = processor_time(server.process.pid)
    time.sleep(0.5)
    assert processor_time(server.process.pid) - before < 0.1
    wanted = b"VALUE k 0 %d\r\n%s\r\nEND\r\nVERSION " % (len(value), value)
    got = b""
    while len(got) < len(wanted):
        got += client.receive()
    assert got.startswith(wanted)
    client.close()


def test_a_flood_of_new_keys_holds_up_nobody_else(certificates):
    """Records that carry nothing come as fast as the server takes them. Others of the same worker
    have their turns."""
    server = TlsServer(certificates, "-t", "1")
    flood = KeyUpdater(server.port)
    for _ in range(200000):
        flood.openssl.SSL_key_update(flood.tls, 0)  # SSL_KEY_UPDATE_NOT_REQUESTED
        flood.openssl.SSL_do_handshake(flood.tls)
    flood.send(b"version\r\n")  # all wait in unsent, nearly
    turns = 0
    with server.connect() as client:
        client.talk(b"mn\r\n", b"MN\r\n")
        while not select.select([flood.socket], [], [], 0)[0]:
            flood.flush()
            client.talk(b"mn\r\n", b"MN\r\n")
            turns += 1
    assert flood.receive().startswith(b"VERSION ")
    flood.close()
    print("%d turns" % turns)
    assert turns > 40


def test_many_records_that_arrive_at_once(server, certificates):
    """After the first of them no event tells the server of the others."""
    client = ByHand(server, certificates.context())
    client.do(lambda: client.tls.do_handshake() or True, client.socket.sendall)
    for count in (2, 100, 3000):
        for _ in range(count):
            client.tls.write(b"version\r\n")
        client.socket.sendall(client.outgoing.read())
        answer = client.read(len(b"VERSION "))
        line = answer[: answer.index(b"\r\n") + 2] if b"\r\n" in answer else answer
        assert answer + client.read(len(line) * count - len(answer)) == line * count
    for size in (15000, 16384, 17000, 40000):
        data = b"set k 0 0 %d\r\n%s\r\n" % (size, value_of(b"k", size))
        client.tls.write(data)
        client.socket.sendall(client.outgoing.read())
        assert client.read(8) == b"STORED\r\n"


def test_a_request_and_the_end_in_one_segment(server, certificates):
    client = ByHand(server, certificates.context())
    client.do(lambda: client.tls.do_handshake() or True, client.socket.sendall)
    client.tls.write(b"verbosity 0\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.socket.sendall(client.outgoing.read())  # and our end of the socket stays open
    got = b""
    while data := client.socket.recv(1 << 16):
        client.incoming.write(data)
    got = client.tls.read(100)
    assert got == b"OK\r\n"


def test_ten_megabytes_both_ways(certificates):
    server = TlsServer(certificates, "-I", "20m", "-m", "64")
    value = random.Random(1).randbytes(10 << 20)
    with server.connect() as client:
        client.set(b"k", value)
        assert client.get(b"k") == value
        client.send(b"get k\r\n" * 5)  # more than the socket takes, in long pieces and short ones
        time.sleep(0.3)
        with server.connect() as other:
            other.set(b"other", b"x")
        for _ in range(5):
            assert client.read_values()[b"k"][0] == value


@pytest.mark.parametrize("sizes, gather",
                         [([17000] * 600, 16),
                          ([1, 100, 3071, 3072, 3073, 16384, 16385, 17000, 150000] * 40, 3)],
                         ids=["one size", "many sizes"])
def test_a_slow_reader_gets_every_byte(certificates, sizes, gather):
    """Partial writes: pieces of all sizes, a small window, and a client that reads in fits and
    starts."""
    server = TlsServer(certificates, extended="ssl_wbuf_size=%d" % gather)
    with server.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        for size in set(sizes):
            client.set(b"k%d" % size, value_of(b"k%d" % size, size))
        client.send(b"get %s\r\n" % b" ".join(b"k%d" % size for size in sizes))
        for i, size in enumerate(sizes):
            assert client.line() == b"VALUE k%d 0 %d\r\n" % (size, size)
            assert client.read(size + 2) == value_of(b"k%d" % size, size) + b"\r\n"
            if i % 8 == 0:
                time.sleep(0.02)
        client.expect(b"END\r\n")


def test_thousands_of_pipelined_requests(server):
    count = 20000
    with server.connect() as client:
        sender = threading.Thread(target=client.send, args=(b"".join(
            b"set k%d 0 0 4\r\n%04d\r\nget k%d\r\n" % (i % 100, i % 10000, i % 100)
            for i in range(count)),))
        sender.start()
        wanted = b"".join(b"STORED\r\nVALUE k%d 0 4\r\n%04d\r\nEND\r\n" % (i % 100, i % 10000)
                          for i in range(count))
        assert client.read(len(wanted)) == wanted
        sender.join()


def test_a_listing_of_all_keys(server):
    with server.connect() as client:
        client.send(b"".join(b"set key-%d 0 0 1 noreply\r\nx\r\n" % i for i in range(5000)))
        lines = client.ask(b"lru_crawler metadump all\r\n", b"END\r\n").split(b"\n")
        assert len([line for line in lines if line.startswith(b"key=")]) == 5000


def test_the_end_is_told(server, certificates):
    """A client that gets the good-bye knows that nothing was cut off."""
    context = certificates.context()
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # without it the client is to raise
    client = server.connect(context=context)
    client.send(b"version\r\nquit\r\n")
    assert client.line().startswith(b"VERSION ")
    client.expect_closed()


def test_clients_that_vanish(server, certificates):
    for _ in range(20):
        client = server.connect()
        client.set(b"k", b"x" * 1000000)
        client.send(b"get k\r\n" * 10)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    with server.connect() as client:
        assert client.get(b"k") == b"x" * 1000000
        support.wait_until(lambda: client.stats()["curr_connections"] == "1",
                           "the others are closed")


# Handshakes

def test_a_plain_client_is_refused_and_counted(server):
    with server.connect_plainly() as client:
        client.send(b"version\r\n")
        client.fill()
        assert b"VERSION" not in client.buffer
    assert int(server.stats()["ssl_handshake_errors"]) == 1


def test_the_least_version(certificates):
    old = certificates.context(most=ssl.TLSVersion.TLSv1_2)
    server = TlsServer(certificates)
    with server.connect(context=old) as client:
        assert client.socket.version() == "TLSv1.2"
        client.set(b"k", b"x")
    for least in ("3", "tlsv1.3"):
        server = TlsServer(certificates, extended="ssl_min_version=" + least)
        assert is_refused(lambda: server.connect(context=old))
        with server.connect() as client:
            assert client.socket.version() == "TLSv1.3"
            assert client.stats("settings")["ssl_min_version"] == "tlsv1.3"


def test_ciphers(certificates):
    server = TlsServer(certificates, extended="ssl_ciphers=ECDHE-ECDSA-AES256-GCM-SHA384")
    with server.connect(context=certificates.context(most=ssl.TLSVersion.TLSv1_2)) as client:
        assert client.socket.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    other = certificates.context(most=ssl.TLSVersion.TLSv1_2)
    other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert is_refused(lambda: server.connect(context=other))


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["1.2", "1.3"])
@pytest.mark.parametrize("asked", [False, True])
def test_sessions_are_resumed_when_that_is_asked_for(certificates, most, asked):
    server = TlsServer(certificates, extended="ssl_session_cache" if asked else "")
    context = certificates.context(most=most)
    with server.connect(context=context) as client:
        client.set(b"k", b"x")
        session = client.socket.session
    with server.connect(context=context,
                        session=session if asked or session and session.id else None) as client:
        assert client.get(b"k") == b"x"
        assert client.socket.session_reused == asked
        stats = client.stats()
        assert ("ssl_new_sessions" in stats) == asked
        assert not asked or int(stats["ssl_new_sessions"]) > 0


def test_renegotiation_is_refused(server, certificates):
    with subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.port,
                           "-tls1_2", "-CAfile",
                           certificates.path("ca")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as client:
        client.stdin.write(b"version\r\n")
        client.stdin.flush()
        said = piece = b"-"
        while piece and b"VERSION" not in said:
            piece = os.read(client.stdout.fileno(), 65536)
            said += piece
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said += client.communicate(timeout=support.TIMEOUT)[0]
    assert b"VERSION" in said and b"no renegotiation" in said, said.decode()
    with server.connect() as other:
        other.set(b"k", b"x")


# Client certificates

def with_client(server, name=None, **more):
    return server.connect(context=server.certificates.context(client=name), **more)


@pytest.mark.parametrize("mode, without, wrong",
                         [(0, True, True), (1, True, False), (2, False, False), (3, False, False)])
def test_client_certificates(certificates, mode, without, wrong):
    server = TlsServer(certificates, start=False,
                       extended="ssl_verify_mode=%d,ssl_ca_cert=%s"
                       % (mode, certificates.path("ca")))
    server.context = certificates.context(client="client")
    server.start()
    for name, good in ((None, without), ("stranger", wrong)):
        for _ in range(2):
            assert is_refused(lambda name=name: with_client(server, name)) == (not good)
    with server.connect() as client:
        client.set(b"k", b"x")
        errors = int(client.stats()["ssl_handshake_errors"])
    assert errors == 2 * [without, wrong].count(False)


def test_each_listener_may_ask_for_something_else(certificates):
    plain, without, asking = free_port(), free_port(), free_port()
    server = TlsServer(certificates, "-l", "notls:127.0.0.1:%d" % plain, "-l",
                       "btls:127.0.0.1:%d,mtls:127.0.0.1:%d" % (without, asking), start=False,
                       extended="ssl_verify_mode=2,ssl_ca_cert=" + certificates.path("ca"))
    server.context = certificates.context(client="client")
    server.start()
    with server.connect_plainly(plain) as client:
        client.set(b"k", b"x")
    with with_client(server, port=without) as client:
        assert client.get(b"k") == b"x"
    with server.connect(port=asking) as client:
        assert client.get(b"k") == b"x"
    assert is_refused(lambda: with_client(server, port=asking))
    assert is_refused(lambda: with_client(server))


def test_a_unix_socket_is_plain(certificates):
    server = TlsServer(certificates, unix=True, start=False)
    server.unix_path = os.path.join(support.place.new("unix"), "socket")
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    with Client(server.unix_path) as client:
        client.set(b"k", b"x")


# Other certificates

def time_of_certificates(client):
    """When they were read, in seconds after the server's start."""
    stats = client.stats()
    return int(stats["uptime"]) - int(stats["time_since_server_cert_refresh"])


def test_new_certificates_by_command(certificates):
    server = TlsServer(certificates, start=False).use_copies().start()
    with server.connect() as before:
        server.install("renewed")
        with server.connect() as client:
            assert shown(client) == "server"
            loaded = time_of_certificates(client)
            time.sleep(3.1)  # both times are in whole seconds
            client.talk(b"refresh_certs\r\n", b"OK\r\n")
            assert time_of_certificates(client) > loaded
        with server.connect() as client:
            assert shown(client) == "renewed"
        before.set(b"k", b"x")


def test_new_certificates_by_signal(certificates):
    server = TlsServer(certificates, *support.DROPPED, start=False).use_copies().start()
    server.install("renewed").process.send_signal(signal.SIGHUP)
    support.wait_until(lambda: "reloaded" in server.log(), "the certificates are reloaded")
    with server.connect() as client:
        assert shown(client) == "renewed"


def test_bad_new_certificates_leave_the_old_ones_in_use(certificates):
    server = TlsServer(certificates, start=False).use_copies().start()

    def write(path, content):
        with open(path, "w", encoding="ascii") as file:
            file.write(content)

    with server.connect() as client:
        for spoil in (lambda: os.unlink(server.chain), lambda: write(server.chain, "nonsense"),
                      lambda: write(server.key, ""), lambda: os.unlink(server.key)):
            server.install("renewed")
            spoil()
            answer = client.ask(b"refresh_certs\r\n", b"\r\n")
            assert (answer.startswith(b"Error ") and
                    (server.chain.encode() in answer or server.key.encode() in answer)), answer
        server.install("server")
        with open(certificates.path("renewed", "key"), encoding="ascii") as other:
            write(server.key, other.read())
        # A key of another certificate
        assert client.ask(b"refresh_certs\r\n", b"\r\n").startswith(b"Error ")
        server.process.send_signal(signal.SIGHUP)
        support.wait_until(lambda: "stay in use" in server.log(), "the refusal is told")
        client.set(b"k", b"x")
    with server.connect() as client:
        assert shown(client) == "server" and client.get(b"k") == b"x"


def test_certificates_change_under_load_and_no_request_is_lost(certificates):
    server = TlsServer(certificates, start=False, extended="ssl_session_cache").use_copies().start()
    stop, seen, errors, count = threading.Event(), set(), [], [0, 0]

    def stay():
        with server.connect() as client:
            while not stop.is_set():
                client.send(b"".join(b"set s%d 0 0 1\r\nx\r\n" % i for i in range(50)))
                client.expect(b"STORED\r\n" * 50)
                count[0] += 50

    def come_and_go():
        while not stop.is_set():
            with server.connect() as client:
                seen.add(shown(client))
                client.set(b"c", b"x" * 100)
                assert client.get(b"c") == b"x" * 100
                count[1] += 1

    def guarded(work):
        try:
            work()
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)
            stop.set()

    workers = [threading.Thread(target=guarded, args=(work,))
               for work in (stay, stay, come_and_go, come_and_go)]
    for worker in workers:
        worker.start()
    with server.connect() as operator:
        for i in range(20):
            server.install(("renewed", "server")[i % 2])
            if i % 4 < 2:
                operator.talk(b"refresh_certs\r\n", b"OK\r\n")
            else:
                server.process.send_signal(signal.SIGHUP)
            time.sleep(0.08)
    stop.set()
    for worker in workers:
        worker.join()
    print("%d sets, %d connections" % tuple(count))
    assert not errors, errors
    assert seen == {"server", "renewed"} and min(count) > 0


# Options and figures

def test_stats_and_settings(server):
    with server.connect() as client:
        settings, stats = client.stats("settings"), client.stats()
    assert (settings["ssl_enabled"] == "yes" and settings["ssl_chain_cert"] == server.chain and
            settings["ssl_key"] == server.key)
    assert [(name, settings[name]) for name in settings if name.startswith("ssl_")][3:] == [
        ("ssl_verify_mode", "0"), ("ssl_keyformat", "1"), ("ssl_ciphers", "NULL"),
        ("ssl_ca_cert", "NULL"), ("ssl_wbuf_size", "16384"), ("ssl_session_cache", "no"),
        ("ssl_kernel_tls", "no"), ("ssl_min_version", "tlsv1.2")]
    names = list(stats)
    assert names.index("log_watchers") < names.index("ssl_handshake_errors") < names.index("bytes")


def test_without_tls_nothing_is_said_of_it():
    server = Server()
    with server.connect() as client:
        assert not [name for name in client.stats() if "ssl" in name or "cert" in name]
        assert client.stats("settings")["ssl_enabled"] == "no"
        client.talk(b"refresh_certs\r\n", b"Error TLS not enabled\r\n")


def test_help_names_it():
    said = subprocess.run([CACHECASK, "-h"], stdout=subprocess.PIPE, check=True).stdout.decode()
    for name in ("-Z, --enable-ssl", "ssl_chain_cert", "ssl_key", "ssl_verify_mode",
                 "ssl_keyformat", "ssl_ciphers", "ssl_ca_cert", "ssl_wbuf_size",
                 "ssl_session_cache", "ssl_min_version", "ssl_kernel_tls"):
        assert name in said, name


@pytest.mark.parametrize("extended",
                         ["ssl_keyformat=DER,ssl_key=server-der",
                          "ssl_keyformat=2,ssl_key=server-der", "ssl_kernel_tls,ssl_wbuf_size=64"])
def test_other_options(certificates, extended):
    server = TlsServer(certificates,
                       extended=extended.replace("server-der",
                                                 certificates.path("server-der", "key")))
    with server.connect() as client:
        client.set(b"k", b"x" * 1000000)
        assert client.get(b"k") == b"x" * 1000000


@pytest.mark.parametrize("options, word", [
    (["-Z"], "ssl_chain_cert"),
    (["-Z", "-o", "ssl_chain_cert=/no/such/file"], "/no/such/file"),
    (["-Z", "-o", "ssl_chain_cert=CHAIN,ssl_key=/no/such/key"], "/no/such/key"),
    (["-Z", "-o", "ssl_chain_cert=CHAIN,ssl_key=LOCKED"], "locked.key"),
    (["-Z", "-o", "ssl_chain_cert=CHAIN,ssl_key=OTHER"], "renewed.key"),
    (["-Z", "-o", "ssl_chain_cert=CHAIN,ssl_key=KEY,ssl_ciphers=nonsense"], "nonsense"),
    (["-Z", "-o", "ssl_chain_cert=CHAIN,ssl_key=KEY,ssl_ca_cert=/no/such/ca"], "/no/such/ca"),
    (["-Z", "-o", "ssl_chain_cert=CHAIN,ssl_key=KEY,ssl_verify_mode=2"], "ssl_ca_cert"),
    (["-Z", "-l", "mtls:127.0.0.1", "-o", "ssl_chain_cert=CHAIN,ssl_key=KEY"], "ssl_ca_cert"),
    (["-Z", "-U", "1", "-l", "127.0.0.1,mtls:127.0.0.1", "-o",
      "ssl_chain_cert=CHAIN,ssl_key=KEY,ssl_ca_cert=CHAIN"], "-U"),
    (["-Z", "-U", "1", "-o",
      "ssl_chain_cert=CHAIN,ssl_key=KEY,ssl_ca_cert=CHAIN,ssl_verify_mode=2"], "-U"),
    (["-l", "btls:127.0.0.1"], "-Z"),
    (["-l", "mtls:127.0.0.1"], "-Z"),
    (["-o", "ssl_verify_mode=4"], "ssl_verify_mode"),
    (["-o", "ssl_min_version=4"], "ssl_min_version"),
    (["-o", "ssl_min_version=tls9"], "ssl_min_version"),
    (["-o", "ssl_keyformat=ENGINE"], "ssl_keyformat"),
    (["-o", "ssl_wbuf_size=0"], "ssl_wbuf_size"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_start_that_is_refused(certificates, options, word):
    for name, path in (("CHAIN", certificates.path("server")),
                       ("KEY", certificates.path("server", "key")),
                       ("LOCKED", certificates.path("locked", "key")),
                       ("OTHER", certificates.path("renewed", "key"))):
        options = [option.replace(name, path) for option in options]
    status, said = Server(*options, start=False).launch().wait_for_exit()
    assert status != 0 and word in said, said


def test_a_handshake_that_never_ends_is_ended(never_ending):
    """The last test, as it takes its time. A connection that is done with its handshake may be
    silent."""
    time.sleep(max(0.0, never_ending.started + HANDSHAKE_S - 1 - time.monotonic()))
    if time.monotonic() - never_ending.started < HANDSHAKE_S - 0.5:
        assert not select.select([never_ending.silent.socket, never_ending.talking.socket], [], [],
                                 0)[0], "too soon"
    print("ended after %.1f s" % never_ending.wait_for_end())
    never_ending.silent.expect_closed()
    assert never_ending.done.ask(b"version\r\n", b"\r\n").startswith(b"VERSION ")
    support.wait_until(lambda: never_ending.server.log().count("no TLS handshake") == 2,
                       "both are in the log")
