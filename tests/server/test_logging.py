"""What the server says: -v, -vv, -vvv and the command verbosity."""
import os
import pwd
import random
import re
import socket
import subprocess
import tty

import pytest

import support
from support import Server


def lines_about(server):
    """The lines of the journal about clients, without their numbers."""
    return [re.sub(r"^([<>]?)\d+", r"\1", line) for line in server.log().split("\n")
            if re.match(r"^[<>]\d+ ", line)]


def said(server, line):
    support.wait_until(lambda: line in lines_about(server),
                       "it says %r; so far:\n%s" % (line, server.log()))


def test_nothing_is_said_about_clients_unless_asked_for(server):
    with server.connect() as client:
        client.talk(b"nonsense\r\n", b"ERROR\r\n")
        client.set(b"k", b"x")
    assert server.log().count("\n") == 1
    server.stop()
    assert server.log().split("\n")[1:] == ["stopped cleanly, all synced", ""]


def test_vv_tells_commands_and_replies():
    server = Server("-vv")
    said(server, "< connection closed")
    with server.connect() as client:
        address = "tcp:127.0.0.1:%d" % client.socket.getsockname()[1]
        client.set(b"k", b"the value")
        client.talk(b"get k none\r\n", b"VALUE k 0 9\r\nthe value\r\nEND\r\n")
        client.talk(b"get none\r\n", b"END\r\n")
        client.talk(b"set k 0 0 1 noreply\r\ny\r\ndelete k\n", b"DELETED\r\n")
        client.talk(b"set k 0 0 1\r\nlonger\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n")
        client.stats()
        client.talk(b"set k 0 0 2000000\r\n" + b"z" * 2000000 + b"\r\nversion\r\n",
                    b"SERVER_ERROR object too large for cache\r\n")
        client.line()
    support.wait_until(lambda: lines_about(server).count("< connection closed") == 2,
                       "it is closed")
    log = lines_about(server)
    log = log[log.index("< new client connection from " + address):]
    stat = next(line for line in log if line.startswith("> STAT pid "))
    version = next(line for line in log if line.startswith("> VERSION "))
    assert log == [
        "< new client connection from " + address, "< set k 0 0 9", "> STORED", "< get k none",
        "> VALUE k 0 9", "> END", "< get none", "> END", "< set k 0 0 1 noreply", "< delete k",
        "> DELETED", "< set k 0 0 1", "> CLIENT_ERROR bad data chunk", "< ger", "> ERROR",
        "< stats", stat, "< set k 0 0 2000000", "> SERVER_ERROR object too large for cache",
        "< version", version, "< connection closed"]
    assert "the value" not in server.log()
    assert re.search(r"^<\d+ server listening on tcp:127.0.0.1:%d$" % server.port, server.log(),
                     re.M)


def test_a_key_cannot_forge_a_line():
    server = Server("-vv")
    with server.connect() as client:
        client.send(b"get \x1b[2Ja\rb\x00\x80\\x0a\r\n")
        client.expect(b"END\r\n")
        client.send(b"nonsense \xff\r<9 shutdown\r\n")
        client.expect(b"ERROR\r\n")
        client.set(b"k", b"\r\n<9 shutdown\r\nfatal: all is lost\n")
        assert client.get(b"k")
        client.talk(b"get " + b"\x01" * 250 + b"\r\n", b"END\r\n")
    said(server, "< get \\x1b[2Ja\\x0db\\x00\\x80\\x5cx0a")
    said(server, "< nonsense \\xff\\x0d<9 shutdown")
    said(server, "< get " + "\\x01" * 64 + "...")
    assert not re.search(r"^<9 shutdown|^fatal", server.log(), re.M)
    assert all(" " <= c <= "~" or c == "\n" for c in server.log())


def test_random_bytes_stay_in_their_lines():
    seed = random.randrange(1 << 32)
    print("SEED=%d" % seed)
    chance = random.Random(seed)
    server = Server("-vvv")
    for _ in range(30):
        with server.connect() as client:
            client.send(b"\r\n".join(chance.choice([b"get ", b"set a 0 0 5\r\n", b"", b"mg ",
                                                    b"incr a "]) +
                                     bytes(chance.randrange(256)
                                           for _ in range(chance.randrange(60)))
                                     for _ in range(20)))
            client.rest(0.01)
    with server.connect() as client:
        client.talk(b"delete the:end\r\n", b"NOT_FOUND\r\n")
    said(server, "< delete the:end")
    for line in server.log().split("\n"):
        assert re.fullmatch(r"([<>]\d+ |\d+: |cachecask )[ -~]*|", line), line


