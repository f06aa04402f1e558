"""A disk that refuses writes: nobody is told STORED, others go on reading, and writing works again
when the disk does.

The limit of a process on the size of files makes its writes fail from one moment to the next, and
lets them pass again."""
import os
import pwd
import signal
import subprocess
import time

import pytest

from support import Server, is_root, wait_until

REFUSED = b"SERVER_ERROR the disk refuses writes\r\n"


def refuse_writes(server, refuse):
    """As the user who serves, for root need not have the right to it."""
    user = ({"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
            if is_root() else {})
    subprocess.run(["prlimit", "--pid", str(server.process.pid),
                    "--fsize=%s:" % ("0" if refuse else "unlimited")],
                   check=True, **user)


def can_write(server):
    with server.connect() as client:
        client.send(b"set again 0 0 1\r\nx\r\n")
        return client.line() == b"STORED\r\n"


def stands_still(server):
    states = []
    for task in os.listdir("/proc/%d/task" % server.process.pid):
        with open("/proc/%d/task/%s/stat" % (server.process.pid, task), encoding="ascii") as stat:
            states.append(stat.read().rsplit(")", 1)[1].split()[0])
    return set(states) == {"T"}


@pytest.fixture(name="server")
def make_server():
    server = Server("-t", "1")
    with server.connect() as client:
        client.set(b"old", b"value")
    return server


def test_a_refused_write_is_not_acknowledged_and_reads_go_on(server):
    refuse_writes(server, True)
    with server.connect() as writer, server.connect() as reader:
        writer.send(b"set k 0 0 1\r\nx\r\n")
        assert writer.line() == REFUSED
        writer.expect_closed()
        assert reader.get(b"old") == b"value"
        reader.talk(b"set k 0 0 1\r\nx\r\n", REFUSED)
    assert server.stats("store")["read_only"] == "1"
    refuse_writes(server, False)
    wait_until(lambda: can_write(server), "writing again")
    server.restart("kill9")
    with server.connect() as client:
        assert client.get(b"old") == b"value" and client.get(b"again") == b"x"


def test_a_silent_write_that_is_refused_takes_no_answer_from_others(server):
    """Both are served in one round: while the server stands still, both have come."""
    with server.connect() as writer, server.connect() as reader:
        writer.talk(b"version\r\n", b"VERSION 1.6.")
        writer.line()
        reader.talk(b"version\r\n", b"VERSION 1.6.")
        reader.line()
        refuse_writes(server, True)
        os.kill(server.process.pid, signal.SIGSTOP)
        wait_until(lambda: stands_still(server), "standing still")
        writer.send(b"set k 0 0 1 noreply\r\nx\r\n")
        time.sleep(0.05)
        reader.send(b"get old\r\n")
        time.sleep(0.05)
        os.kill(server.process.pid, signal.SIGCONT)
        reader.talk(b"", b"VALUE old 0 5\r\nvalue\r\nEND\r\n")
        writer.expect_closed()
    refuse_writes(server, False)
    wait_until(lambda: can_write(server), "writing again")


def test_of_many_who_write_at_once_none_is_told_stored(server):
    """And those who read in the same round get their answers."""
    writers, readers = [[server.connect() for _ in range(10)] for _ in range(2)]
    refuse_writes(server, True)
    os.kill(server.process.pid, signal.SIGSTOP)
    wait_until(lambda: stands_still(server), "standing still")
    for writer, reader in zip(writers, readers):
        writer.send(b"set k 0 0 1\r\nx\r\n")
        reader.send(b"get old\r\n")
    time.sleep(0.05)
    os.kill(server.process.pid, signal.SIGCONT)
    for writer, reader in zip(writers, readers):
        reader.talk(b"", b"VALUE old 0 5\r\nvalue\r\nEND\r\n")
        assert writer.line() == REFUSED
        writer.expect_closed()
    refuse_writes(server, False)
    wait_until(lambda: can_write(server), "writing again")
