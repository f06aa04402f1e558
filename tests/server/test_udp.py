"""UDP: requests in a datagram, answers in as many as they need, and what is no request."""
import os
import random
import select
import socket
import struct
import time

import pytest

import support
from support import Server, forget_page_cache, free_port, value_of

HEADER = struct.Struct(">HHHH")  # request id, sequence, total, reserved
DATAGRAM_MAX = 1400


class Udp:
    """A client over UDP. Every answer is checked for its form."""

    def __init__(self, port, host="127.0.0.1"):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                    socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.connect((host, port))
        self.id = random.randrange(1 << 16)

    def close(self):
        self.socket.close()

    def send_raw(self, datagram):
        self.socket.send(datagram)

    def send(self, payload, sequence=0, total=1, reserved=0):
        self.id = (self.id + 1) % (1 << 16)
        self.send_raw(HEADER.pack(self.id, sequence, total, reserved) + payload)

    def message(self, timeout=support.TIMEOUT):
        """The next whole message."""
        parts, total = [], None
        while len(parts) != total:
            assert select.select([self.socket], [], [],
                                 timeout)[0], "no answer; so far: %d of %s" % (len(parts), total)
            datagram = self.socket.recv(1 << 16)
            request, sequence, of, reserved = HEADER.unpack(datagram[: HEADER.size])
            assert (request, sequence, reserved) == (self.id, len(parts), 0)
            assert of > 0 and total in (None, of)
            assert HEADER.size < len(datagram) <= DATAGRAM_MAX
            assert (sequence == of - 1 or
                    len(datagram) == DATAGRAM_MAX), "only the last one is shorter"
            total = of
            parts.append(datagram[HEADER.size :])
        return b"".join(parts)

    def ask(self, payload, **header):
        self.send(payload, **header)
        return self.message()

    def expect_nothing(self):
        """No answer is on its way: the next one is that to a request sent now."""
        assert self.ask(b"get no:such:key\r\n") == b"END\r\n"


class UdpServer(Server):
    """One worker, if nothing else is said: so what is sent one after the other is answered so."""

    def __init__(self, *options, **more):
        self.udp_port = free_port()
        self.udp_clients = []
        super().__init__("-t", "1", "-U", str(self.udp_port), *options, **more)

    def udp(self):
        client = Udp(self.udp_port)
        self.clients.append(client)
        return client


@pytest.fixture
def server():
    return UdpServer()


@pytest.fixture
def udp(server):
    return server.udp()


# Requests and answers

def test_set_and_get(udp):
    assert udp.ask(b"set k 7 0 5\r\nvalue\r\n") == b"STORED\r\n"
    assert udp.ask(b"get k\r\n") == b"VALUE k 7 5\r\nvalue\r\nEND\r\n"
    assert udp.ask(b"delete k\r\n") == b"DELETED\r\n"
    assert udp.ask(b"get k\r\n") == b"END\r\n"
    assert udp.ask(b"incr k 1\r\n") == b"NOT_FOUND\r\n"
    assert udp.ask(b"version\r\n").startswith(b"VERSION ")


def test_it_is_the_same_store_as_over_tcp(server, udp):
    with server.connect() as client:
        client.set(b"k", b"tcp")
        assert udp.ask(b"get k\r\n") == b"VALUE k 0 3\r\ntcp\r\nEND\r\n"
        udp.ask(b"set k 0 0 3\r\nudp\r\n")
        assert client.get(b"k") == b"udp"


def test_an_answer_of_many_datagrams(udp):
    for size in (1300, 1350, 1392, 1400, 2800, 5000, 60000):
        value = value_of(b"k", size)
        assert udp.ask(b"set k 0 0 %d\r\n%s\r\n" % (size, value)) == b"STORED\r\n"
        assert udp.ask(b"get k\r\n") == b"VALUE k 0 %d\r\n%s\r\nEND\r\n" % (size, value)


def test_answers_that_just_fill_their_datagrams(udp):
    for size in range(1360, 1392):
        udp.ask(b"set k 0 0 %d\r\n%s\r\n" % (size, b"x" * size))
        assert udp.ask(b"get k\r\n") == b"VALUE k 0 %d\r\n%s\r\nEND\r\n" % (size, b"x" * size)


def test_a_multiget_is_one_answer(server, udp):
    with server.connect() as client:
        for i in range(200):
            client.set(b"k%d" % i, value_of(b"k%d" % i, 300))
    for count in (2, 10, 200):
        keys = [b"k%d" % i for i in range(count)] + [b"miss"]
        wanted = b"".join(b"VALUE %s 0 300\r\n%s\r\n" % (k, value_of(k, 300))
                          for k in keys[:-1]) + b"END\r\n"
        assert udp.ask(b"get " + b" ".join(keys) + b"\r\n") == wanted


