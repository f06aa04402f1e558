"""Where the server listens: the forms of -l, -p and -s, and the file of the ports."""
import os
import pwd
import re
import shutil
import socket
import subprocess

import pytest

import support
from support import CACHECASK, Client, Server, free_port


only_root = pytest.mark.skipif(not support.is_root(), reason="only root can become another user")


def speaks(address):
    with Client(address) as client:
        return client.ask(b"version\r\n", b"\r\n").startswith(b"VERSION ")


def is_open(host, port):
    try:
        with socket.create_connection((host, port), 2):
            return True
    except OSError:
        return False


def has_ip_version_6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


needs_ip_version_6 = pytest.mark.skipif(not has_ip_version_6(), reason="no IPv6 here")


def launch(*options, **more):
    """A server that listens on what its options say alone."""
    path = os.path.join(support.place.new("ports"), "ports")
    server = Server(*options, listen=False, start=False, env={"MEMCACHED_PORT_FILENAME": path},
                    **more).launch()
    support.wait_until(lambda: "ready" in server.log() or not server.is_alive(),
                       "the server is ready")
    assert server.is_alive(), server.log()
    return server


def ports_of(server):
    with open(server.env["MEMCACHED_PORT_FILENAME"], encoding="ascii") as file:
        return [(line.split(": ")[0], int(line.split(": ")[1])) for line in file]


# Addresses

def test_separators_and_repetition():
    ports = [free_port() for _ in range(5)]
    server = launch("-l", "127.0.0.1:%d,127.0.0.2:%d;127.0.0.1:%d" % tuple(ports[:3]), "-l",
                    "127.0.0.3:%d" % ports[3], "--listen=localhost:%d" % ports[4])
    assert [port for kind, port in ports_of(server) if kind == "TCP INET"] == ports
    for host, port in (("127.0.0.1", ports[0]), ("127.0.0.2", ports[1]), ("127.0.0.1", ports[2]),
                       ("127.0.0.3", ports[3]),
                       ("localhost", ports[4])):
        assert speaks((host, port))
    assert not is_open("127.0.0.1", ports[3])


def test_an_address_without_a_port_has_that_of_p():
    port, other = free_port(), free_port()
    server = launch("-p", str(port), "-l", "127.0.0.1", "-l", "127.0.0.2:%d" % other)
    assert ports_of(server) == [("TCP INET", port), ("TCP INET", other)]


@needs_ip_version_6
@pytest.mark.parametrize("form", ["[::1]:PORT", "[::1]", "::1"])
def test_ip_version_6(form):
    port = free_port()
    server = launch("-p", str(port), "-l", form.replace("PORT", str(port)))
    assert ports_of(server) == [("TCP INET6", port)]
    assert speaks(("::1", port)) and not is_open("127.0.0.1", port)


@pytest.mark.parametrize("form", ["0.0.0.0", "*", "0.0.0.0:PORT", "*:PORT"])
def test_all_addresses(form):
    port = free_port()
    launch("-p", str(port), "-l", form.replace("PORT", str(port)))
    assert speaks(("127.0.0.1", port)) and speaks(("127.0.0.9", port))


def test_loopback_only_by_default():
    port = free_port()
    server = launch("-p", str(port))
    assert speaks(("127.0.0.1", port)) and not is_open("127.0.0.9", port)
    assert ("TCP INET6", port) in ports_of(server) or not has_ip_version_6()
    with Client(("127.0.0.1", port)) as client:
        assert client.stats("settings")["inter"] == "127.0.0.1"


def test_under_memcacheds_name_all_addresses_by_default():
    port = free_port()
    link = os.path.join(support.place.new("bin"), "memcached")
    os.symlink(os.path.abspath(CACHECASK), link)
    os.chmod(os.path.dirname(link), 0o755)
    server = Server("-p", str(port), listen=False, start=False)
    server.command = lambda: [link] + Server.command(server)[1:]
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    assert speaks(("127.0.0.9", port))
    with Client(("127.0.0.1", port)) as client:
        assert client.stats("settings")["inter"] == "NULL"
    server.stop()
    server.options += ["-l", "127.0.0.1"]
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    assert speaks(("127.0.0.1", port)) and not is_open("127.0.0.9", port)


def test_a_plain_listener_may_be_called_so():
    port = free_port()
    launch("-l", "notls:127.0.0.1:%d" % port)
    assert speaks(("127.0.0.1", port))


