"""What an intruder would find: how the program is built, and what the service may do."""
import ctypes
import os
import re
import shutil
import signal
import subprocess

import pytest

import support
from limited import limited_server
from support import Server, forget_page_cache, value_of

SERVICE = os.path.join(os.path.dirname(__file__), "../../conf/cachecask.service")
EXPOSURE_MAX = 2.0


def readelf(what):
    return subprocess.run(["readelf", what, "--wide", support.CACHECASK], check=True,
                          capture_output=True, text=True).stdout


def test_the_program_lies_at_a_random_address():
    assert re.search(r"Type:\s+DYN \(Position-Independent", readelf("--file-header"))


def test_its_tables_are_read_only_once_it_runs():
    assert "GNU_RELRO" in readelf("--program-headers")
    assert "BIND_NOW" in readelf("--dynamic")


def test_neither_stack_nor_data_can_be_run():
    segments = readelf("--program-headers").splitlines()
    flags = [line.split()[-2] for line in segments if re.match(r"\s+(LOAD|GNU_STACK)", line)]
    assert not [flag for flag in flags if "W" in flag and "E" in flag]
    assert any("GNU_STACK" in line for line in segments)


@pytest.mark.skipif(support.SANITIZED, reason="the sanitizers check more than these")
def test_calls_of_the_c_library_and_the_stack_are_guarded():
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert "__memcpy_chk" in symbols and "__snprintf_chk" in symbols


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_service_may_do_little_else():
    said = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", SERVICE],
                          capture_output=True, text=True, check=False).stdout
    level = re.search(r"Overall exposure level .*: ([0-9.]+)", said)
    assert level, said
    print("exposure", level.group(1))
    assert float(level.group(1)) <= EXPOSURE_MAX


# What a core dump would hold

def dumped(server):
    """(start, end) of the private mappings that can be written and that a dump holds."""
    found, mapping = [], None
    with open("/proc/%d/smaps" % server.process.pid, encoding="ascii") as smaps:
        for line in smaps:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.p ", line)
            if head:
                mapping = (int(head.group(1), 16), int(head.group(2), 16))
            elif line.startswith("VmFlags:") and mapping:
                found += [] if " dd" in line else [mapping]
                mapping = None
            elif re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                mapping = None
    return found


def memory_of(server, mapping):
    with open("/proc/%d/mem" % server.process.pid, "rb", buffering=0) as memory:
        memory.seek(mapping[0])
        try:
            return memory.read(mapping[1] - mapping[0])
        except OSError:
            return b""  # given back since it was listed


@pytest.mark.skipif(support.SANITIZED, reason="a sanitizer has memory of its own")
@pytest.mark.skipif(not support.is_root(), reason="only root may look into it")
def test_core_dumps_hold_neither_values_nor_passwords_nor_reserved_memory():
    passwords = os.path.join(support.place.new("passwords"), "passwords")
    with open(passwords, "w", encoding="ascii") as file:
        file.write("user:the-pass-word\n")
    server = Server("-r", "-m", "8192", "-Y", passwords)
    with server.connect() as client:
        client.talk(b"set x 0 0 18\r\nuser the-pass-word\r\n", b"STORED\r\n")
        client.set(b"small", b"the-small-value")
        client.set(b"large", b"the-large-value" * 20000)
        assert client.get(b"small") == b"the-small-value" and len(client.get(b"large")) == 300000
    assert sum(end - start for start, end in dumped(server)) < 256 << 20
    memory = [memory_of(server, mapping) for mapping in dumped(server)]
    assert not [word for word in (b"the-pass-word", b"the-small-value") for part in memory
                if word in part]
    begins = sum(part.count(b"the-large-value") for part in memory) * len(b"the-large-value")
    assert begins < 256 << 10  # of its request, while that had arrived in part


# -o drop_privileges: what a server that has been taken over could still do

needs_seccomp = pytest.mark.skipif(not support.DROPPED, reason="built without libseccomp")
CALLS = ("execve", "fork", "socket", "unix socket", "connect", "bind", "ptrace", "setuid", "mmap",
         "mprotect", "kill", "prlimit", "chmod", "mount", "ring setup", "signal by fcntl", "lease")


def library():
    """The compiled forbidden_calls.c, where the user who serves can read it."""
    path = os.path.join(support.place.path, "forbidden_calls.so")
    if not os.path.exists(path):
        source = os.path.join(os.path.dirname(__file__), "forbidden_calls.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", path,
                        source, "-ldl"], check=True)
        os.chmod(path, 0o755)
    return path


