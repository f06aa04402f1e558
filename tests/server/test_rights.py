"""What may be asked for over UDP, by strangers, and with what the operator has switched off:
src/command/rights.c, from outside."""
import pytest

import binary
import support
from binary import AUTH_ERROR, NOT_FOUND, OK, UNKNOWN, packet, store
from support import Server, value_of
from test_auth_file import REFUSED, guarded, shared, show  # noqa: F401 (fixtures)
from test_failing_calls import FailingServer, read_cold_values
from test_sasl import folder, has_sasl, with_file  # noqa: F401 (fixtures)
from test_udp import Udp, UdpServer

ERROR = b"ERROR\r\n"
UDP_ANSWER_MAX = 2 << 20
TOO_LARGE = b"SERVER_ERROR the answer is too large for UDP\r\n"

# Every command of text, and how its answer begins over UDP; None: it has none.
OVER_UDP = [
    (b"get k", b"VALUE k 0 5\r\n"), (b"gets k", b"VALUE k 0 5 "), (b"gat 0 k", b"VALUE k 0 5\r\n"),
    (b"gats 0 k", b"VALUE k 0 5 "), (b"set s 0 0 1\r\nx", b"STORED\r\n"),
    (b"add a 0 0 1\r\nx", b"STORED\r\n"), (b"replace k 0 0 5\r\nvalue", b"STORED\r\n"),
    (b"append s 0 0 1\r\nx", b"STORED\r\n"), (b"prepend s 0 0 1\r\nx", b"STORED\r\n"),
    (b"cas k 0 0 1 1\r\nx", b"EXISTS\r\n"), (b"incr n 1", b"2\r\n"), (b"decr n 1", b"1\r\n"),
    (b"touch k 0", b"TOUCHED\r\n"), (b"delete a", b"DELETED\r\n"),
    (b"mg k v", b"VA 5\r\nvalue\r\n"), (b"ms s 1\r\nx", b"HD\r\n"), (b"md s", b"HD\r\n"),
    (b"ma n", b"HD\r\n"), (b"me k", b"ME k exp="), (b"mn", b"MN\r\n"), (b"version", b"VERSION "),
    (b"verbosity 0", b"OK\r\n"), (b"cache_memlimit 64", b"OK\r\n"),
    (b"cache_disklimit 0", b"OK\r\n"), (b"lru mode flat", b"OK\r\n"),
    (b"slabs automove 0", b"OK\r\n"), (b"refresh_certs", b"Error TLS not enabled\r\n"),
    (b"shutdown", b"SERVER_ERROR: shutdown not enabled\r\n"), (b"quit", None),
    (b"stats", b"STAT pid "), (b"stats settings", b"STAT maxbytes "),
    (b"stats items", b"STAT items:1:"), (b"stats slabs", b"STAT 1:chunk_size "),
    (b"stats store", b"STAT cachecask_version "), (b"stats reset", b"RESET\r\n"),
    (b"stats sizes_enable", b"STAT sizes_status enabled\r\n"), (b"stats sizes", ERROR),
    (b"stats sizes_disable", b"STAT sizes_status disabled\r\n"), (b"stats conns", ERROR),
    (b"stats detail on", ERROR), (b"stats detail dump", ERROR), (b"stats cachedump 1 0", ERROR),
    (b"stats cachedump 1 1", ERROR), (b"stats nonsense", ERROR), (b"stats  cachedump  1  0", ERROR),
    (b"watch mutations", ERROR), (b"watch", ERROR), (b"lru_crawler", ERROR),
    (b"lru_crawler metadump all", ERROR), (b"lru_crawler metadump hash", ERROR),
    (b"lru_crawler mgdump all", ERROR), (b"lru_crawler  mgdump  1", ERROR),
    (b"lru_crawler crawl all", b"OK\r\n"), (b"lru_crawler enable", b"OK\r\n"),
    (b"lru_crawler disable", b"OK\r\n"), (b"lru_crawler sleep 1", b"OK\r\n"),
    (b"lru_crawler tocrawl 1", b"OK\r\n"), (b"nonsense", ERROR), (b"flush_all", b"OK\r\n"),
]


def without_answer(line):
    return line.startswith((b"set", b"add", b"replace", b"append", b"prepend", b"cas"))


