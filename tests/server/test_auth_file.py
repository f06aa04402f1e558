"""The password file: -Y."""
import os
import signal

import pytest

import support
from support import Server

REFUSED = b"CLIENT_ERROR unauthenticated\r\n"
FAILED = b"CLIENT_ERROR authentication failure\r\n"


def password_file(content):
    path = os.path.join(support.place.new("passwords"), "passwords")
    write(path, content)
    return path


def write(path, content):
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.chmod(path + ".new", 0o600)
    support.give_away(path + ".new")
    os.rename(path + ".new", path)


def server_with(content, *options):
    """It does not answer `version`: what it says tells that it is ready."""
    path = password_file(content)
    server = Server("-Y", path, *options, start=False)
    server.passwords = path
    server.launch()
    support.wait_until(lambda: "ready" in server.log() or server.process.poll() is not None,
                       "the server is ready")
    assert server.is_alive(), server.log()
    return server


def show(user, password):
    body = b"%s %s" % (user, password)
    return b"set x 0 0 %d\r\n%s\r\n" % (len(body), body)


def come_in(server, user=b"user", password=b"password"):
    client = server.connect()
    client.talk(show(user, password), b"STORED\r\n")
    return client


def test_the_right_password_opens_the_connection():
    server = server_with(b"user:password\nother:secret\n")
    for user, password in ((b"user", b"password"), (b"other", b"secret")):
        with come_in(server, user, password) as client:
            client.set(b"k", b"value")
            assert client.get(b"k") == b"value"
            assert client.get(b"x") is None, "the password is not stored"
            settings = client.stats("settings")
            assert (settings["auth_enabled_ascii"] == server.passwords and
                    settings["binding_protocol"] == "ascii")


def test_a_file_from_windows_and_an_empty_password():
    server = server_with(b"user:password\r\nempty:\r\n")
    for user, password in ((b"user", b"password"), (b"empty", b"")):
        come_in(server, user, password).close()
    with server.connect() as client:
        client.talk(show(b"user", b"password\r") + show(b"empty", b"x"), FAILED * 2)


def test_a_last_line_without_an_end():
    server = server_with(b"a:b\nuser:password")
    come_in(server).close()


@pytest.mark.parametrize("user, password", [
    (b"user", b"wrong"), (b"nobody", b"password"), (b"other", b"password"), (b"user", b"secret"),
    (b"user", b"passwor"), (b"user", b"passwordx"), (b"user", b" password"), (b"USER", b"password"),
    (b"user:password", b"x"),
], ids=str)
def test_all_else_is_refused_and_may_be_tried_again(guarded, user, password):
    with guarded.connect() as client:
        client.talk(show(user, password), FAILED)
        client.talk(b"get k\r\n", REFUSED)
        client.talk(show(b"user", b"password"), b"STORED\r\n")
        client.expect_nothing()


@pytest.fixture(scope="module")
def shared():
    # The one directory serves all tests that only knock at the door.
    path = password_file(b"user:password\nother:secret\n")
    server = Server("-Y", path, start=False, shared=True)
    support.shared_servers.append(server)
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    yield server
    server.give_up()


@pytest.fixture
def guarded(shared):
    assert shared.is_alive()
    return shared


@pytest.mark.parametrize("line", [
    b"get k", b"version", b"quit", b"stats", b"", b"flush_all", b"shutdown", b"mn", b"mg k v",
    b"set", b"set x 0 0", b"set x 0 0 x", b"set x 0 0 -1", b"watch fetchers", b"verbosity 3",
    b"GET / HTTP/1.1", b"get " + b"k " * 1000,
])
def test_nothing_else_is_a_command_before(guarded, line):
    with guarded.connect() as client:
        client.talk(line + b"\r\n", REFUSED)
        client.talk(show(b"user", b"password"), b"STORED\r\n")


def test_the_data_of_other_commands_is_not_taken_for_a_password(guarded):
    with guarded.connect() as client:
        client.talk(b"add x 0 0 13\r\nuser password\r\nget k\r\n", REFUSED * 2)
        client.talk(b"ms x 13\r\nuser password\r\nget k\r\n", REFUSED * 2)


def test_what_is_no_password_at_all(guarded):
    malformed = b"CLIENT_ERROR bad authentication token format\r\n"
    with guarded.connect() as client:
        for body in (b"", b"user", b"user:password", b"user ", b" password"):
            client.talk(b"set x 0 0 %d\r\n%s\r\n" % (len(body), body), malformed)
        client.talk(b"set x 0 0 12\r\nuser password\r\n",
                    b"CLIENT_ERROR bad data chunk\r\n" + REFUSED)
        client.talk(b"set x 0 0 100000\r\n" + b"x" * 100000 + b"\r\n", malformed)
        client.talk(show(b"user", b"password"), b"STORED\r\n")


