"""The process itself: its descriptors, and signals at any moment of its life."""
import os
import signal
import subprocess

import pytest

import support
from support import CACHECASK, Client, Server, free_port, value_of, wait_until
from test_recovery_progress import SlowDisk, remove_hints


# Descriptors 0 to 2

def closing(*descriptors):
    def close():
        for descriptor in descriptors:
            os.close(descriptor)
    return close


def answers(port):
    try:
        with Client(("127.0.0.1", port)) as client:
            client.set(b"k", b"x")
            return client.get(b"k") == b"x"
    except OSError:
        return False


def files_of(directory):
    found = {}
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = file.read()
    return found


def command_of_its_own(port, data, *options):
    user = ["-u", "nobody"] if support.is_root() else []
    return [CACHECASK, *user, "-p", str(port), "-l", "127.0.0.1", "--data-dir=" + data, *options]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_daemon_whose_starter_has_closed_descriptors(closed):
    port, data = free_port(), support.place.new("data")
    pid_file = os.path.join(support.place.new("run"), "pid")
    command = command_of_its_own(port, data, "-d", "-P", pid_file)
    done = subprocess.run(command, preexec_fn=closing(*closed), timeout=support.TIMEOUT,
                          check=False)
    assert done.returncode == 0
    with open(pid_file, encoding="ascii") as file:
        pid = int(file.read())
    support.guardian.tell(b"+", pid)
    try:
        assert answers(port)
        assert files_of(data)["lock"] == b"%d\n" % pid
    finally:
        os.kill(pid, signal.SIGKILL)
        support.guardian.tell(b"-", pid)


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 1, 2)], ids=str)
def test_in_the_foreground_with_closed_descriptors(closed):
    """Its log goes nowhere, and above all not into its files."""
    port, data = free_port(), support.place.new("data")
    process = subprocess.Popen(command_of_its_own(port, data, "-vv"),
                               stderr=None if 2 in closed else subprocess.DEVNULL,
                               preexec_fn=closing(*closed))
    support.guardian.tell(b"+", process.pid)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "it answers")
        assert process.poll() is None
        process.terminate()
        assert process.wait(support.TIMEOUT) == 0
        assert files_of(data)["lock"] == b"%d\n" % process.pid
        assert not [name for name, content in files_of(data).items() if b"cachecask" in content]
    finally:
        process.kill()
        process.wait()
        support.guardian.tell(b"-", process.pid)


# Signals during the start

class SlowStart:
    """A server that listens, and reads its data so slowly that it is not ready before quick() is
    called."""

    def __init__(self, *options, command=None):
        self.disk = SlowDisk()
        self.server = Server("--segment-size=64k", env=self.disk.env)
        with self.server.connect() as client:
            for i in range(20):
                client.set(b"key-%d" % i, value_of(b"key-%d" % i, 20000))
        self.server.stop()
        remove_hints(self.server)
        self.disk.set(60000)
        self.server.options += options
        if command:
            self.server.command = lambda: command(Server.command(self.server))
        self.server.launch()
        wait_until(self.listens, "it listens")

    def listens(self):
        try:
            self.server.connect().close()
            return True
        except OSError:
            return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_stop_during_the_start(how):
    server = SlowStart().server
    server.process.send_signal(how)
    status, said = server.wait_for_exit()
    assert (status, said) == (-how, "stopped during the start: nothing had been answered yet\n")


def in_a_container(command):
    return ["unshare", "--pid", "--fork", *command]


def can_make_containers():
    return subprocess.run(in_a_container(["true"]), stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def child_of(process):
    with open("/proc/%d/task/%d/children" % (process.pid, process.pid),
              encoding="ascii") as children:
        return int(children.read())


@pytest.mark.skipif(not can_make_containers(), reason="no PID namespaces here")
def test_a_stop_during_the_start_of_process_1():
    server = SlowStart(command=in_a_container).server
    pid = child_of(server.process)
    support.guardian.tell(b"+", pid)
    try:
        os.kill(pid, signal.SIGTERM)
        status, said = server.wait_for_exit()
    finally:
        support.guardian.tell(b"-", pid)
    assert (status, said) == (128 + signal.SIGTERM,
                              "stopped during the start: nothing had been answered yet\n")


def test_a_hangup_during_the_start_is_obeyed_after_it():
    passwords = os.path.join(support.place.new("passwords"), "passwords")

    def write(word):
        with open(passwords, "w", encoding="ascii") as file:
            file.write("user:%s\n" % word)

    write("old")
    slow = SlowStart("-Y", passwords)
    write("new")
    slow.server.process.send_signal(signal.SIGHUP)
    slow.disk.set(0)
    slow.server.wait_until_ready()
    with slow.server.connect() as client:
        client.talk(b"set x 0 0 8\r\nuser new\r\n", b"STORED\r\n")


def test_a_stop_is_heard_though_the_starter_had_blocked_it():
    server = Server(start=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        server.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    server.stop()


def test_files_that_may_not_grow_end_the_start_with_a_message():
    """`cat` writes the log, for that is a file too."""
    server = Server(start=False)
    server.command = lambda: ["bash", "-c",
                              "set -o pipefail; (ulimit -f 0; exec \"$@\" 2>&1) | cat", "bash",
                              *Server.command(server)]
    status, said = server.launch().wait_for_exit()
    assert status == 1 and "data directory " + server.data_dir in said and "File too large" in said