@pytest.mark.parametrize("address",
                         ["127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1", ":11211",
                          "[::1]x", "[]:11211", "notls:", "no.such.host.invalid", "127.0.0.1:http"])
def test_what_is_no_address_is_refused(address):
    status, said = Server("-l", address, listen=False,
                          start=False).launch().wait_for_exit(timeout=40)
    assert status != 0 and address.split(":")[0].strip("[]") in said and len(said) > 20


def test_an_address_of_another_machine_is_refused():
    status, said = Server("-l", "192.0.2.1", listen=False, start=False).launch().wait_for_exit()
    assert status != 0 and "192.0.2.1" in said


def test_one_port_in_use_of_several_is_an_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        status, said = Server("-l", "127.0.0.1:%d,127.0.0.1:%d" % (free_port(), taken),
                              listen=False, start=False).launch().wait_for_exit()
    assert status != 0 and str(taken) in said


def test_more_addresses_than_there_is_room_for():
    addresses = ",".join("127.0.1.%d:%d" % (i, 20000 + i) for i in range(1, 131))
    status, said = Server("-l", addresses, listen=False, start=False).launch().wait_for_exit()
    assert status != 0 and "more than" in said


# Machines that lack addresses

def alone(commands):
    """In a network of its own, made by these commands."""
    def wrap(command):
        return ["unshare", "--net", "sh", "-c", "%s; exec \"$@\"" % commands, "sh", *command]
    return wrap


def can_make_networks():
    if not shutil.which("ip") or not shutil.which("unshare"):
        return False
    return subprocess.run(alone("ip link set lo up")(["true"]), stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


needs_networks = pytest.mark.skipif(not can_make_networks(), reason="no network namespaces here")
NO_IP_VERSION_4 = "ip link set lo up; ip addr del 127.0.0.1/8 dev lo"
NO_IP_VERSION_6 = "ip link set lo up; ip -6 addr flush dev lo"


def launch_alone(commands, *options):
    server = Server(*options, listen=False, start=False)
    server.command = lambda: alone(commands)(Server.command(server))
    return server.launch()


@needs_networks
@pytest.mark.parametrize("commands, options, addresses", [
    (NO_IP_VERSION_4, [], r"tcp6:\[::1\]:11211"),
    (NO_IP_VERSION_4, ["-p", "-1"], r"tcp6:\[::1\]:\d+"),
    (NO_IP_VERSION_4, ["-U", "11211"], r"tcp6:\[::1\]:11211, udp6:\[::1\]:11211"),
    (NO_IP_VERSION_6, [], r"tcp:127.0.0.1:11211"),
], ids=str)
@needs_ip_version_6
def test_it_listens_on_what_there_is(commands, options, addresses):
    server = launch_alone(commands, *options)
    support.wait_until(lambda: "ready" in server.log() or not server.is_alive(),
                       "the server is ready")
    assert re.search("ready on %s, data" % addresses, server.log()), server.log()


@needs_networks
def test_without_any_loopback_the_message_says_so():
    status, said = launch_alone("ip link set lo up; ip addr flush dev lo").wait_for_exit()
    assert status != 0 and "neither 127.0.0.1 nor ::1" in said and "another server" not in said


@needs_networks
@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "[2001:db8::1]"])
def test_an_address_that_was_asked_for_and_is_missing(address):
    status, said = launch_alone(NO_IP_VERSION_4, "-l", address).wait_for_exit()
    assert (status != 0 and "This machine has no such address" in said and
            "another server" not in said)


# Ports

def test_no_tcp():
    status, said = Server("-p", "0", listen=False, start=False).launch().wait_for_exit()
    assert status != 0 and "nothing to listen on" in said
    status, said = Server("-p", "0", "-l", "127.0.0.1:%d" % free_port(), listen=False,
                          start=False).launch().wait_for_exit()
    assert status != 0 and "nothing to listen on" in said


def test_any_free_port():
    server = launch("-p", "-1", "-l", "127.0.0.1,127.0.0.2")
    (_, first), (_, second) = ports_of(server)
    assert speaks(("127.0.0.1", first)) and speaks(("127.0.0.2", second))


def test_the_file_of_the_ports_is_whole_when_it_is_there():
    server = launch("-p", "-1")
    path = server.env["MEMCACHED_PORT_FILENAME"]
    assert os.listdir(os.path.dirname(path)) == ["ports"]
    with open(path, encoding="ascii") as file:
        assert file.read() == "TCP INET: %d\n" % ports_of(server)[0][1]