def intruder(call):
    env = {"LD_PRELOAD": library(), "FORBIDDEN_CALL": call}
    if support.SANITIZED:
        env["ASAN_OPTIONS"] = (os.environ.get("ASAN_OPTIONS", "") +
                               ":verify_asan_link_order=0:detect_leaks=0").lstrip(":")
    return env


def filters(server):
    """Of each thread: how its calls are filtered, and whether it may gain privileges."""
    found = []
    for thread in os.listdir("/proc/%d/task" % server.process.pid):
        with open("/proc/%d/task/%s/status" % (server.process.pid, thread),
                  encoding="ascii") as status:
            fields = dict(line.split(":\t", 1) for line in status.read().splitlines()
                          if ":\t" in line)
        found.append((fields["Seccomp"], fields["NoNewPrivs"]))
    return found


@needs_seccomp
@pytest.mark.parametrize("more", [[], ["--no-uring"]])
def test_all_threads_have_dropped_their_privileges(more):
    server = Server("-o", "drop_privileges", *more)
    before = filters(server)
    assert len(before) > 8 and set(before) == {("2", "1")}
    with server.connect() as client, server.connect() as watcher:
        watcher.talk(b"watch mutations\r\n", b"OK\r\n")
        client.talk(b"lru_crawler metadump all\r\n", b"OK\r\nEND\r\n")
        after = filters(server)
        assert set(after) == {("2", "1")}
        assert client.stats("settings")["drop_privileges"] == "yes"


def test_privileges_are_kept_if_nobody_asks():
    server = Server("-o", "drop_privileges,no_drop_privileges")
    assert {filtered for filtered, _ in filters(server)} == {filters_of_the_system()}
    assert server.stats("settings")["drop_privileges"] == "no"


def filters_of_the_system():
    with open("/proc/self/status", encoding="ascii") as status:
        return re.search(r"^Seccomp:\t(\d)", status.read(), re.M).group(1)


@needs_seccomp
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_serving_does_not_need_ends_the_process(call):
    server = Server("-o", "drop_privileges", env=intruder(call))
    with server.connect() as client:
        client.set(b"k", b"kept")
        client.send(b"stats\r\n")
        client.expect_closed()
    assert server.wait_for_exit()[0] == -signal.SIGSYS and "went through" not in server.log()
    server.env = None
    server.start()
    with server.connect() as client:
        assert client.get(b"k") == b"kept"


def elsewhere():
    """A path where the user who serves may make a file."""
    return os.path.join(support.place.new("elsewhere"), "file")


def has_landlock():
    """No library knows the call; 444 everywhere, and the last argument asks for the version."""
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


@needs_seccomp
@pytest.mark.parametrize("call, more", [
    ("own memory", []), ("file elsewhere", []),
    ("own memory", ["-r"]),  # which may be looked into, for there is no core file else
])
def test_files_of_others_cannot_be_changed(call, more):
    if not has_landlock() and (call, more) != ("own memory", []):
        pytest.skip("this kernel has no Landlock")
    path = elsewhere()
    server = Server("-o", "drop_privileges", *more, env=dict(intruder(call), FORBIDDEN_PATH=path))
    server.stats()
    assert "went through" not in server.log() and not os.path.exists(path)
    server.stop()


@needs_seccomp
@pytest.mark.skipif(not support.is_root(), reason="only root may look at it")
def test_nobody_may_look_into_it():
    """One that was started by root and has become another user may not be anyway."""
    for options, root_owns_it in ((["-o", "drop_privileges"], True),
                                  (["-o", "no_drop_privileges"], False)):
        server = limited_server(*options, limit=1024)
        assert (os.stat("/proc/%d/mem" % server.process.pid).st_uid == 0) == root_owns_it


@needs_seccomp
def test_what_it_makes_beside_its_data_can_still_be_made_and_removed():
    pid_file = os.path.join(support.place.new("run"), "pid")
    server = Server("-o", "drop_privileges", "-P", pid_file, unix=True)
    with open(pid_file, encoding="ascii") as file:
        assert file.read() == "%d\n" % server.process.pid
    server.stop()
    assert not os.path.exists(pid_file) and not os.path.exists(server.unix_path)


