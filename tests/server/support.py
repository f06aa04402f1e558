"""Shared by the server tests: a server under test, a raw client, keys and values that can be
recognized."""
import itertools
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

CACHECASK = os.environ.get("CACHECASK", os.path.join(os.path.dirname(__file__), "../../cachecask"))
LONG = bool(os.environ.get("CACHECASK_LONG"))
COVERAGE = bool(os.environ.get("CACHECASK_COVERAGE"))  # script/coverage
# Added to those of each server, like "-o drop_privileges"
OPTIONS = os.environ.get("CACHECASK_OPTIONS", "").split()
TIMEOUT = 20  # seconds until a test gives up waiting for anything

# The transcripts can also be run against memcached itself, to see what it says:
# CACHECASK=/usr/bin/memcached.
IS_MEMCACHED = os.path.basename(CACHECASK) == "memcached"


def is_sanitized():
    if "CACHECASK_SANITIZED" in os.environ:
        return os.environ["CACHECASK_SANITIZED"] not in ("", "0")
    with open(CACHECASK, "rb") as binary:
        content = binary.read()
    return b"__asan_init" in content or b"__tsan_init" in content


SANITIZED = is_sanitized()


def is_built_in(word):
    said = subprocess.run([CACHECASK, "-h"], stdout=subprocess.PIPE, check=True).stdout
    return word.encode() in said.split(b"Built in:")[-1]


# Serving without privileges, where this build can.
DROPPED = ["-o", "drop_privileges"] if is_built_in("seccomp") else []
SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: ")