def test_the_level_is_changed_while_it_runs(server):
    with server.connect() as client:
        client.talk(b"verbosity 2\r\n", b"OK\r\n")
        assert client.stats("settings")["verbosity"] == "2"
        client.talk(b"delete this\r\n", b"NOT_FOUND\r\n")
        client.talk(b"verbosity 0\r\n", b"OK\r\n")
        client.expect_nothing()
        client.talk(b"delete that\r\n", b"NOT_FOUND\r\n")
    server.stop()
    assert "< delete this" in lines_about(server) and "> NOT_FOUND" in lines_about(server)
    assert "that" not in server.log()


def test_v_tells_what_is_unusual():
    server = Server("-v", "-c", "2")
    clients = [server.connect() for _ in range(6)]
    support.wait_until(lambda: "too many open connections" in server.log(), "a refusal is told")
    for client in clients:
        client.close()
    server.stop()
    assert "stopping: Terminated" in server.log() and not lines_about(server)


def test_vvv_tells_what_a_connection_waits_for():
    server = Server("-vvv")
    with server.connect() as client:
        client.send(b"set k 0 0 10\r\nab")
        support.wait_until(lambda: "waits for the rest of a request" in server.log(),
                           "a half request is told")
        client.talk(b"cdefghij\r\n", b"STORED\r\n")
    support.wait_until(lambda: re.search(r"^\d+: .*; waits for a request$", server.log(), re.M),
                       "an idle one is told")


@pytest.mark.seconds(120)
def test_lines_of_several_threads_do_not_mix():
    server = Server("-vv", "-t", "4")
    clients = [server.connect() for _ in range(8)]
    for i, client in enumerate(clients):
        client.send(b"".join(b"delete %d%s\r\n" % (i, b"k" * 100) for _ in range(500)))
    for client in clients:
        client.read(len(b"NOT_FOUND\r\n") * 500)
    log = lines_about(server)
    wanted = {"< delete %d%s" % (i, "k" * 100) for i in range(8)}
    deletes = [line for line in log if "delete" in line]
    assert len(deletes) == 4000 and set(deletes) == wanted


# A log that nobody reads

class UnreadServer(Server):
    """Its log goes to a pipe without room, until it is drained."""

    def __init__(self, kind, *options):
        super().__init__(*options, start=False)
        self.kind = kind
        self.said = b""
        if kind == "socket":
            self.ends = [end.detach() for end in socket.socketpair()]
        elif kind == "terminal":
            self.ends = os.openpty()
            tty.setraw(self.ends[1])
        else:
            self.ends = os.pipe()
        self.fill()
        self.start()

    def fill(self):
        reader, writer = self.ends
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        for size in (4096, 1):
            try:
                while True:
                    os.write(writer, b"\n" * size)
            except BlockingIOError:
                pass
        os.set_blocking(writer, True)  # as the server would find it

    def launch(self):
        open(self.log_path, "ab").close()
        user, command = {}, self.command()
        if self.kind == "pipe of another user":  # which it cannot open again
            command[0] = support.program_for_all()
            user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.ends[1],
                                        stderr=self.ends[1], env=self.environment(), **user)
        support.guardian.tell(b"+", self.process.pid)
        return self

    def drain(self):
        try:
            while True:
                self.said += os.read(self.ends[0], 1 << 16)
        except BlockingIOError:
            return self.said

    def reap(self, timeout=support.TIMEOUT):
        try:
            return super().reap(timeout)
        finally:
            for end in self.ends:
                os.close(end)


UNREAD = ["pipe", "socket", "terminal",
          pytest.param("pipe of another user",
                       marks=pytest.mark.skipif(not support.is_root(), reason="is not root"))]


def ask_much(server):
    clients = [server.connect() for _ in range(4)]
    for client in clients:
        client.send(b"get nothing\r\n" * 2000)
    for client in clients:
        client.expect(b"END\r\n" * 2000)
        client.close()


@pytest.mark.parametrize("options", [[], support.DROPPED] if support.DROPPED else [[]])
@pytest.mark.parametrize("kind", UNREAD)
def test_a_log_that_nobody_reads_holds_up_neither_the_service_nor_its_end(kind, options):
    server = UnreadServer(kind, "-vv", "-t", "2", *options)
    ask_much(server)
    server.stop()


@pytest.mark.parametrize("kind", UNREAD)
def test_lines_that_find_no_room_are_counted(kind):
    server = UnreadServer(kind, "-vv", "-t", "2")
    ask_much(server)
    server.drain()
    with server.connect() as client:
        client.talk(b"delete this\r\n", b"NOT_FOUND\r\n")
        support.wait_until(lambda: b"delete this\n" in server.drain() and
                           b"NOT_FOUND\n" in server.said, "its lines")
    told = re.findall(rb"\nwarning: (\d+) lines were dropped here: "
                      rb"standard error took no more(?=\n)", server.said)
    found_room = len(re.findall(rb"\n[<>]\d+ (?=get nothing\n|END\n)", server.said))
    print("%s lines were dropped, %d found room" % (told, found_room))
    assert told and sum(map(int, told)) + found_room >= 4 * 2000 * 2
    server.stop()
