"""Options, the start line, signals, and the ways to end."""
import os
import pwd
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import time

import pytest

import support
from support import CACHECASK, Client, Server, free_port

only_root = pytest.mark.skipif(not support.is_root(), reason="only root can become another user")
needs_memcached = pytest.mark.skipif(not os.path.exists("/usr/bin/memcached"),
                                     reason="needs Debian's memcached")


def run(*arguments):
    done = subprocess.run([CACHECASK, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=support.TIMEOUT, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refused(*options):
    status, said = Server(*options, start=False).launch().wait_for_exit()
    assert status == 64, "exit status %d: %s" % (status, said)
    return said


def version_at(address):
    client = Client(address)
    answer = client.ask(b"version\r\n", b"\r\n")
    client.close()
    return answer


# Starting

def test_the_start_line_tells_address_data_directory_keys_and_time(server):
    with server.connect() as client:
        for i in range(7):
            client.set(b"k%d" % i, b"x")
    line = server.log()
    assert "127.0.0.1:%d" % server.port in line and server.data_dir in line and "0 keys" in line
    server.restart()
    assert server.log().count("\n") == 1
    assert re.search(r"\b7 keys recovered in \d+\.\d+ s", server.log())


def test_help_goes_to_standard_output_and_exits_0():
    for option in ("-h", "--help"):
        status, out, err = run(option)
        assert (status, err) == (0, "")
        for name in ("-p", "-l", "-s", "-a", "-d", "-u", "-m", "-M", "-c", "-v", "-h", "-V", "-P",
                     "-t", "-I", "--data-dir", "--sync", "--segment-size", "--config",
                     "unix-socket"):
            assert name in out, name
        assert "proxy_config" not in out


def test_version_exits_0():
    for option in ("-V", "--version"):
        status, out, err = run(option)
        assert (status, err) == (0, "") and re.search(r"\d+\.\d+", out)


def test_license_exits_0():
    status, out, _ = run("-i")
    assert status == 0 and out


@pytest.mark.parametrize("options", [
    ["--nonsense"], ["-j"], ["-p"], ["-p", "x"], ["-p", "70000"], ["-p", ""], ["-m", "x"],
    ["-m", "0"], ["-m", "-1"], ["-c", "0"], ["-c", "-1"], ["-c", "x"], ["-t", "0"], ["-t", "-1"],
    ["-t", "x"], ["-B", "nonsense"], ["-I", "1023"], ["-I", "2g"], ["-I", "x"], ["-I", "-5"],
    ["--segment-size=1k"], ["--segment-size=2g"], ["--sync=x"], ["-o", "nonsense"],
    ["-o", "sync=x"], ["--config=/no/such/file"], ["stray"], ["-a", "9"], ["--data-dir"], ["-vx"],
], ids=" ".join)
def test_bad_options_are_refused_with_a_message(options):
    said = refused(*options)
    assert len(said) > 10 and "ready" not in said


@pytest.mark.parametrize("options", [
    ["-m 100"], ["-m100"], ["--memory-limit=100"], ["--memory-limit", "100"],
    ["-o", "memory-limit=100"], ["-vm", "100"],
])
def test_values_may_be_given_in_every_usual_way(options):
    assert Server(*options).stats()["limit_maxbytes"] == str(100 << 20)


def test_what_memcached_knows_and_means_nothing_here_is_accepted():
    Server("-f", "1.1", "-n", "32", "-L", "-C", "-b", "100", "-R", "10", "-B", "ascii", "-X", "-W",
           "-r", "-o", "modern,hashpower=20,slab_reassign,lru_crawler,hot_lru_pct=10,"
           "hash_algorithm=murmur3,no_hashexpand,maxconns_fast")


@only_root
def test_root_needs_a_user():
    done = subprocess.run([CACHECASK, "-p", str(free_port()),
                           "--data-dir=" + support.place.new("data")],
                          stderr=subprocess.PIPE, timeout=support.TIMEOUT, check=False)
    assert done.returncode != 0 and b"can't run as root without the -u switch" in done.stderr


@only_root
def test_with_u_it_runs_as_that_user_and_no_group_of_root(server):
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as status:
        content = status.read()
    user = os.stat(server.data_dir).st_uid
    assert user != 0
    assert re.search(r"^Uid:\t(\d+)\t\1\t\1\t\1$", content, re.M).group(1) == str(user)
    assert re.search(r"^Gid:\t(\d+)\t\1\t\1\t\1$", content, re.M).group(1) != "0"
    assert re.search(r"^Groups:\s*$", content, re.M)


@only_root
def test_a_user_that_is_not_there():
    status, said = Server("-u", "no-such-user", start=False).launch().wait_for_exit()
    assert status != 0 and "no-such-user" in said


def configuration_file(text):
    path = os.path.join(support.place.new("conf"), "memcached.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def test_a_configuration_file():
    path = configuration_file("# a comment\n\n-m 128\n-c 77\n  --sync=none  \n-t 2\n-M\n")
    settings = Server("--config=" + path).stats("settings")
    assert (settings["maxbytes"], settings["maxconns"], settings["num_threads"],
            settings["evictions"]) == (
str(128 << 20), "77", "2", "off")


def test_a_mistake_in_the_configuration_file_is_told_with_its_line():
    path = configuration_file("-m 128\n--nonsense\n")
    said = refused("--config=" + path)
    assert path in said and re.search(r"line 2\b", said)


def test_a_configuration_that_cannot_be_read_is_an_error():
    """A directory can be opened as a file can."""
    path = support.place.new("conf")
    assert refused("--config=" + path) == "configuration file %s: Is a directory\n" % path


def test_the_configuration_file_that_comes_with_it_is_good():
    path = os.path.join(os.path.dirname(__file__), "../../conf/cachecask.conf")
    copy = os.path.join(support.place.new("conf"), "cachecask.conf")
    with open(path, encoding="utf-8") as source, open(copy, "w", encoding="utf-8") as target:
        target.write(source.read())
    server = Server("--config=" + copy, listen=False, start=False)
    server.options += ["-p", str(server.port)]
    server.start()
    assert server.stats("settings")["maxbytes"] == str(64 << 20)


# Listening

def test_several_addresses():
    first, second, third = free_port(), free_port(), free_port()
    server = Server("-l", "127.0.0.1:%d,127.0.0.1:%d" % (first, second), "-l",
                    "127.0.0.2:%d" % third)
    for address in (("127.0.0.1", server.port), ("127.0.0.1", first), ("127.0.0.1", second),
                    ("127.0.0.2", third)):
        assert version_at(address).startswith(b"VERSION ")
    assert "127.0.0.2:%d" % third in server.log()


def test_ip_version_6():
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    port = free_port()
    Server("-l", "[::1]:%d" % port)
    assert version_at(("::1", port)).startswith(b"VERSION ")


def test_any_free_port_is_told_in_a_file():
    path = os.path.join(support.place.new("ports"), "ports")
    server = Server("-p", "-1", "-l", "127.0.0.1", listen=False, start=False,
                    env={"MEMCACHED_PORT_FILENAME": path})
    server.launch()
    support.wait_until(lambda: "ready" in server.log(), "the server is ready")
    with open(path, encoding="ascii") as file:
        port = int(re.fullmatch(r"TCP INET: (\d+)\n", file.read()).group(1))
    assert port > 0 and version_at(("127.0.0.1", port)).startswith(b"VERSION ")
    assert "127.0.0.1:%d" % port in server.log()


def test_a_port_in_use_is_an_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = Server(start=False)
        server.port = other.getsockname()[1]
        status, said = server.launch().wait_for_exit()
    assert status != 0 and str(server.port) in said


def test_a_name_that_is_no_address():
    status, said = Server("-l", "no.such.host.invalid",
                          start=False).launch().wait_for_exit(timeout=40)
    assert status != 0 and "no.such.host.invalid" in said


def unix_server(*options, **more):
    """Its socket lies where the server's user may make one."""
    server = Server(*options, unix=True, start=False, **more)
    server.unix_path = os.path.join(support.place.new("unix"), "socket")
    return server


def test_a_unix_socket_and_no_tcp():
    server = unix_server("-a", "0766").start()
    with server.connect() as client:
        client.set(b"k", b"x")
        assert client.get(b"k") == b"x"
        settings = client.stats("settings")
        assert settings["domain_socket"] == server.unix_path and settings["umask"] == "766"
    assert os.stat(server.unix_path).st_mode & 0o777 == 0o766
    assert server.unix_path in server.log()


def test_a_unix_socket_is_private_by_default():
    assert os.stat(unix_server().start().unix_path).st_mode & 0o777 == 0o700


def test_a_unix_socket_left_behind_is_no_obstacle():
    server = unix_server().start()
    server.kill9()
    assert os.path.exists(server.unix_path)
    server.start()


def test_a_second_server_does_not_take_the_first_ones_unix_socket_away():
    first = unix_server().start()
    second = unix_server(data_dir=first.data_dir)
    second.unix_path = first.unix_path
    status, _ = second.launch().wait_for_exit()
    assert status != 0
    assert version_at(first.unix_path).startswith(b"VERSION ")


# Process

def test_the_pid_file_is_written_and_taken_away():
    path = os.path.join(support.place.new("run"), "pid")
    server = Server("-P", path)
    with open(path, encoding="ascii") as file:
        assert file.read() == "%d\n" % server.process.pid
    server.stop()
    assert not os.path.exists(path)


@only_root
def test_the_pid_file_belongs_to_the_user_and_never_goes_through_a_link():
    """In the place of the file, and of the one that is renamed to it."""
    folder = support.place.new("run")
    precious = os.path.join(support.place.path, "precious")
    with open(precious, "w", encoding="ascii") as file:
        file.write("root's own")
    path = os.path.join(folder, "pid")
    os.symlink(precious, path)
    os.symlink(precious, path + ".tmp")
    server = Server("-P", path)
    with open(path, encoding="ascii") as file:
        assert file.read() == "%d\n" % server.process.pid
    assert not os.path.islink(path) and os.stat(path).st_uid == pwd.getpwnam("nobody").pw_uid
    assert os.listdir(folder) == ["pid"]
    server.stop()
    with open(precious, encoding="ascii") as file:
        assert file.read() == "root's own"
    os.remove(precious)


@only_root
def test_a_pid_file_where_only_root_may_write_is_told():
    folder = support.place.new("run")
    os.chown(folder, 0, 0)
    server = Server("-P", os.path.join(folder, "pid"))
    assert "must be writable for the user that serves" in server.log() and not os.listdir(folder)


def test_a_refused_second_server_leaves_the_first_ones_pid_file_alone():
    path = os.path.join(support.place.new("run"), "pid")
    first = Server("-P", path)
    same_data = Server("-P", path, data_dir=first.data_dir, start=False)
    same_port = Server("-P", path, start=False)
    same_port.port = first.port
    for second in (same_data, same_port):
        status, _ = second.launch().wait_for_exit()
        assert status != 0
        with open(path, encoding="ascii") as file:
            assert file.read() == "%d\n" % first.process.pid


def test_in_the_background():
    path = os.path.join(support.place.new("run"), "pid")
    server = Server("-d", "-P", path, start=False)
    server.launch()
    status, said = server.wait_for_exit()
    assert status == 0, said
    with open(path, encoding="ascii") as file:
        pid = int(file.read())
    support.guardian.tell(b"+", pid)
    try:
        version = version_at(("127.0.0.1", server.port))
        assert version.startswith(b"VERSION "), "it is ready when its starter ends"
        assert os.getpgid(pid) != os.getpgid(0)
    finally:
        os.kill(pid, signal.SIGTERM)
        support.wait_until(lambda: not os.path.exists("/proc/%d" % pid) or is_zombie(pid),
                           "the server ends")
        support.guardian.tell(b"-", pid)


def is_zombie(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as stat:
            return ") Z " in stat.read()
    except FileNotFoundError:
        return True


def test_in_the_background_a_failed_start_is_told():
    server = Server("-d", data_dir="/proc/no-such-place", start=False)
    status, said = server.launch().wait_for_exit()
    assert status != 0 and "/proc/no-such-place" in said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_soon(server, how):
    with server.connect() as busy, server.connect() as idle, server.connect() as half:
        busy.set(b"k", b"x" * 1000000)
        half.send(b"set half 0 0 100\r\nabc")
        busy.send(b"get k\r\n" * 50)  # and nobody reads the answers
        idle.ask(b"version\r\n", b"\r\n")
        time.sleep(0.1)
        started = time.monotonic()
        server.process.send_signal(how)
        assert server.reap(timeout=60 if support.SANITIZED else 10) == 0
        print("ended after %.3f s" % (time.monotonic() - started))
    server.start()
    with server.connect() as client:
        assert client.get(b"k") == b"x" * 1000000
        assert client.get(b"half") is None


def test_a_signal_while_clients_write_loses_nothing_acknowledged(server):
    acknowledged = 0
    with server.connect() as client:
        client.send(b"".join(b"set k%d 0 0 1\r\nx\r\n" % i for i in range(20000)))
        client.read(len(b"STORED\r\n") * 1000)
        server.process.terminate()
        while client.fill():
            pass
        acknowledged = 1000 + len(client.buffer) // len(b"STORED\r\n")
        assert server.reap() == 0
    server.start()
    with server.connect() as client:
        keys = [b"k%d" % i for i in range(acknowledged)]
        assert len(client.gets(*keys)) == acknowledged


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads(threads):
    server = Server("-t", str(threads))
    clients = [server.connect() for _ in range(20)]
    for i, client in enumerate(clients):
        client.set(b"k%d" % i, b"x")
    for client in clients:
        assert len(client.gets(*(b"k%d" % i for i in range(20)))) == 20
    assert server.stats()["threads"] == str(threads)


def test_verbose():
    for option, level in (("-v", "1"), ("-vv", "2"), ("-vvv", "3")):
        assert Server(option).stats("settings")["verbosity"] == level


def test_shutdown_by_command():
    server = Server("-A")
    with server.connect() as client:
        client.set(b"k", b"x")
        client.send(b"shutdown\r\n")
        assert server.reap() == 0
    server.start()
    with server.connect() as client:
        assert client.get(b"k") == b"x"
        client.send(b"shutdown graceful\r\n")
        assert server.reap() == 0


def test_the_default_data_directory_of_a_service():
    path = support.place.new("state")
    server = Server(start=False, env={"STATE_DIRECTORY": path})
    server.command = lambda: [part for part in Server.command(server)
                              if not part.startswith("--data-dir")]
    server.start()
    assert path in server.log() and "store" in os.listdir(path)


def test_of_several_directories_of_a_service_the_first_is_taken():
    first, second = support.place.new("state"), support.place.new("state")
    server = Server(start=False, env={"STATE_DIRECTORY": "%s:%s" % (first, second)})
    server.command = lambda: [part for part in Server.command(server)
                              if not part.startswith("--data-dir")]
    server.start()
    assert ("data in %s:" % first in server.log() and "store" in os.listdir(first) and
            os.listdir(second) == [])
    assert not os.path.exists("%s:%s" % (first, second))


def start_as(user_id, **env):
    """As that user, with that environment alone: status and what was said. None of them can
    serve."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY")}
    done = subprocess.run([support.program_for_all(), "-p", str(free_port())],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=support.TIMEOUT, user=user_id, group=user_id, extra_groups=[],
                          env={**environment, **env}, check=False)
    return done.returncode, done.stderr.decode()


@only_root
def test_without_a_home_it_says_what_was_tried_and_what_to_set():
    status, said = start_as(45678)
    assert status != 0 and "user id 45678" in said
    for word in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME", "--data-dir"):
        assert word in said, said


@only_root
@pytest.mark.parametrize("env, missing", [
    ({"HOME": "/"}, "/.local"), ({"HOME": "/no-such-home"}, "/no-such-home"),
    ({"XDG_STATE_HOME": "/no-such/state"}, "/no-such"),
], ids=str)
def test_a_home_that_cannot_be_used_is_named(env, missing):
    status, said = start_as(45678, **env)
    assert status != 0 and "cannot make %s: Permission denied" % missing in said.replace("//", "/")
    assert "HOME" in said and "--data-dir" in said


# All options of memcached

MEMCACHED = "/usr/bin/memcached"
MEMCACHED_CONF = "/etc/memcached.conf"

# A value to try for each option that takes one, those of -o included.
VALUES = {
    "port": None, "listen": None, "user": None,  # the server under test has these anyway
    "udp-port": "0", "unix-mask": "700", "memory-limit": "64", "conn-limit": "100",
    "pidfile": "/no/such/place", "slab-growth-factor": "1.25", "slab-min-size": "48",
    "threads": "2", "max-reqs-per-event": "20", "listen-backlog": "100", "protocol": "auto",
    "max-item-size": "1m", "memory-file": "/no/such/file", "napi_ids": "1", "D": ":",
    "hash_algorithm": "murmur3", "tail_repair_time": "0", "ext_path": "/no/such/file:1G",
    "read_buf_mem_limit": "0",
}
FLAGS_OF_O = {"maxconns_fast", "no_lru_crawler", "no_lru_maintainer", "track_sizes",
              "no_hashexpand", "modern", "no_modern",
              "ext_drop_unread"}
# They have tests of their own: they change what the server is, or need files.
APART = {"unix-socket", "daemon", "help", "license", "version", "auth-file", "enable-ssl",
         "enable-sasl", "extended"}


def options_of_memcached():
    """[(letter, name, takes a value)] and the names of -o, from what Debian's memcached says
    itself."""
    said = subprocess.run([MEMCACHED, "-h"], stdout=subprocess.PIPE, check=True).stdout.decode()
    named = re.findall(r"^-(\w),? +--([\w-]+)(=?)", said, re.M)
    letters = [(letter, None, True) for letter in re.findall(r"^-(\w) <", said, re.M)]
    extended = re.findall(r"^   - (\w+):", said, re.M)
    assert len(named) > 30 and len(extended) > 40
    takes_value = {"R", "N"}  # whose rows do not show it
    return [(letter, name, bool(value) or letter in takes_value)
            for letter, name, value in named] + letters, extended


def tried():
    """The options of memcached to be tried, with their values."""
    options, _ = options_of_memcached()
    for letter, name, takes_value in options:
        value = VALUES.get(name or letter, "1") if takes_value else ""
        left_out = name in APART or value is None
        if not left_out:
            yield letter, name, value


@needs_memcached
def test_every_letter_of_memcached_starts_it():
    options = []
    for letter, _, value in tried():
        options += ["-" + letter] + ([value] if value else [])
    server = Server(*options)
    assert server.stats("settings")["maxconns"] == "100"


@needs_memcached
@pytest.mark.parametrize("form", ["--name=value", "--name value", "-letter value in one word"])
def test_every_long_option_of_memcached_starts_it(form):
    options = []
    for letter, name, value in tried():
        if name is None:
            continue
        if not value:
            options.append("--" + name)
        elif form == "--name=value":
            options.append("--%s=%s" % (name, value))
        elif form == "--name value":
            options += ["--" + name, value]
        else:
            options.append("-%s %s" % (letter, value))
    server = Server(*options)
    assert server.stats("settings")["maxconns"] == "100"


def shortest(name, names):
    """The least of it that no other one begins with."""
    return next(name[:end] for end in range(1, len(name) + 1)
                if not any(other.startswith(name[:end]) for other in names if other != name) or
                end == len(name))


@needs_memcached
def test_every_long_option_of_memcached_may_be_cut_short_as_there():
    known = [name for _, name, _ in options_of_memcached()[0] if name]
    options = []
    for _, name, value in tried():
        if name:
            options += ["--" + shortest(name, known)] + ([value] if value else [])
    assert "--verb" in options and "--pr" in options and "--c" in options
    settings = Server(*options).stats("settings")
    assert (settings["maxconns"], settings["num_threads"],
            settings["tcp_backlog"]) == ("100", "2", "100")


def test_names_that_are_cut_short_in_a_configuration_file():
    path = configuration_file("--memory-l 128\n--disable-e\n--segm=1m\n--conn-l=77\n")
    settings = Server("--conf=" + path).stats("settings")
    assert (settings["maxbytes"], settings["evictions"], settings["segment_size"],
            settings["maxconns"]) == (
str(128 << 20), "off", str(1 << 20), "77")


AMBIGUOUS = (["--ver"], ["--memory", "64"], ["--lis=127.0.0.1"], ["--enable-s"], ["--slab=1"])


@pytest.mark.parametrize("options", AMBIGUOUS, ids=" ".join)
def test_a_name_that_is_cut_too_short(options):
    said = refused(*options)
    first, second = re.match(r"option %s is ambiguous: (--\S+) or (--\S+); see --help\n"
                             % options[0], said).groups()
    assert (first != second and first.startswith(options[0].split("=")[0]) and
            second.startswith(options[0].split("=")[0]))


def test_a_name_that_is_cut_too_short_in_a_configuration_file():
    path = configuration_file("-v\n--ver\n")
    said = refused("--config=" + path)
    assert "--ver is ambiguous" in said and "line 2" in said


@needs_memcached
def test_memcached_finds_the_same_ambiguous():
    for options in AMBIGUOUS:
        done = subprocess.run([MEMCACHED, *options], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=support.TIMEOUT, check=False)
        assert done.returncode != 0 and b"ambiguous" in done.stderr


def test_a_whole_name_wins_over_those_that_begin_so():
    server = Server("--listen", "127.0.0.2")  # and there is --listen-backlog
    assert version_at(("127.0.0.2", server.port)).startswith(b"VERSION ")


@needs_memcached
def test_every_extended_option_of_memcached_starts_it():
    _, extended = options_of_memcached()
    words = [name if name in FLAGS_OF_O else "%s=%s" % (name, VALUES.get(name, "1"))
             for name in extended
             if not name.startswith("ssl_")]  # which need -Z, and files
    more = ("inline_ascii_resp,slab_sizes=64-128,resp_obj_mem_limit=1,drop_privileges,"
            "no_drop_privileges,relaxed_privileges,no_maxconns_fast,no_slab_reassign,"
            "no_inline_ascii_resp,lru_segmented,no_chunked_items,temporary_ttl=5")
    server = Server("-o", ",".join(words), "-o", more)
    settings = server.stats("settings")
    assert (settings["track_sizes"] == "yes" and settings["maxconns_fast"] == "no" and
            settings["idle_timeout"] == "1")


@needs_memcached
def test_stats_settings_have_the_names_and_the_order_of_memcached():
    ours = list(Server().stats("settings"))
    port = free_port()
    user = ["-u", "nobody"] if support.is_root() else []
    process = subprocess.Popen([MEMCACHED, "-l", "127.0.0.1", "-p", str(port), *user])
    support.guardian.tell(b"+", process.pid)
    try:
        support.wait_until(lambda: is_listening(port), "memcached listens")
        with Client(("127.0.0.1", port)) as client:
            theirs = list(client.stats("settings"))
    finally:
        process.kill()
        process.wait()
        support.guardian.tell(b"-", process.pid)
    theirs = [name for name in theirs if not name.startswith(("ext_", "ssl_")) and
              name != "slab_automove_freeratio"]
    assert [name for name in ours if name in theirs] == theirs


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def memcached_user_can_serve():
    try:
        pwd.getpwnam("memcache")
    except KeyError:
        return False
    return support.is_root() and os.path.exists(MEMCACHED_CONF)


@pytest.mark.skipif(not memcached_user_can_serve(),
                    reason="needs root, Debian's memcached.conf and its user")
@pytest.mark.parametrize("how", ["as a file", "as arguments"])
def test_debians_memcached_conf_starts_it(how):
    data = support.place.new("data")
    shutil.chown(data, "memcache")
    port = free_port()
    if how == "as a file":
        arguments = ["--config=" + MEMCACHED_CONF]  # it says -d, too
    else:
        arguments = arguments_of_debians_wrapper()
    # Ours come last: the port and the directory, so that no other server is in the way.
    command = [CACHECASK, *arguments, "-p", str(port), "--data-dir=" + data]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    support.guardian.tell(b"+", process.pid)
    support.wait_until(lambda: process.poll() is not None or is_listening(port), "it listens")
    assert process.poll() in (None, 0), process.stderr.read()
    support.wait_until(lambda: is_listening(port), "it listens")
    with Client(("127.0.0.1", port)) as client:
        stats, settings = client.stats(), client.stats("settings")
    pid = int(stats["pid"])
    support.guardian.tell(b"+", pid)
    try:
        assert (settings["maxbytes"], settings["inter"]) == (str(64 << 20), "127.0.0.1")
        assert os.stat("/proc/%d" % pid).st_uid == pwd.getpwnam("memcache").pw_uid
        assert (pid != process.pid) == (how == "as a file")
    finally:
        os.kill(pid, signal.SIGTERM)
        support.wait_until(lambda: process.poll() is not None, "the one who was started ends")
        support.wait_until(lambda: not os.path.exists("/proc/%d" % pid) or is_zombie(pid),
                           "the server ends")
        for ended in (pid, process.pid):
            support.guardian.tell(b"-", ended)


def arguments_of_debians_wrapper():
    """The options that systemd-memcached-wrapper passes to memcached: the option lines, except -d
    and -h, through a shell."""
    words = []
    with open(MEMCACHED_CONF, encoding="ascii") as conf:
        for line in conf:
            line = re.sub(r"(?<!\\)#[^#]*", "", line).strip()
            if line.startswith("-") and line[1:2] not in ("d", "h"):
                words.append(line)
    return shlex.split(" ".join(words))


def test_a_configuration_file_in_debians_form():
    path = configuration_file("logfile /var/log/memcached.log\n-m 128 # memory\n# -c "
                              "5\n\t-c\t77\r\n--max-item-size=2m\n--threads 2\n")
    settings = Server("--config=" + path).stats("settings")
    assert (settings["maxbytes"], settings["maxconns"], settings["item_size_max"],
            settings["num_threads"]) == (
str(128 << 20), "77", str(2 << 20), "2")


def test_a_configuration_file_does_not_name_another():
    path = os.path.join(support.place.new("conf"), "endless.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write("--config=%s\n" % path)
    assert path in refused("--config=" + path)


def test_all_options_of_ours_by_o():
    data = support.place.new("data")
    server = Server("-o", "data-dir=%s,sync=none,segment_size=1m,disk-limit=64m,clean-rate=1m,"
                    "idle-timeout=9" % data)
    settings = server.stats("settings")
    assert (settings["sync_interval_ms"], settings["segment_size"], settings["disk_limit"],
            settings["clean_rate"],
            settings["idle_timeout"]) == ("-1", str(1 << 20), str(64 << 20), str(1 << 20), "9")


@pytest.mark.parametrize("options, wanted", [
    (["-c", "0"], "-c, --conn-limit: \"0\" is no number from 1 to 1048576"),
    (["-t", "-3"], "from 1 to 1024"), (["-I", "2g"], "from 1k to 1g"),
    (["-I", "100"], "from 1k to 1g"), (["-R", "0"], "1 or more"), (["-a", "1000"], "from 0 to 777"),
    (["-m", "0"], "from 1m"), (["-o", "idle_timeout=-1"], "0 or more"),
    (["-D", "ab"], "single character"), (["-j"], "unknown option -j"),
    (["--nonsense=5"], "unknown option --nonsense"),
    (["-o", "modern,nonsense"], "unknown option nonsense"), (["--daemon=5"], "takes no value"),
    (["-o", "idle_timeout"], "needs a value"), (["--daem=5"], "takes no value"),
    (["--disk-l"], "needs a value"), (["-o", "memory-l=64"], "unknown option memory-l"),
    (["--idle_time=5"], "unknown option --idle_time"),
], ids=str)
def test_what_is_wrong_with_an_option_is_said(options, wanted):
    assert wanted in refused(*options)


def test_the_help_names_every_row_of_the_manual_page():
    program = os.path.join(os.path.dirname(__file__), "../../script/man-page")
    subprocess.run([program, "--check", CACHECASK], check=True)


# Limits of the process

def limits_of(pid):
    with open("/proc/%d/limits" % pid, encoding="ascii") as limits:
        return {line[:26].strip(): line[26:].split()[0] for line in limits}


def test_the_limit_of_open_files_is_raised_for_the_connections():
    server = Server("-c", "3000")
    assert int(limits_of(server.process.pid)["Max open files"]) >= 3000


@only_root
def test_too_few_open_files_for_the_connections_are_an_error():
    """As nobody, whose hard limit cannot be raised."""
    nobody = pwd.getpwnam("nobody")

    def become_nobody():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    program = support.program_for_all()
    command = [program, "-p", str(free_port()), "-l", "127.0.0.1",
               "--data-dir=" + support.place.new("data"), "-c", "300"]
    done = subprocess.run(command, preexec_fn=become_nobody, stderr=subprocess.PIPE,
                          timeout=support.TIMEOUT, check=False)
    assert done.returncode == 1 and b"ulimit -n) is 200: too low for 300 connections" in done.stderr


def test_core_files_of_any_size():
    server = Server("-r")
    pid = server.process.pid
    assert (limits_of(pid)["Max core file size"] == limits_of(os.getpid())["Max core file size"] or
            support.is_root())
    if support.is_root():
        assert limits_of(pid)["Max core file size"] == "unlimited"
        assert os.stat("/proc/%d/status" % pid).st_uid != 0, "the kernel would write no core file"


def test_memory_is_locked_or_the_reason_is_told():
    if support.SANITIZED:
        pytest.skip("a sanitizer's memory is too large to be locked")
    server = Server("-k")
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as status:
        locked = int(re.search(r"^VmLck:\s+(\d+) kB", status.read(), re.M).group(1))
    assert locked > 0 or "warning: -k" in server.log()


def test_the_backlog_is_what_was_asked_for():
    if not shutil.which("ss"):
        pytest.skip("no ss here")
    server = Server("-b", "77")
    said = subprocess.run(["ss", "-Hltn", "sport = :%d" % server.port], stdout=subprocess.PIPE,
                          check=True).stdout.split()
    assert said[2] == b"77"


def test_a_pid_file_that_cannot_be_written_is_told_and_no_obstacle():
    assert "/no/such/place" in Server("-P", "/no/such/place").log()


# Ends

def test_sigusr1_ends_it_well(server):
    with server.connect() as client:
        client.set(b"k", b"x")
    server.process.send_signal(signal.SIGUSR1)
    assert server.reap() == 0
    server.start()
    with server.connect() as client:
        assert client.get(b"k") == b"x"


def test_sighup_changes_nothing_without_a_password_file(server):
    server.process.send_signal(signal.SIGHUP)
    with server.connect() as client:
        client.set(b"k", b"x")
    assert server.is_alive() and server.log().count("\n") == 1


def test_shutdown_only_if_allowed_and_well_formed():
    with Server().connect() as client:
        client.talk(b"shutdown\r\n", b"SERVER_ERROR: shutdown not enabled\r\n")
    server = Server("-A")
    with server.connect() as client:
        client.talk(b"shutdown now\r\n", b"CLIENT_ERROR invalid shutdown mode\r\n")
        assert server.is_alive()