def test_a_file_of_the_ports_that_cannot_be_written():
    server = Server(start=False, env={"MEMCACHED_PORT_FILENAME": "/no/such/directory/ports"})
    status, said = server.launch().wait_for_exit()
    assert status != 0 and "/no/such/directory/ports" in said


# Unix sockets

def unix(*options, **more):
    server = Server(*options, unix=True, start=False, **more)
    server.unix_path = os.path.join(support.place.new("unix"), "socket")
    return server


@pytest.mark.parametrize("mask", ["700", "0700", "777", "660", "0"])
def test_the_mode_of_the_socket(mask):
    server = unix("-a", mask)
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    assert os.stat(server.unix_path).st_mode & 0o777 == int(mask, 8)


def test_a_unix_socket_turns_the_network_off():
    port, udp_port = free_port(), free_port()
    server = unix("-p", str(port), "-l", "127.0.0.1", "-U", str(udp_port)).start()
    assert speaks(server.unix_path) and not is_open("127.0.0.1", port)
    assert ("udp:" not in server.log() and
            "warning: -U: no UDP, because -s turns the network off" in server.log())
    assert server.stats("settings")["udpport"] == "0"


def test_the_socket_goes_with_the_server():
    server = unix().start()
    server.stop()
    assert not os.path.exists(server.unix_path)


def test_what_is_no_socket_is_not_taken_away():
    server = unix()
    with open(server.unix_path, "w", encoding="ascii") as file:
        file.write("precious")
    status, said = server.launch().wait_for_exit()
    assert status != 0 and server.unix_path in said
    with open(server.unix_path, encoding="ascii") as file:
        assert file.read() == "precious"


def test_a_link_is_not_followed():
    server = unix()
    other = unix().start()
    os.symlink(other.unix_path, server.unix_path)
    status, _ = server.launch().wait_for_exit()
    assert status != 0 and speaks(other.unix_path)


def test_a_socket_of_somebody_who_does_not_accept_is_left_alone():
    server = unix()
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(server.unix_path)
        busy.listen(0)
        waiting.connect(server.unix_path)  # its backlog is full
        os.chmod(server.unix_path, 0o777)
        status, said = server.launch().wait_for_exit()
        assert status != 0 and "another server" in said
        assert os.path.exists(server.unix_path)


@only_root
def test_the_socket_belongs_to_the_user_who_serves():
    nobody = pwd.getpwnam("nobody")
    server = unix().start()
    status = os.stat(server.unix_path)
    assert (status.st_uid, status.st_gid,
            status.st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, 0o700)
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                 "/usr/bin/python3", "-c",
                 "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])",
                 server.unix_path]
    subprocess.run(as_nobody, check=True)


@only_root
def test_a_socket_in_a_directory_of_root_is_refused_with_the_reason():
    server = unix()
    os.chown(os.path.dirname(server.unix_path), 0, 0)
    status, said = server.launch().wait_for_exit()
    assert (status != 0 and
            "Permission denied. Its directory must be writable for the user that serves" in said)


@only_root
def test_a_socket_that_the_user_may_not_connect_to_is_left_alone():
    server = unix()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(server.unix_path)
        other.listen()
        os.chmod(server.unix_path, 0)
        status, said = server.launch().wait_for_exit()
        assert status != 0 and "another server" in said
        os.chmod(server.unix_path, 0o700)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(server.unix_path)


@only_root
def test_the_file_of_the_ports_never_goes_through_a_link():
    precious = os.path.join(support.place.path, "precious-ports")
    with open(precious, "w", encoding="ascii") as file:
        file.write("root's own")
    path = os.path.join(support.place.new("ports"), "ports")
    for suffix in ("", ".lck", ".tmp"):
        os.symlink(precious, path + suffix)
    Server(env={"MEMCACHED_PORT_FILENAME": path})
    with open(precious, encoding="ascii") as file:
        assert file.read() == "root's own"
    assert not os.path.islink(path) and os.stat(path).st_uid == pwd.getpwnam("nobody").pw_uid
    os.remove(precious)


def test_a_path_that_is_too_long():
    server = unix()
    server.unix_path = "/tmp/" + "x" * 120
    status, said = server.launch().wait_for_exit()
    assert status != 0 and "too long" in said
