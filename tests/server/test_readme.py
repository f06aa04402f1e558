"""What README prints, typed."""
import os
import re
import subprocess

import pytest

import support

ROOT = os.path.join(os.path.dirname(__file__), "../..")

pytestmark = pytest.mark.skipif(support.IS_MEMCACHED, reason="about our README")


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def session():
    """The lines of the first session in README: (shell's line, what comes after it up to the next one)."""
    text = read("README.md").split("## A first session")[1].split("\n## ")[0]
    lines = [line[4:] for line in text.split("\n") if line.startswith("    ")]
    steps = []
    for line in lines:
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def packages():
    """What script/server installs."""
    return re.search(r"^build_packages=\((.*?)\)", read("script/bootstrap"), re.M | re.S).group(1).split()


def talk(command, lines):
    """Types what is a command, and the data of a set; the rest are answers. As a terminal does, with bare newlines."""
    with subprocess.Popen(["timeout", str(support.TIMEOUT), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        in_set = False
        for line in lines:
            if in_set or line.startswith(("set ", "get ")):
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
                in_set = line.startswith("set ")
            else:
                assert process.stdout.readline() == line.encode() + b"\r\n"
        process.terminate()


def test_the_first_session():
    assert {"netcat-openbsd", "procps"} <= set(packages())
    server = support.Server()
    said = []
    for command, lines in session():
        if command.startswith("nc "):
            talk(command.replace("11211", str(server.port)).split(), lines)
        elif command.startswith("kill -9 $("):
            pids = subprocess.run(command[len("kill -9 $(") : -1].split(), stdout=subprocess.PIPE, check=True).stdout.split()
            assert b"%d" % server.process.pid in pids, "others may run beside it, and are left alone"
            server.kill9()
        else:
            assert command == "script/server"
            server.start()
            pattern = re.escape(lines[0]).replace("11211", str(server.port)).replace("…/data", r"\S+")
            assert re.fullmatch(re.sub(r"0\\\.00\d", r"\\d+\\.\\d+", pattern), server.log().strip()), server.log()
        said.append(command)
    assert [command.split()[0] for command in said] == ["nc", "kill", "script/server", "nc"]
