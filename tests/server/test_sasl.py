"""-S: only authenticated clients are served."""
import os
import shutil
import subprocess

import pytest

import support
from binary import (AUTH_CONTINUE, AUTH_ERROR, GET, NOOP, OK, QUIT, SASL_AUTH, SASL_LIST, SASL_STEP,
                    SET, UNKNOWN, VERSION, ask, packet, plain, receive, refused, statistics, store,
                    talk)
from support import Server

WELCOME = b"Authenticated"


def has_sasl():
    help_ = subprocess.run([support.CACHECASK, "-h"], stdout=subprocess.PIPE, check=True).stdout
    return b"sasl" in help_.split(b"Built in:")[-1]


pytestmark = pytest.mark.skipif(not has_sasl(), reason="built without SASL")


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, 0o644)
    return path


@pytest.fixture
def folder():
    path = support.place.new("sasl")
    os.chmod(path, 0o755)
    return path


@pytest.fixture
def with_file(folder):
    """The users of $MEMCACHED_SASL_PWDB."""
    users = write(os.path.join(folder, "users"),
                  "user:secret\nother:pass word:::::\nlast:no newline")
    return Server("-S", env={"MEMCACHED_SASL_PWDB": users})


@pytest.fixture
def with_library(folder):
    """The users of libsasl2's own database, as Debian's memcached has them; the server has given up
    what it can."""
    if shutil.which("saslpasswd2") is None:
        pytest.skip("saslpasswd2 is not installed")
    database = os.path.join(folder, "sasldb")
    subprocess.run(["saslpasswd2", "-p", "-c", "-a", "memcached", "-f", database, "user"],
                   input=b"secret", check=True)
    support.give_away(database)
    write(os.path.join(folder, "memcached.conf"),
          "mech_list: plain cram-md5 anonymous\nsasldb_path: %s\n" % database)
    return Server("-S", *support.DROPPED, env={"SASL_CONF_PATH": folder})


@pytest.fixture(params=["with_file", "with_library"])
def server(request):
    return request.getfixturevalue(request.param)


def welcome(opcode=SASL_AUTH):
    return (opcode, OK, b"", b"", WELCOME, 0, 0xDECAFBAD)


def test_the_right_password(server, client):
    assert ask(client, plain(b"user", b"secret")) == welcome()
    assert ask(client, store(SET, b"k", b"v")).status == OK
    assert ask(client, packet(GET, b"k")).value == b"v"


def test_a_pipeline_goes_on_behind_the_password(client):
    client.send(plain(b"user", b"secret") + store(SET, b"k", b"v") + packet(GET, b"k") +
                packet(QUIT))
    assert [receive(client).status for _ in range(4)] == [OK] * 4
    client.expect_closed()


def test_a_wrong_password(server):
    for user, password in ((b"user", b"wrong"), (b"user", b""), (b"user", b"secret2"),
                           (b"user", b"secre"), (b"nobody", b"secret"), (b"", b"secret"),
                           (b"user:secret", b""), (b"use", b"r:secret"), (b"user", b"secret\n")):
        with server.connect() as client:
            assert ask(client,
                       plain(user, password)) == refused(SASL_AUTH, AUTH_ERROR), (user, password)
            assert ask(client, packet(NOOP)) == refused(NOOP, AUTH_ERROR)
            client.expect_closed()


def test_a_second_try(client):
    assert ask(client, plain(b"user", b"wrong")).status == AUTH_ERROR
    assert ask(client, plain(b"user", b"secret")) == welcome()
    assert talk(client) == []


def test_who_fails_later_is_out_again(client):
    """memcached refuses any second password; a right one is taken here."""
    assert ask(client, plain(b"user", b"secret")) == welcome()
    assert ask(client, plain(b"user", b"secret")) == welcome()
    assert talk(client) == []
    assert ask(client, plain(b"user", b"wrong")).status == AUTH_ERROR
    assert ask(client, packet(NOOP)) == refused(NOOP, AUTH_ERROR)
    client.expect_closed()


def test_in_two_steps(client):
    assert ask(client, packet(SASL_AUTH, b"PLAIN")).status == AUTH_CONTINUE
    assert ask(client, plain(b"user", b"secret", SASL_STEP)) == welcome(SASL_STEP)
    assert talk(client) == []


def test_a_step_without_a_start(client):
    assert ask(client, plain(b"user", b"secret", SASL_STEP)) == refused(SASL_STEP, AUTH_ERROR)


def test_strangers_are_not_served(with_file):
    for opcode in set(range(256)) - {VERSION, SASL_LIST, SASL_AUTH, SASL_STEP}:
        with with_file.connect() as client:
            assert ask(client, packet(opcode, b"k")) == refused(opcode, AUTH_ERROR)
            client.expect_closed()


def test_strangers_may_ask_for_version_and_mechanisms(client):
    assert ask(client, packet(VERSION)).value.startswith(b"1.6.")
    mechanisms = ask(client, packet(SASL_LIST))
    assert mechanisms.status == OK and b"PLAIN" in mechanisms.value.split()
    assert b"ANONYMOUS" not in mechanisms.value.split()


def test_other_mechanisms(client):
    for mechanism in (b"NONSENSE", b"ANONYMOUS", b"PLAI", b"PLAIN\0", b"M" * 250):
        assert ask(client,
                   packet(SASL_AUTH, mechanism, b"",
                          b"\0user\0secret")) == refused(SASL_AUTH, AUTH_ERROR), mechanism