def test_an_answer_of_more_than_a_rounds_worth_is_still_one(server, udp):
    with server.connect() as client:
        # Beyond what is copied, and 15 of them beyond what a round holds
        client.set(b"k", value_of(b"k", 17000))
    one = b"VALUE k 0 17000\r\n%s\r\n" % value_of(b"k", 17000)
    assert udp.ask(b"get" + b" k" * 15 + b"\r\n") == one * 15 + b"END\r\n"


def test_several_requests_in_a_datagram_are_answered_each_by_itself(udp):
    udp.send(b"set a 0 0 1\r\nx\r\nget a\r\nget a b\r\nset c 0 0 1 noreply\r\ny\r\nnonsense\r\n"
             b"get c\r\n")
    assert [udp.message() for _ in range(5)] == [b"STORED\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n",
                                                 b"VALUE a 0 1\r\nx\r\nEND\r\n", b"ERROR\r\n",
                                                 b"VALUE c 0 1\r\ny\r\nEND\r\n"]
    udp.expect_nothing()


def test_thousands_of_requests_in_a_datagram(udp):
    udp.ask(b"set n 0 0 1\r\n0\r\n")
    udp.send(b"incr n 1 noreply\r\n" * 3000)
    udp.expect_nothing()
    assert udp.ask(b"get n\r\n").split(b"\r\n")[1] == b"3000"


def test_errors_are_answered(udp):
    assert udp.ask(b"nonsense\r\n") == b"ERROR\r\n"
    assert udp.ask(b"incr k x\r\n") == b"CLIENT_ERROR invalid numeric delta argument\r\n"
    assert udp.ask(b"get " + b"k" * 251 + b"\r\n").startswith(b"CLIENT_ERROR")


def test_noreply(udp):
    udp.send(b"set k 0 0 1 noreply\r\nx\r\n")
    udp.expect_nothing()
    assert udp.ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"


def test_quit_ends_the_datagram_and_nothing_else(udp):
    udp.send(b"quit\r\nget k\r\n")
    udp.expect_nothing()


def test_a_line_without_end_is_dropped(udp):
    udp.send(b"x" * 5000)
    udp.expect_nothing()


def test_stats():
    server = UdpServer("-t", "4")
    udp = server.udp()
    answer = udp.ask(b"stats\r\n")
    assert (answer.startswith(b"STAT pid %d\r\n" % server.process.pid) and
            answer.endswith(b"END\r\n"))
    stats = server.stats("conns")
    fds = [name.split(":")[0] for name, value in stats.items() if value == "UDP"]
    assert (len(fds) == 4 and {stats[fd + ":addr"] for fd in fds} ==
            {"udp:127.0.0.1:%d" % server.udp_port})
    assert server.stats("settings")["udpport"] == str(server.udp_port)
    support.wait_until(lambda: server.stats()["curr_connections"] == "1",
                       "those that asked before are counted out")


# What is no request

@pytest.mark.parametrize("datagram", [
    b"", b"\0", b"\0\1\0\0\0\1\0", b"\0\1\0\0\0\1\0\0",
    HEADER.pack(1, 0, 0, 0) + b"version\r\n",
    HEADER.pack(1, 0, 2, 0) + b"version\r\n",
    HEADER.pack(1, 0, 65535, 0) + b"version\r\n",
    HEADER.pack(1, 1, 1, 0) + b"version\r\n",
    HEADER.pack(1, 1, 2, 0) + b"version\r\n",
    b"version\r\n", b"get k\r\n",
    HEADER.pack(1, 0, 1, 0) + b"ERROR\r\n",
    HEADER.pack(1, 0, 1, 0) + b"SERVER_ERROR x\r\n",
    HEADER.pack(1, 0, 1, 0) + b"CLIENT_ERROR bad command line format\r\n",
    HEADER.pack(1, 0, 1, 0) + b"VALUE k 0 7\r\nget k\r\n\r\nEND\r\n",
    HEADER.pack(1, 0, 1, 0) + b"VA 7\r\nget k\r\n\r\n",
    HEADER.pack(1, 0, 1, 0) + b"7\r\nget k\r\n",
    HEADER.pack(1, 0, 1, 0) + b"\x81\x00" + bytes(22) + b"\r\nget k\r\n",
], ids=repr)
def test_malformed_datagrams_are_dropped(server, udp, datagram):
    before = int(server.stats("store")["udp_dropped"])
    udp.send_raw(datagram)
    udp.expect_nothing()
    assert int(server.stats("store")["udp_dropped"]) == before + 1


