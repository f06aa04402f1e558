"""Servers for the scripts that measure: how to start them, load them, ask them, and be rid of them.

Each is started on a free port of the loopback and ended by its process; its data lies in a
directory that goes with the place. As root, servers run as nobody.
"""

import argparse
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BENCH = os.path.join(ROOT, "cachecask-bench")
TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 15
ANSWER_TIMEOUT_S = 10

# What a command line may name besides what the script fills in: {port}, {dir}, {workers}; {user},
# which is "-u nobody" for root; and {as_user}, with which a command begins that has no such option.
MEMCACHED = "memcached -p {port} -l 127.0.0.1 -U 0 -t {workers} -m {memory} -c 1024 {user}"
CACHECASK = (shlex.quote(os.path.join(ROOT, "cachecask")) +
             " -p {port} -l 127.0.0.1 -t {workers} -m {memory} -c 1024 --data-dir={dir} {user}")
REDIS = ("{as_user} redis-server --port {port} --bind 127.0.0.1 --dir {dir} --maxmemory {memory}mb"
         " --save '' --appendonly yes --appendfsync everysec")

# How each protocol asks for the version, and what comes before it in the answer; a cachecask tells
# its own beside memcached's.
VERSION = {"text": (b"stats store\r\nversion\r\n", r"(?:STAT cachecask_version|VERSION) "),
           "redis": (b"info server\r\n", r"redis_version:")}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Failure(Exception):
    """Something that ends the measurement, with a message for the user."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def processor():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def pinned(command, core):
    return command if core is None else ["taskset", "-c", str(core)] + command


class Server:
    """One process and its data; Place makes them."""

    def __init__(self, name, command, port, core, directory):
        self.name = name
        self.port = port
        self.directory = directory
        self.command = pinned(command, core)
        self.log_path = directory + ".log"
        self.start()

    def start(self):
        """Starts the process, for the first time or after its end."""
        # A session of its own: Ctrl-C is ours to handle.
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)

    def last_words(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:].strip()

    def wait_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failure(f"{self.name} does not answer after {START_TIMEOUT_S} s: "
                      f"{shlex.join(self.command)}\n{self.last_words()}")

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} has ended with status {self.process.returncode}: "
                          f"{shlex.join(self.command)}\n{self.last_words()}")

    def cpu_seconds(self):
        """User and system time of all threads and of children, those that have ended too."""
        path = f"/proc/{self.process.pid}/stat"
        with open(path, encoding="ascii", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS

    def version(self, protocol="text"):
        """Its own version; the echo server has none."""
        question, before = VERSION[protocol]
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(question)
                for line in connection.makefile("r", encoding="ascii", errors="replace",
                                                newline=""):
                    found = re.match(before + r"(\S+)", line)
                    if found or question.endswith(line.encode()):
                        return found[1] if found else ""
        except OSError:
            pass
        return ""

    def forget_files(self):
        """Takes its files out of the system's page cache, as far as they are on disk."""
        for folder, _, names in os.walk(self.directory):
            for name in names:
                try:
                    with open(os.path.join(folder, name), "rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                except FileNotFoundError:
                    pass  # it has just removed it

    def stats(self, what=""):
        """The numbers among the statistics of that name."""
        numbers = {}
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_TIMEOUT_S) as connection:
            connection.sendall(f"stats {what}".strip().encode() + b"\r\n")
            for line in connection.makefile("r", encoding="utf-8", errors="replace"):
                words = line.split()
                if words == ["END"]:
                    return numbers
                if len(words) == 3 and words[2].isdigit():
                    numbers[words[1]] = int(words[2])
        raise Failure(f"{self.name}: no end of 'stats {what}'")

    def load(self, bench, options, timeout, core=None):
        """Runs the load generator and returns what it says of its first phase."""
        command = pinned([bench, "--json", "--quiet", f"--port={self.port}"] + options, core)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name}: no end after {timeout:.0f} s: "
                          f"{shlex.join(command)}") from None
        self.check_alive()
        if done.returncode != 0:
            output = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
            raise Failure(f"{self.name}: {shlex.join(command)} failed:\n{output}")
        return json.loads(done.stdout)["phases"][0]

    def end_by(self, signal_number):
        self.process.send_signal(signal_number)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} has not ended after {STOP_TIMEOUT_S} s") from None

    def stop(self):
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def open_to_others(path):
    """True if an unprivileged server can reach files in the directory."""
    path = os.path.realpath(path)
    while True:
        if not os.stat(path).st_mode & 0o001:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


class Place:
    """A directory for the data of servers, and those that run in it."""

    def __init__(self, parent):
        build = os.path.join(ROOT, "build")
        if not parent:
            os.makedirs(build, exist_ok=True)
            parent = build if open_to_others(build) else "/var/tmp"
        self.servers = []
        self.path = tempfile.mkdtemp(prefix="bench-", dir=parent)
        os.chmod(self.path, 0o711)

    def start(self, name, template, core=None, workers=1, **words):
        """Starts a server; the words fill the command's template. It may not be ready yet."""
        directory = os.path.join(self.path, name)
        user = as_user = ""
        os.mkdir(directory, 0o700)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            user = "-u nobody"
            as_user = (f"setpriv --reuid={nobody.pw_uid} --regid={nobody.pw_gid} --clear-groups"
                       " --reset-env")
        port = free_port()
        command = template.format(port=port, dir=shlex.quote(directory), user=user,
                                  as_user=as_user, workers=workers, **words)
        server = Server(name, shlex.split(command), port, core, directory)
        self.servers.append(server)
        return server

    def end(self, server):
        """Stops a server and removes its data."""
        server.stop()
        self.servers.remove(server)
        shutil.rmtree(server.directory, ignore_errors=True)

    def close(self):
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.path, ignore_errors=True)


def make_parser(subcommand, document, **options):
    """What the command lines of all subcommands of script/bench have in common."""
    parser = argparse.ArgumentParser(prog=f"script/bench {subcommand}",
                                     description=document.split("\n", 1)[0], **options)
    parser.set_defaults(program=parser.prog)
    parser.add_argument("--data-dir", help="where the data of the servers goes for the time of "
                        "the run (build/, or /var/tmp if others may not enter that)")
    return parser


def stop_on_signal(_number, _frame):
    raise KeyboardInterrupt


def run(arguments, work):
    """Gives `work` a place, has it cleaned up whatever happens, and returns the exit status."""
    for signal_number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, stop_on_signal)
    place = None
    try:
        place = Place(arguments.data_dir)
        work(arguments, place)
    except (Failure, OSError) as failure:
        say(f"{arguments.program}: {failure}")
        return 1
    except KeyboardInterrupt:
        say(f"{arguments.program}: interrupted")
        return 130
    finally:
        if place:
            place.close()
    return 0