def test_nobody_acts_for_another(client):
    request = packet(SASL_AUTH, b"PLAIN", b"", b"other\0user\0secret")
    assert ask(client, request) == refused(SASL_AUTH, AUTH_ERROR)


def test_a_stranger_cannot_make_us_wait_for_a_value(client):
    client.send(store(SET, b"k", b"", body_len=1000000))
    assert receive(client) == refused(SET, AUTH_ERROR)
    client.expect_closed()


def test_a_password_of_gigabytes(server):
    with server.connect() as client:
        client.send(packet(SASL_AUTH, b"PLAIN", b"", body_len=0xFFFFFFFF))
        assert receive(client) == refused(SASL_AUTH, AUTH_ERROR)
        client.expect_closed()


def test_text_is_not_spoken(client):
    client.send(b"get k\r\n")
    client.expect_closed()


def test_what_the_statistics_say(with_file):
    with with_file.connect() as client:
        ask(client, plain(b"user", b"wrong"))
        ask(client, packet(SASL_AUTH, b"PLAIN"))
        assert ask(client, plain(b"user", b"secret", SASL_STEP)) == welcome(SASL_STEP)
        stats = statistics(client)
        assert (stats["auth_cmds"], stats["auth_errors"]) == ("2", "1")
        settings = statistics(client, b"settings")
        assert (settings["auth_enabled_sasl"], settings["binding_protocol"]) == ("yes", "binary")


def test_the_file_of_passwords(with_file):
    for user, password, status in ((b"other", b"pass word", OK), (b"last", b"no newline", OK),
                                   (b"other", b"pass word:", 0x20),
                                   (b"other", b"pass word:::::", 0x20),
                                   (b"last", b"no newlin", 0x20)):
        with with_file.connect() as client:
            assert ask(client, plain(user, password)).status == status, (user, password)
    with with_file.connect() as client:
        assert ask(client, packet(SASL_LIST)).value == b"PLAIN"


def test_the_file_is_read_anew(with_file):
    path = with_file.env["MEMCACHED_SASL_PWDB"]
    write(path, "user:changed\n")
    with with_file.connect() as client:
        assert ask(client, plain(b"user", b"secret")).status == AUTH_ERROR
        assert ask(client, plain(b"user", b"changed")).status == OK
    os.unlink(path)
    with with_file.connect() as client:
        assert ask(client, plain(b"user", b"changed")).status == AUTH_ERROR


def test_users_of_the_file_alone_are_known(folder):
    """A database of libsasl2 that is there as well lets nobody in."""
    if shutil.which("saslpasswd2") is None:
        pytest.skip("saslpasswd2 is not installed")
    database = os.path.join(folder, "sasldb")
    subprocess.run(["saslpasswd2", "-p", "-c", "-a", "memcached", "-f", database, "user"],
                   input=b"secret", check=True)
    support.give_away(database)
    write(os.path.join(folder, "memcached.conf"),
          "mech_list: plain cram-md5\nsasldb_path: %s\n" % database)
    users = write(os.path.join(folder, "users"), "file:secret\n")
    server = Server("-S", env={"SASL_CONF_PATH": folder, "MEMCACHED_SASL_PWDB": users})
    with server.connect() as client:
        assert ask(client, plain(b"user", b"secret")).status == AUTH_ERROR
        assert ask(client, plain(b"file", b"secret")).status == OK


def test_many_at_once(with_file):
    clients = [with_file.connect() for _ in range(50)]
    for n, client in enumerate(clients):
        client.send(plain(b"user", b"secret" if n % 2 else b"wrong"))
    assert [receive(client).status for client in clients] == [AUTH_ERROR, OK] * 25
    for n, client in enumerate(clients):
        assert ask(client, packet(NOOP)).status == (OK if n % 2 else AUTH_ERROR)


def test_what_it_says_cannot_be_forged(folder):
    users = write(os.path.join(folder, "users"), "user:secret\n")
    server = Server("-S", "-v", env={"MEMCACHED_SASL_PWDB": users})
    with server.connect() as client:
        ask(client, packet(SASL_AUTH, b"X\nforged line", b"", b"x"))
    assert "sasl: " in server.log() and "\nforged" not in server.log()


def test_text_alone_cannot_be_with_it():
    status, said = Server("-S", "-B", "ascii", start=False).launch().wait_for_exit()
    assert status == 64 and "-S" in said


def get_or_none(client, key):
    import pylibmc

    try:
        return client.get(key)
    except pylibmc.Error:
        return None


def test_pylibmc(server):
    pylibmc = pytest.importorskip("pylibmc")
    address = ["127.0.0.1:%d" % server.port]
    client = pylibmc.Client(address, binary=True, username="user", password="secret")
    assert client.set("k", "value") and client.get("k") == "value"
    for login in ({"username": "user", "password": "wrong"},
                  {"username": "nobody", "password": "secret"}, {}):
        stranger = pylibmc.Client(address, binary=True, **login)
        with pytest.raises(pylibmc.Error):
            stranger.set("k", "stolen")
        assert get_or_none(stranger, "k") is None
    assert client.get("k") == "value"


def test_unknown_opcodes_once_inside(client):
    assert ask(client, plain(b"user", b"secret")) == welcome()
    assert talk(client, packet(0x1B, b"k", b"", b"x")) == [refused(0x1B, UNKNOWN)]