def test_every_command_of_text_over_udp():
    """Each is answered by one message, or none, and nothing follows it."""
    server = UdpServer()
    udp = server.udp()
    with server.connect() as client:
        client.set(b"k", b"value")
        client.set(b"n", b"1")
        for number in range(2000):
            client.send(b"set listed-%d 0 0 1 noreply\r\nx\r\n" % number)
        client.expect_nothing()
    for line, answer in OVER_UDP:
        udp.send(line + b"\r\n")
        if answer is not None:
            said = udp.message()
            assert said.startswith(answer) and len(said) < 8192, (line, said[:300])
        udp.expect_nothing()
        if without_answer(line):
            udp.send(line.replace(b"\r\n", b" noreply\r\n") + b"\r\n")
            udp.expect_nothing()


def ask_binary(udp, request):
    """The packets of the one message that is the answer."""
    said, answers = udp.ask(request), []
    while said:
        length = int.from_bytes(said[8:12], "big")
        assert said[0] == 0x81 and said[1] == request[1] and len(said) >= 24 + length
        answers.append((int.from_bytes(said[6:8], "big"), said[24 : 24 + length]))
        said = said[24 + length :]
    return answers


def test_binary_requests_over_udp():
    server = UdpServer()
    udp = server.udp()
    assert ask_binary(udp, store(binary.SET, b"k", b"value")) == [(OK, b"")]
    assert ask_binary(udp, packet(binary.GETK, b"k")) == [(OK, b"\0\0\0\0kvalue")]
    assert len(ask_binary(udp, packet(binary.STAT, b"settings"))) > 40
    for group in (b"conns", b"detail dump", b"detail on", b"sizes", b"cachedump 1 0", b"cachedump",
                  b"nonsense"):
        assert [status
                for status, _ in ask_binary(udp, packet(binary.STAT, group))] == [UNKNOWN], group
    for opcode in (binary.SASL_LIST, binary.SASL_AUTH, binary.SASL_STEP):
        request = packet(opcode, b"" if opcode == binary.SASL_LIST else b"PLAIN")
        assert [status for status, _ in ask_binary(udp, request)] == [UNKNOWN]
    udp.expect_nothing()


def bytes_answered(server, udp, request):
    """Some of a long answer may be lost on its way, so the server is asked how much it was."""
    other = server.udp()
    before = int(server.stats()["bytes_written"])
    udp.send(request)
    other.expect_nothing()  # its turn comes when the other datagram is done with
    # Less this and the earlier answer of statistics
    return int(server.stats()["bytes_written"]) - before - 8192


@pytest.mark.parametrize("request_",
                         [b"get" + b" k" * 5000, b"get k\r\n" * 5000,
                          b"get k k\r\n" * 3000 + b"version", b"mg k v\r\n" * 5000,
                          b"gats 0 k k\r\nstats\r\n" * 2000], ids=lambda line: repr(line[:20]))
def test_all_answers_to_a_datagram_have_a_bound(request_):
    server = UdpServer()
    udp = server.udp()
    with server.connect() as client:
        client.set(b"k", value_of(b"k", 150000))
    assert bytes_answered(server, udp, request_ + b"\r\n") < UDP_ANSWER_MAX + 64 * len(TOO_LARGE)
    # And nothing is read for what is not sent
    assert int(server.stats()["get_hits"]) <= UDP_ANSWER_MAX // 150000 + 2
    wanted = b"VALUE k 0 150000\r\n%s\r\nEND\r\n" % value_of(b"k", 150000)
    assert server.udp().ask(b"get k\r\n") == wanted


def test_an_item_that_is_larger_than_an_answer():
    server = UdpServer("-I", "8m")
    udp = server.udp()
    with server.connect() as client:
        client.set(b"large", b"x" * (UDP_ANSWER_MAX + 1))
        client.set(b"fits", b"x" * (UDP_ANSWER_MAX - 100))
    for line in (b"get large", b"gat 0 large", b"mg large v", b"get fits fits"):
        assert udp.ask(line + b"\r\n") == TOO_LARGE
    assert ask_binary(udp, packet(binary.GET, b"large")) == [(binary.TOO_LARGE, b"Too large.")]
    assert udp.ask(b"mg large s\r\n") == b"HD s%d\r\n" % (UDP_ANSWER_MAX + 1)
    udp.send(b"get large\r\nversion\r\n" + b"get large\r\n" * 100)  # the rest is dropped
    assert udp.message() == TOO_LARGE
    udp.expect_nothing()
    assert UDP_ANSWER_MAX - 100 < bytes_answered(server, udp, b"get fits\r\n")