@needs_seccomp
def test_a_daemon_lets_go_of_its_terminal_all_the_same():
    pid_file = os.path.join(support.place.new("run"), "pid")
    server = Server("-o", "drop_privileges", "-d", "-P", pid_file, start=False).launch()
    assert server.wait_for_exit()[0] == 0
    with open(pid_file, encoding="ascii") as file:
        pid = int(file.read())
    support.guardian.tell(b"+", pid)
    try:
        assert {os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in range(3)} == {"/dev/null"}
    finally:
        os.kill(pid, signal.SIGKILL)
        support.guardian.tell(b"-", pid)


@pytest.mark.parametrize("call", ["own memory", "file elsewhere", "signal by fcntl", "lease"])
def test_with_its_privileges_files_and_fcntl_are_as_everywhere(call):
    server = Server("-r", "-o", "no_drop_privileges",
                    env=dict(intruder(call), FORBIDDEN_PATH=elsewhere()))
    server.stats()
    assert "the call went through" in server.log()


@pytest.mark.parametrize("call", ["fork", "socket", "mmap", "kill"])
def test_with_its_privileges_it_goes_through(call):
    """So the test above has met the filter, and nothing else."""
    server = Server("-o", "no_drop_privileges", env=intruder(call))
    server.stats()
    assert "the call went through" in server.log()


def test_a_ring_does_nothing_but_read():
    server = Server(env=intruder("ring"))
    with server.connect() as client:
        client.set(b"first", b"1" * 100000)
        client.set(b"second", b"2" * 100000)
    server.restart()
    with server.connect() as client:
        assert client.get(b"first") == b"1" * 100000  # in another way
        assert client.get(b"second") == b"2" * 100000
        if client.stats("store").get("uring_reads", "0") == "0":
            pytest.skip("there is no io_uring here")
    assert "the ring refuses: Permission denied" in server.log()


def test_a_filter_that_lets_rings_be_made_and_not_used():
    """As older filters of containers do: cold values are read by threads, and clients have calls of
    their own."""
    server = Server("-t", "1", env=intruder("ring enter"))
    keys = [b"key-%d" % n for n in range(20)]
    with server.connect() as client:
        for key in keys:
            client.set(key, value_of(key, 50000))
    server.restart()
    clients = [server.connect() for _ in keys]
    for _ in range(3):
        for key, client in zip(keys, clients):
            client.send(b"get %s\r\n" % key)
        for key, client in zip(keys, clients):
            client.expect(b"VALUE %s 0 50000\r\n%s\r\nEND\r\n" % (key, value_of(key, 50000)))
    assert clients[0].stats("store").get("uring_reads", "0") == "0"
    assert "no filter" not in server.log()
    server.stop()


@needs_seccomp
@pytest.mark.parametrize("more", [[], ["--no-uring", "--sync=always"]])
def test_a_whole_life_without_privileges(more):
    """All else under it: CACHECASK_OPTIONS="-o drop_privileges" script/test server."""
    passwords = os.path.join(support.place.new("passwords"), "passwords")
    with open(passwords, "w", encoding="ascii") as file:
        file.write("user:word\n")
    server = Server("-o", "drop_privileges", "-m", "8", "--segment-size=64k", "--disk-limit", "4m",
                    "-A", "-Y", passwords, *more)
    keys = [b"key-%d" % n for n in range(2000)]
    for how in ("stop", "kill9", "hang up"):
        with server.connect() as client:
            client.talk(b"set x 0 0 9\r\nuser word\r\n", b"STORED\r\n")
            # Twice as much as the disk may hold: the cleaner evicts
            for start in range(0, len(keys), 100):
                some = keys[start : start + 100]
                client.send(b"".join(b"set %s 0 0 4000\r\n%s\r\n" % (key, value_of(key, 4000))
                                     for key in some))
                client.expect(b"STORED\r\n" * len(some))
        if how == "hang up":
            server.process.send_signal(signal.SIGHUP)
        else:
            server.restart(how)
        forget_page_cache(server)
        with server.connect() as client:
            client.talk(b"set x 0 0 9\r\nuser word\r\n", b"STORED\r\n")
            found = client.gets(*keys)
            assert (len(found) > 100 and
                    all(value == value_of(key, 4000) for key, (value, _, _) in found.items()))
            client.ask(b"lru_crawler metadump all\r\n", b"END\r\n")
            client.talk(b"cache_memlimit 16\r\nflush_all\r\nget key-1999\r\n",
                        b"OK\r\nOK\r\nEND\r\n")
    with server.connect() as client:
        client.talk(b"set x 0 0 9\r\nuser word\r\n", b"STORED\r\n")
        client.send(b"shutdown\r\n")
        client.expect_closed()
    assert server.wait_for_exit()[0] == 0