@pytest.mark.parametrize("cut",
                         [b"get k", b"set k 0 0 5\r\n", b"set k 0 0 5\r\nval",
                          b"set k 0 0 5\r\nvalue", b"get " + b"k " * 1500],
                         ids=lambda cut: repr(cut[:20]))
def test_a_request_that_is_cut_off_is_dropped(udp, cut):
    assert udp.ask(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
    udp.send(b"version\r\n" + cut)
    assert udp.message().startswith(b"VERSION ")
    time.sleep(0.05)
    # A get without end is answered as far as it goes
    while select.select([udp.socket], [], [], 0)[0]:
        assert b"VALUE k" in udp.socket.recv(1 << 16)
    for rest in (b"\r\n", b"ue\r\n"):
        assert udp.ask(rest) in (b"ERROR\r\n", b"CLIENT_ERROR bad command line format\r\n")
    assert udp.ask(b"get k\r\n") == b"VALUE k 0 3\r\nold\r\nEND\r\n"


def test_an_answer_beyond_all_bounds_is_refused(server, udp):
    with server.connect() as client:
        client.set(b"k", b"x" * 1000000)
    assert udp.ask(b"get" + b" k" * 20 +
                   b"\r\n") == b"SERVER_ERROR the answer is too large for UDP\r\n"
    udp.expect_nothing()


def test_random_datagrams_do_no_harm():
    server = UdpServer("-t", "4")
    udp = server.udp()
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED=%d" % seed)
    rng = random.Random(seed)
    words = [b"get ", b"set ", b"k ", b"0 ", b"1 ", b"\r\n", b"noreply", b"ERROR", b"gat ", b"cas ",
             b"incr ", b"99999999999 ", b"verbosity ", b"stats ", b"\0", b"\x80\x0b", b"quit"]
    for _ in range(3000):
        body = b"".join(rng.choice(words) for _ in range(rng.randrange(12)))
        if rng.random() < 0.3:
            body += rng.randbytes(rng.randrange(2000))
        header = HEADER.pack(rng.randrange(1 << 16),
                             *(rng.choice([(0, 1, 0)] * 4 + [(1, 2, 0), (0, 0, 9)])))
        try:
            udp.send_raw((header + body)[: rng.randrange(3000)])
        except ConnectionRefusedError:
            break
    time.sleep(0.1)
    other = server.udp()
    assert (other.ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n" and
            other.ask(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n")


# Answers that come later

def test_cold_values():
    server = UdpServer("-m", "2", "--segment-size=1m", "-t", "2")
    count, size = 6000, 1000
    with server.connect() as client:
        for start in range(0, count, 500):
            client.talk(b"".join(b"set k%d 0 0 %d\r\n%s\r\n" % (i, size, value_of(b"k%d" % i, size))
                                 for i in range(start, start + 500)), b"STORED\r\n" * 500)
    forget_page_cache(server)
    before = int(server.stats("store")["disk_reads"])
    clients = [server.udp() for _ in range(4)]
    for start in range(0, count, 400):
        for at, client in enumerate(clients):
            keys = [b"k%d" % i for i in range(start + at * 100, start + at * 100 + 100, 5)]
            client.send(b"get miss " + b" ".join(keys) + b"\r\nget " + keys[0] + b"\r\n")
            client.keys = keys
        for client in clients:
            values = [b"VALUE %s 0 %d\r\n%s\r\n" % (k, size, value_of(k, size))
                      for k in client.keys]
            assert client.message() == b"".join(values) + b"END\r\n"
            assert client.message() == values[0] + b"END\r\n"
    forget_page_cache(server)
    clients[0].ask(b"set hot 0 0 1\r\nx\r\n")
    for i in range(0, count, 7):  # the answer has begun when the last value turns out to be cold
        value = value_of(b"k%d" % i, size)
        wanted = b"VALUE hot 0 1\r\nx\r\nVALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (i, size, value)
        assert clients[0].ask(b"get hot k%d\r\n" % i) == wanted
    assert server.stats("store")["corrupt_records"] == "0"
    print("%d read from disk" % (int(server.stats("store")["disk_reads"]) - before))


def test_writes_that_wait_for_room():
    """More than the disk may hold: some of them are parked until the cleaner has made room."""
    server = UdpServer("-t", "4", "-m", "8", "--segment-size=64k", "--disk-limit=8m",
                       *support.DROPPED)
    clients = [server.udp() for _ in range(4)]
    value = random.Random(1).randbytes(30000)
    for i in range(250):
        for at, client in enumerate(clients):
            client.send(b"set %d-%d 0 0 30000\r\n%s\r\n" % (at, i, value))
        for client in clients:
            assert client.message() == b"STORED\r\n"
    for at, client in enumerate(clients):
        assert client.ask(b"get %d-249\r\n"
                          % at) == b"VALUE %d-249 0 30000\r\n%s\r\nEND\r\n" % (at, value)
    assert int(server.stats("store")["cleaner_segments"]) > 0


def test_writes_that_wait_for_the_disk():
    server = UdpServer("--sync=always")
    udp = server.udp()
    for i in range(20):
        assert udp.ask(b"set k%d 0 0 1\r\nx\r\nget k%d\r\n" % (i, i)) == b"STORED\r\n"
        assert udp.message() == b"VALUE k%d 0 1\r\nx\r\nEND\r\n" % i
    server.kill9()
    server.start()
    assert len(server.udp().ask(b"get " + b" ".join(b"k%d" % i for i in range(20)) +
                                b"\r\n").split(b"VALUE")) == 21


def test_a_client_that_has_gone_stops_nobody(server):
    with server.connect() as client:
        client.set(b"k", b"x" * 1000000)
    for _ in range(20):
        gone = server.udp()
        gone.send(b"get k\r\n" * 3)
        gone.close()
    udp = server.udp()
    for _ in range(50):
        udp.expect_nothing()


# Where it listens

def test_it_is_off_unless_asked_for():
    for options in ((), ("-U", "0")):
        server = Server(*options)
        with open("/proc/%d/net/udp" % server.process.pid, encoding="ascii") as table:
            assert ":%04X " % server.port not in table.read()
        assert server.stats("settings")["udpport"] == "0"


def ports_of(server):
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    with open(server.env["MEMCACHED_PORT_FILENAME"], encoding="ascii") as file:
        return [(line.split(": ")[0], int(line.split(": ")[1])) for line in file]


def with_port_file(*options):
    path = os.path.join(support.place.new("ports"), "ports")
    return Server(*options, listen=False, start=False,
                  env={"MEMCACHED_PORT_FILENAME": path}).launch()


def test_the_ports_are_told_in_a_file():
    port, udp_port = free_port(), free_port()
    server = with_port_file("-l", "127.0.0.1", "-p", str(port), "-U", str(udp_port))
    assert ports_of(server) == [("TCP INET", port), ("UDP INET", udp_port)]
    assert "udp:127.0.0.1:%d" % udp_port in server.log()


def test_any_free_port():
    ((kind, port),) = ports_of(with_port_file("-l", "127.0.0.1", "-p", "0", "-U", "-1"))
    assert kind == "UDP INET" and port > 0
    Udp(port).expect_nothing()


def test_without_tcp():
    port = free_port()
    server = with_port_file("-p", "0", "-U", str(port))
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    assert "tcp:" not in server.log()
    Udp(port).expect_nothing()


@pytest.mark.parametrize("options", [[], ["-l", "127.0.0.1"], ["-o", "udp-port=PORT"]], ids=str)
def test_alone_it_moves_tcp_too(options):
    port = free_port()
    options = ["-U", str(port), *options] if "-o" not in options else ["-o", "udp-port=%d" % port]
    server = with_port_file(*options)
    assert set(ports_of(server)) - {("TCP INET6", port),
                                    ("UDP INET6", port)} == {("TCP INET", port), ("UDP INET", port)}
    Udp(port).expect_nothing()
    server.port = port
    settings = server.stats("settings")
    assert (settings["tcpport"], settings["udpport"]) == (str(port), str(port))


def test_alone_and_with_any_free_port_it_moves_tcp_to_one_too():
    (_, tcp_port), (kind, udp_port) = ports_of(with_port_file("-l", "127.0.0.1", "-U", "-1"))
    assert kind == "UDP INET" and tcp_port not in (0, 11211)
    Udp(udp_port).expect_nothing()


def test_a_port_of_an_address_is_that_of_both():
    port = free_port()
    server = with_port_file("-l", "127.0.0.1:%d" % port, "-U", "1")
    assert ports_of(server) == [("TCP INET", port), ("UDP INET", port)]
    Udp(port).expect_nothing()


def test_ip_version_6():
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    port = free_port()
    server = with_port_file("-l", "[::1]", "-p", "0", "-U", str(port))
    assert ports_of(server) == [("UDP INET6", port)] and "udp6:[::1]:%d" % port in server.log()
    Udp(port, "::1").expect_nothing()


def test_a_port_in_use_is_an_error(server):
    status, said = Server("-U", str(server.udp_port), start=False).launch().wait_for_exit()
    assert status != 0 and str(server.udp_port) in said