def test_a_forged_sender_sets_no_two_servers_on_each_other():
    """The value that one sends to the other holds a command."""
    servers = [UdpServer(), UdpServer()]
    line = b"get k\r\n" * 2
    for server in servers:
        with server.connect() as client:
            client.set(b"k", line)
            client.set(b"1", b"x")
    for request in (b"get k\r\n", b"mg k v\r\n", packet(binary.GET, b"k"), b"incr n 1\r\n",
                    b"nonsense\r\n"):
        answer = servers[0].udp().ask(request)
        udp = servers[1].udp()
        udp.send(answer)
        udp.expect_nothing()


def test_values_that_were_read_ahead_for_what_is_dropped_take_no_room():
    """There is room for 32 of them, and each holds its segment."""
    port = support.free_port()
    server = FailingServer("-t", "1", "--segment-size=1m", "-U", str(port))
    server.start_failing()
    keys = read_cold_values(server, 90)
    udp = Udp(port)
    for at in range(0, 90, 2):
        udp.send(b"get %s\r\nquit\r\nget %s\r\n" % (keys[at], keys[at + 1]))
        value = value_of(keys[at], 20000)
        assert udp.message() == b"VALUE %s 0 20000\r\n%s\r\nEND\r\n" % (keys[at], value)
    # The last ones are read ahead as the first ones were
    assert int(server.stats("store")["disk_reads"]) > 85
    udp.close()


# Strangers

@pytest.mark.parametrize("line", [line for line, _ in OVER_UDP if not line.startswith(b"set")],
                         ids=repr)
def test_no_command_of_text_is_a_strangers(guarded, line):  # noqa: F811 (fixture)
    with guarded.connect() as client:
        client.talk(line + b"\r\n", REFUSED)
        client.talk(show(b"user", b"password"), b"STORED\r\n")
        client.talk(b"get s a\r\n", b"END\r\n")


@pytest.mark.skipif(not has_sasl(), reason="built without SASL")
def test_no_binary_request_but_version_and_sasl_is_a_strangers(with_file):  # noqa: F811 (fixture)
    for opcode in range(256):
        with with_file.connect() as client:
            client.send(packet(opcode, b"k", value=b"flush_all\r\n"))
            if opcode in (binary.VERSION, binary.SASL_LIST):
                # It has neither key nor value
                assert binary.receive(client).status == binary.INVALID
            elif opcode in (binary.SASL_AUTH, binary.SASL_STEP):
                assert binary.receive(client).status == AUTH_ERROR
                continue
            else:
                assert binary.receive(client).status == AUTH_ERROR
            client.expect_closed()


# What the operator has switched off

def test_each_option_and_what_it_refuses():
    server = Server("-F", "-X", "-W")
    with server.connect() as client:
        client.set(b"k", b"value")
        client.talk(b"flush_all\r\nflush_all 10\r\n", b"CLIENT_ERROR flush_all not allowed\r\n" * 2)
        client.talk(b"shutdown\r\nshutdown graceful\r\nshutdown x\r\n",
                    b"SERVER_ERROR: shutdown not enabled\r\n" * 3)
        client.talk(b"watch\r\nwatch mutations\r\n",
                    b"CLIENT_ERROR watch commands not allowed\r\n" * 2)
        client.talk(b"stats cachedump 1 0\r\nstats cachedump\r\n",
                    b"CLIENT_ERROR stats cachedump not allowed\r\n" * 2)
        client.talk(b"lru_crawler metadump all\r\nlru_crawler mgdump all\r\n",
                    b"ERROR metadump not allowed\r\nERROR mgdump not allowed\r\n")
        client.send(b"flush_all noreply\r\n")
        client.expect_nothing()
        client.talk(b"lru_crawler crawl all\r\nget k\r\n", b"OK\r\nVALUE k 0 5\r\nvalue\r\nEND\r\n")
        assert client.stats()["cmd_flush"] == "0"
    with server.connect() as client:
        assert binary.statistics(client, b"cachedump 1 0") == NOT_FOUND
        assert binary.ask(client, packet(binary.FLUSH)).status != OK
        assert binary.ask(client, packet(binary.GET, b"k")).value == b"value"