class Guardian:
    """A child process that outlives a pytest that is killed, and then kills the servers which that
    has left."""

    def __init__(self):
        read_end, self.pipe = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.dup2(read_end, 0)
            os.closerange(1, 256)
            self.watch()
            os._exit(0)
        os.close(read_end)

    def watch(self):
        alive = set()
        for line in open(0, encoding="ascii"):
            (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def tell(self, sign, pid):
        os.write(self.pipe, b"%s%d\n" % (sign, pid))


class Place:
    """The session's directory on disk: every server gets a folder below it."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="cachecask-test-",
                                     dir=os.environ.get("CACHECASK_TEST_DIR", "/var/tmp"))
        os.chmod(self.path, 0o755)
        self.count = 0

    def new(self, name):
        """A new directory that belongs to the user who serves."""
        self.count += 1
        path = os.path.join(self.path, "%d-%s" % (self.count, name))
        os.mkdir(path, 0o700)
        give_away(path)
        return path

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


def is_root():
    return os.geteuid() == 0


def give_away(path):
    if is_root():
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


guardian = None
place = None
servers = []  # those of the running test
shared_servers = []


def begin_session():
    global guardian, place
    guardian = Guardian()
    place = Place()


def end_session():
    for server in shared_servers:
        server.give_up()
    place.remove()


def end_test():
    """Ends all servers of the test; what they wrote goes, for all tests together need tens of GiB.
    Returns what was wrong."""
    complaints = [server.give_up() for server in servers]
    for server in servers:
        shutil.rmtree(server.data_dir, ignore_errors=True)
    servers.clear()
    return [complaint for complaint in complaints if complaint]


# For each of the processes that test side by side, below the ports that the kernel gives to clients
PORTS = 1500
ports = itertools.cycle(random.SystemRandom().sample(range(PORTS), PORTS))


def free_port():
    """For TCP and for UDP. A port that the kernel picks may be taken by another client before the
    server has started."""
    first = 12000 + PORTS * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 13)
    for port in ports:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", first + port))
                udp.bind(("127.0.0.1", first + port))
                return first + port
            except OSError:
                continue


def sleep_until(moment):
    time.sleep(max(0, moment - time.monotonic()))


def touch_in_time(store, touch):
    """Stores what expires soon, and touches it before it has: again, if the machine lets that time
    pass."""
    store()
    while not touch():
        store()


def wait_until(condition, what, timeout=TIMEOUT):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited %d s in vain: %s" % (timeout, what)
        time.sleep(0.01)


def program_for_all():
    """A copy of the server that any user may start; this checkout may be for nobody else to look
    into."""
    folder = place.new("program")
    os.chmod(folder, 0o755)
    return shutil.copy(CACHECASK, folder)


class Server:
    """One server process and its data directory. Options are those of the command line."""

    def __init__(self, *options, data_dir=None, unix=False, listen=True, start=True, env=None,
                 shared=False):
        """shared: it outlives the test, and who makes it ends it with give_up()."""
        self.folder = place.new("server")
        self.data_dir = data_dir or place.new("data")
        self.log_path = os.path.join(self.folder, "log")
        self.options = list(options)
        self.port = None if unix else free_port()
        self.unix_path = os.path.join(self.folder, "socket") if unix else None
        self.listen = listen
        self.env = env
        self.process = None
        self.clients = []
        self.log_start = 0
        (shared_servers if shared else servers).append(self)
        if start:
            self.start()

    # How it is called

    def command(self):
        command = [CACHECASK]
        if is_root():
            command += ["-u", "nobody"]
        if self.unix_path:
            command += ["-s", self.unix_path]
        elif self.listen:
            command += ["-p", str(self.port), "-l", "127.0.0.1"]
        if not IS_MEMCACHED:
            command += ["--data-dir=" + self.data_dir] + OPTIONS
        return command + self.options

    def environment(self):
        env = dict(os.environ, **(self.env or {}))
        if SANITIZED and "drop_privileges" in " ".join(self.command()):
            # The look for leaks at the end is a debugger's, and such a server may not be one.
            env["ASAN_OPTIONS"] = (env.get("ASAN_OPTIONS", "") + ":detect_leaks=0").lstrip(":")
        return env

    def launch(self):
        """Starts the process and does not wait for it."""
        assert self.process is None
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environment())
        guardian.tell(b"+", self.process.pid)
        return self

    def start(self):
        self.launch()
        self.wait_until_ready()
        return self

    def wait_until_ready(self, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            assert self.process.poll() is None, "the server has not started:\n" + self.log()
            assert time.monotonic() < deadline, (
                "the server is not ready after %d s:\n%s" % (timeout, self.log()))
            try:
                with self.connect(timeout) as client:  # it listens before it has read its log
                    client.send(self.hello())
                    if not client.fill():
                        raise EOFError  # it has listened, and now it gives up
                    return
            except (OSError, EOFError):
                time.sleep(0.005)

    def hello(self):
        """Asks for the version, in a protocol that it speaks."""
        binary = "-S" in self.options or "binary" in self.options
        return b"\x80\x0b" + bytes(22) if binary else b"version\r\n"

    def connect(self, timeout=TIMEOUT):
        client = Client(self.unix_path or ("127.0.0.1", self.port), timeout)
        self.clients.append(client)
        return client

    # How it ends

    def reap(self, timeout=TIMEOUT):
        status = self.process.wait(timeout)
        guardian.tell(b"-", self.process.pid)
        self.process = None
        for client in self.clients:
            client.close()
        self.clients.clear()
        self.check_log()
        return status

    def stop(self):
        """SIGTERM: it must end by itself, well, and soon."""
        self.process.terminate()
        status = self.reap(timeout=60 if SANITIZED else 10)
        assert status == 0, "SIGTERM: exit status %d\n%s" % (status, self.log())

    def kill9(self):
        assert self.process.poll() is None, "the server has died by itself:\n" + self.log()
        self.process.kill()
        self.reap()

    def restart(self, how="stop"):
        getattr(self, how)()
        return self.start()

    def wait_for_exit(self, timeout=TIMEOUT):
        """For servers that refuse to start: returns exit status and what was said."""
        return self.reap(timeout), self.log()

    def end_by_itself(self):
        """A process that is killed has counted nothing."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass

    def give_up(self):
        """Kills what still runs. Returns what was wrong, or None."""
        if self.process is None:
            return None
        status = self.process.poll()
        if COVERAGE and status is None:
            self.end_by_itself()
        self.process.kill()
        try:
            self.reap()
        except AssertionError as error:
            return str(error)
        if status is not None:
            return "the server has died by itself, status %d:\n%s" % (status, self.log())
        return None

    # What can be seen of it

    def log(self):
        """The log of this start so far."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode("utf-8", "replace")

    def check_log(self):
        assert not SANITIZER_REPORT.search(self.log()), self.log()

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def resident_mib(self, field="VmRSS"):
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as status:
            return int(re.search(r"^%s:\s+(\d+) kB" % field, status.read(), re.M).group(1)) / 1024

    def peak_mib(self):
        return self.resident_mib("VmHWM")

    def cpu_s(self):
        """The processor time that it has taken."""
        with open("/proc/%d/stat" % self.process.pid, encoding="ascii") as stat:
            words = stat.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def disk_bytes(self):
        """Bytes its files take, as du counts; counted twice, because a file may be there beside its
        replacement."""
        return min(self.count_disk_bytes(), self.count_disk_bytes())

    def count_disk_bytes(self):
        total = 0
        for name in os.listdir(self.data_dir):
            try:
                total += os.stat(os.path.join(self.data_dir, name)).st_blocks * 512
            except FileNotFoundError:
                pass  # removed meanwhile
        return total

    def stats(self, which=""):
        with self.connect() as client:
            return client.stats(which)


class Client:
    """A raw connection: bytes out, bytes in."""

    def __init__(self, address, timeout=TIMEOUT):
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def fill(self):
        """Receives more; false at the end of the stream."""
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        except socket.timeout:
            raise AssertionError("no answer; so far: %r" % bytes(self.buffer[-2000:])) from None
        self.buffer += data
        return bool(data)

    def take(self, count):
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read(self, count):
        while len(self.buffer) < count:
            assert self.fill(), "closed; before that: %r" % bytes(self.buffer[-2000:])
        return self.take(count)

    def read_until(self, end):
        while end not in self.buffer:
            searched = max(0, len(self.buffer) - len(end))
            while self.buffer.find(end, searched) < 0:
                assert self.fill(), "closed; before that: %r" % bytes(self.buffer[-2000:])
        return self.take(self.buffer.index(end) + len(end))

    def line(self):
        return self.read_until(b"\r\n")

    def rest(self, timeout=0.2):
        """Bytes that still arrive within that time."""
        before = self.socket.gettimeout()
        self.socket.settimeout(timeout)
        try:
            while self.fill():
                pass
        except AssertionError:
            pass
        self.socket.settimeout(before)
        return self.take(len(self.buffer))

    def expect(self, wanted):
        """The next bytes must be these."""
        while len(self.buffer) < len(wanted) and wanted.startswith(self.buffer):
            if not self.fill():
                break
        if self.buffer[: len(wanted)] != wanted:
            got = self.rest()
            raise AssertionError("expected %r\n     got %r" % (wanted[:2000], got[:2000]))
        self.take(len(wanted))

    def expect_closed(self):
        while self.fill():
            pass
        assert not self.buffer, (
            "expected the end of the connection, got %r" % bytes(self.buffer[:2000]))

    def expect_nothing(self):
        """No answer is on its way: the next one is that to a command sent now."""
        self.send(b"get no:such:key\r\n")
        self.expect(b"END\r\n")

    def ask(self, data, end):
        """Sends, and returns the answer up to its `end`."""
        self.send(data)
        return self.read_until(end)

    def talk(self, data, wanted):
        """Sends, and expects exactly this answer."""
        self.send(data)
        self.expect(wanted)

    # Short forms of what most tests need

    def set(self, key, value, flags=0, exptime=0):
        self.talk(b"set %s %d %d %d\r\n%s\r\n" % (key, flags, exptime, len(value), value),
                  b"STORED\r\n")

    def gets(self, *keys):
        """{key: (value, flags, cas)} of those that are there."""
        self.send(b"gets " + b" ".join(keys) + b"\r\n")
        return self.read_values()

    def read_values(self):
        found = {}
        while True:
            words = self.line().split()
            if words == [b"END"]:
                return found
            assert words[0] == b"VALUE", words
            value = self.read(int(words[3]))
            assert self.read(2) == b"\r\n"
            found[words[1]] = (value, int(words[2]), int(words[4]) if len(words) > 4 else None)

    def get(self, key):
        return self.gets(key).get(key, (None,))[0]

    def cas_of(self, key):
        return self.gets(key)[key][2]

    def stats(self, which=""):
        answer = self.ask(("stats %s" % which).strip().encode() + b"\r\n", b"END\r\n")
        lines = answer.decode().split("\r\n")[:-2]
        assert all(line.startswith("STAT ") for line in lines), answer
        return dict(line.split(" ", 2)[1:] for line in lines)


def value_of(key, length):
    """A value that can be told from its key; no two keys share a long part of it."""
    unit = b"<%s>" % key
    return (unit * (length // len(unit) + 1))[:length]


def contents(directory):
    """All that is in a directory: names, bytes, modes and times."""
    found = {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        status = os.stat(path)
        with open(path, "rb") as file:
            found[name] = (file.read(), status.st_mode, status.st_uid, status.st_mtime_ns)
    return found


def forget_page_cache(server):
    """Makes the system forget what it has read of the log, so that cold values come from the disk.
    Best effort."""
    for name in os.listdir(server.data_dir):
        if name.endswith(".seg"):
            try:
                file = os.open(os.path.join(server.data_dir, name), os.O_RDONLY)
            except FileNotFoundError:
                continue  # the cleaner has removed it meanwhile
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