def test_key_flags_and_time_may_be_anything(guarded):
    for line in (b"set " + b"k" * 300 + b" a b 13", b"set x 0 0 13 noreply",
                 b"set x 0 99999999999999999999 13"):
        with guarded.connect() as client:
            client.talk(line + b"\r\nuser password\r\n", b"STORED\r\n")


def test_a_pipeline_goes_on_behind_the_password(guarded):
    with guarded.connect() as client:
        client.talk(b"get k\r\n" + show(b"user", b"wrong") + b"get k\r\n" +
                    show(b"user", b"password") + b"get no:such:key\r\n" * 100,
                    REFUSED + FAILED + REFUSED + b"STORED\r\n" + b"END\r\n" * 100)


def test_a_password_in_pieces(guarded):
    with guarded.connect() as client:
        for byte in show(b"user", b"password") + b"get no:such:key\r\n":
            client.send(bytes([byte]))
        client.expect(b"STORED\r\nEND\r\n")


def test_many_knock_at_once(guarded):
    clients = [guarded.connect() for _ in range(40)]
    for i, client in enumerate(clients):
        client.send(show(b"user", b"password" if i % 2 else b"wrong") + b"get no:such:key\r\n")
    for i, client in enumerate(clients):
        client.expect(b"STORED\r\nEND\r\n" if i % 2 else FAILED + REFUSED)


def test_the_binary_protocol_finds_no_way_in(guarded):
    """A binary version request, and a get: no answer, or the end."""
    for request in (b"\x80\x0b" + bytes(22),
                    b"\x80\x00\x00\x01" + bytes(4) + b"\x00\x00\x00\x01" + bytes(12) + b"k"):
        with guarded.connect() as client:
            client.send(request)
            assert not client.rest().startswith(b"\x81")


def test_an_endless_line_before_it_closes(guarded):
    with guarded.connect() as client:
        client.send(b"get " + b"k" * 3000)
        client.expect_closed()


def test_attempts_are_counted():
    server = server_with(b"user:password\n")
    with server.connect() as client:
        client.talk(show(b"user", b"wrong"), FAILED)
        client.talk(show(b"user", b"password"), b"STORED\r\n")
        stats = client.stats()
        assert (stats["auth_cmds"], stats["auth_errors"]) == ("2", "1")
        assert stats["cmd_set"] == "0"


def reload(server, content, said):
    write(server.passwords, content)
    before = server.log().count(said)
    server.process.send_signal(signal.SIGHUP)
    support.wait_until(lambda: server.log().count(said) > before, "it says %r" % said)


def test_a_reload_takes_the_new_file():
    server = server_with(b"user:password\n", "-v")
    inside = come_in(server)
    reload(server, b"user:changed\n", "read again")
    with server.connect() as client:
        client.talk(show(b"user", b"password"), FAILED)
        client.talk(show(b"user", b"changed"), b"STORED\r\n")
    inside.expect_nothing()


@pytest.mark.parametrize("content", [b"", b"user\n", b"user:changed\nnonsense\n", b"\n"], ids=str)
def test_a_reload_of_a_bad_file_keeps_the_old_one(content):
    server = server_with(b"user:password\n")
    reload(server, content, "stays in force")
    with server.connect() as client:
        client.talk(show(b"user", b"changed"), FAILED)
        client.talk(show(b"user", b"password"), b"STORED\r\n")


@pytest.mark.parametrize("content",
                         [b"", b"nonsense\n", b"a:b\n\nc:d\n", b"a:b\r\n\r\n", b"a:b\rc:d\n",
                          b"a:" + b"x" * 300 + b"\n"], ids=str)
def test_a_bad_file_is_an_error_at_the_start(content):
    path = password_file(content)
    status, said = Server("-Y", path, start=False).launch().wait_for_exit()
    assert status == 1 and path in said


def test_a_file_that_is_not_there_is_an_error_at_the_start():
    status, said = Server("-Y", "/no/such/file", start=False).launch().wait_for_exit()
    assert status == 1 and "/no/such/file" in said


def test_binary_and_a_password_file_exclude_each_other():
    status, said = Server("-B", "binary", "-Y", password_file(b"a:b\n"),
                          start=False).launch().wait_for_exit()
    assert status == 64 and "binary" in said


def test_over_a_unix_socket():
    path = os.path.join(support.place.new("unix"), "socket")
    server = Server("-Y", password_file(b"user:password\n"), unix=True, start=False)
    server.unix_path = path
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    with server.connect() as client:
        client.talk(b"get k\r\n", REFUSED)
        client.talk(show(b"user", b"password"), b"STORED\r\n")
        client.expect_nothing()