# The data block of what is refused

BODY = b"flush_all\r\nset stolen 0 0 1\r\nx\r\n"


def blocks():
    length, long_key = len(BODY), b"k" * 251
    for name in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
        unique = b" 1" if name == b"cas" else b""
        yield b"%s %s 0 0 %d%s" % (name, long_key, length, unique)
        yield b"%s k x 0 %d%s" % (name, length, unique)
        yield b"%s k 0 x %d%s" % (name, length, unique)
        yield b"%s k -1 99999999999999999999 %d%s" % (name, length, unique)
    yield b"cas k 0 0 %d" % length
    yield b"cas k 0 0 %d x" % length
    for flags in (b"0 0", b"!!", b"I 7", b"\x01", b"\"k", b"v v", b"Z", b"T", b"Cx", b"F-1", b"MX",
                  b"O" + b"o" * 32, b"k q " * 12, b"S0 b"):
        yield b"ms k %d %s" % (length, flags)
    yield b"ms %s %d" % (long_key, length)
    yield b"ms Z=== %d b" % length
    yield b"ms %s %d b" % (long_key, length)


@pytest.mark.parametrize("line", blocks(), ids=lambda line: repr(line[:40]))
def test_the_body_of_what_is_refused_is_never_run(line, served):
    udp = served.udp()
    with served.connect() as client:
        client.set(b"k", b"value")
        client.send(line + b"\r\n" + BODY + b"\r\n" + b"get k stolen\r\n")
        assert client.line().startswith(b"CLIENT_ERROR")
        client.expect(b"VALUE k 0 5\r\nvalue\r\nEND\r\n")
        udp.send(line + b"\r\n" + BODY + b"\r\n" + b"get k stolen\r\n")
        assert udp.message().startswith(b"CLIENT_ERROR")
        assert udp.message() == b"VALUE k 0 5\r\nvalue\r\nEND\r\n"
        udp.expect_nothing()


@pytest.fixture(scope="module")
def served():
    server = UdpServer(shared=True)
    yield server
    server.give_up()
    support.shared_servers.remove(server)


@pytest.mark.parametrize("size", [1048577, 3000000])
def test_nor_is_that_of_what_is_too_large(size, served):
    body = (BODY * (size // len(BODY) + 1))[:size]
    with served.connect() as client:
        client.set(b"k", b"value")
        for line in (b"ms other %d", b"ms other %d ME", b"set other 0 0 %d", b"append k 0 0 %d",
                     b"add other 0 0 %d"):
            client.talk(line % size + b"\r\n" + body + b"\r\n",
                        b"SERVER_ERROR object too large for cache\r\n")
        client.talk(b"get k stolen\r\n", b"VALUE k 0 5\r\nvalue\r\nEND\r\n")
    with served.connect() as client:
        for opcode in (binary.SET, binary.ADD, binary.REPLACE):
            assert binary.ask(client, store(opcode, b"other", body)).status == binary.TOO_LARGE
        for opcode in (0x1B, 0x1F, 0x25, 0x40, 0xFF):  # unknown ones
            assert binary.ask(client, packet(opcode, b"k", value=body)).status == UNKNOWN
        assert binary.ask(client, packet(binary.GET, b"k")).value == b"value"


def test_strangers_cannot_hide_a_password_in_a_value(guarded):  # noqa: F811 (fixture)
    hidden = show(b"user", b"password") + b"set stolen 0 0 1\r\nx\r\n"
    with guarded.connect() as client:
        for line in (b"add k 0 0 %d", b"cas k 0 0 %d 1", b"append k x x %d", b"ms k %d",
                     b"ms k %d 0 0", b"prepend k 0 0 %d noreply"):
            client.talk(line % len(hidden) + b"\r\n" + hidden + b"\r\nget k\r\n", REFUSED * 2)
        client.talk(show(b"user", b"password") + b"get stolen\r\n", b"STORED\r\nEND\r\n")
