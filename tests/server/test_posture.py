"""What an intruder would find: how the program is built, and what the service may do."""
import os
import re
import shutil
import subprocess

import pytest

import support
from support import Server

SERVICE = os.path.join(os.path.dirname(__file__), "../../conf/cachecask.service")
EXPOSURE_MAX = 2.0


def readelf(what):
    return subprocess.run(["readelf", what, "--wide", support.CACHECASK], check=True, capture_output=True, text=True).stdout


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
    said = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", SERVICE], capture_output=True,
                          text=True, check=False).stdout
    level = re.search(r"Overall exposure level .*: ([0-9.]+)", said)
    assert level, said
    print("exposure", level.group(1))
    assert float(level.group(1)) <= EXPOSURE_MAX


# What a server that has been taken over could still do

def library():
    """The compiled forbidden_calls.c, where the user who serves can read it."""
    path = os.path.join(support.place.path, "forbidden_calls.so")
    if not os.path.exists(path):
        source = os.path.join(os.path.dirname(__file__), "forbidden_calls.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", path, source, "-ldl"], check=True)
        os.chmod(path, 0o755)
    return path


def intruder(call):
    env = {"LD_PRELOAD": library(), "FORBIDDEN_CALL": call}
    if support.SANITIZED:
        env["ASAN_OPTIONS"] = (os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0:detect_leaks=0").lstrip(":")
    return env


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
