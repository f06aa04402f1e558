"""A server of 100 million keys: what a dump, a flush, a full cache, idleness and restarts cost.

  e1  lru_crawler metadump of all: lines a second, how often it reads the log, and p99 of a light
      client before and meanwhile
  e2  flush_all beside 1,000 sets a second: the longest set, before and meanwhile
  e3  a full cache takes new keys of 1 to 4 KB: p99.9 beside that of a cache that is not full, and
      the longest wait
  e4  nobody asks and nothing expires: processor time
  e5  restart after kill -9: seconds, a million keys, and what is said meanwhile
  e6  restart with keys that have all expired

e3 and e6 make servers of their own, the others share one, and e2 empties it. Times are compared
with how late the machine itself wakes a sleeper. A quick look:
--keys 1m --new-keys 50k --idle 5 --client 5
"""
import os
import re
import socket
import subprocess
import sys
import time

import common
from common import MIB, say, support
import host
import loads
import progress
from support import Server, wait_until

READY_S = 1800
LINES_A_SECOND = 500_000
LONGEST_SET_MS = 20
FULL_RATIO = 2  # of p99.9 of a full cache and of one that is not
IDLE_PERCENT = 0.5  # of a core
S_A_MILLION = 0.1  # of a restart
QUIET_S = 5  # that a start may say nothing
PARTS = ("e1", "e2", "e3", "e4", "e5", "e6")
LIGHT = "-R 1000 -c 4"  # a light client: 1,000 requests a second


def start(server):
    """Answers the seconds until it serves."""
    began = time.monotonic()
    server.launch()
    server.wait_until_ready(READY_S)
    return time.monotonic() - began


def make_server(options):
    limit_mib = max(1024, options.keys * (options.value_size + 100) * 2 // MIB)
    memory, threads = str(options.memory), str(options.threads)
    return Server("-m", memory, "-t", threads, "--disk-limit=%dm" % limit_mib)


def milliseconds(phase, percentile):
    return phase["latency_us"]["all"][percentile] / 1000


class Machine:
    """How late the machine wakes a sleeper on any of its cores meanwhile, in ms: p99.9 and the
    longest."""

    def __init__(self, seconds):
        self.hosts = [host.Host(core, seconds) for core in sorted(os.sched_getaffinity(0))]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for one in self.hosts:
            one.__exit__(*exception)

    def late_ms(self):
        found = [one.result() for one in self.hosts]
        keys = "late_p99_9_us", "late_max_us"
        return tuple(max(one[key] for one in found) / 1000 for key in keys)


def client(server, options, operation, seconds):
    return loads.Load(
        server, f"-o {operation} -k {options.keys} -S {options.value_size} -d {seconds} {LIGHT}"
    )


# E1


def bytes_read(server):
    """By system calls, from the page cache too. None where we may not look."""
    try:
        with open("/proc/%d/io" % server.process.pid, encoding="ascii") as io:
            return int(re.search(r"^rchar: (\d+)", io.read(), re.M)[1])
    except OSError:
        return None


def dump(server, seconds):
    """Lists all keys, or those that come in time. Answers lines, seconds, and whether all came."""
    buffer = bytearray(4 * MIB)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        lines, end, began = 0, b"", time.monotonic()
        connection.sendall(b"lru_crawler metadump all\r\n")
        while not end.endswith(b"END\r\n") and time.monotonic() - began < seconds:
            count = connection.recv_into(buffer)
            assert count and not buffer.startswith(b"BUSY"), "ended after %d lines" % lines
            lines += buffer.count(b"\n", 0, count)
            end = (end + bytes(buffer[max(0, count - 5) : count]))[-5:]
    return lines, time.monotonic() - began, end.endswith(b"END\r\n")


def say_dump(report, server, options):
    before = bytes_read(server)
    size = server.disk_bytes()
    lines, seconds, whole = dump(server, options.dump)
    reads = "" if before is None else ", read %.1f times" % ((bytes_read(server) - before) / size)
    report.check(
        lines / seconds >= LINES_A_SECOND,
        "E1 alone: %d lines in %.1f s%s: %.0f lines a second%s"
        % (lines, seconds, "" if whole else " (not all)", lines / seconds, reads),
    )
    if whole:
        report.check(
            options.keys <= lines <= options.keys + 2,
            "E1: all of %d keys are listed once" % options.keys,
        )


def light_client(server, options, meanwhile):
    """Answers its p99, how late the machine was, both in ms, and what was done meanwhile."""
    seconds = options.client
    with Machine(seconds) as machine, client(server, options, "get", seconds) as light:
        done = meanwhile()
        return milliseconds(light.result(), "p99"), machine.late_ms()[0], done


def e1(report, server, options):
    say_dump(report, server, options)
    time.sleep(1)  # a dump whose client has gone ends
    quiet, quiet_late, _ = light_client(server, options, lambda: None)
    busy, late, (lines, seconds, _) = light_client(
        server, options, lambda: dump(server, options.client)
    )
    report.check(
        busy <= max(2 * quiet, 5) + late,
        "E1: p99 of a light client %.2f ms before, %.2f ms during a dump of %.0f lines a "
        "second; the machine was late by %.1f and %.1f ms (p99.9)"
        % (quiet, busy, lines / seconds, quiet_late, late),
    )


def ask(server, command):
    with server.connect(60) as connection:
        return connection.ask(command, b"\r\n")


# E2


def longest_set(server, options, meanwhile):
    """Answers the longest set, how late the machine was, both in ms, and how many sets there
    were."""
    seconds = max(4, options.client)
    with Machine(seconds) as machine, client(server, options, "set", seconds) as light:
        time.sleep(seconds / 3)
        meanwhile()
        phase = light.result()
        return milliseconds(phase, "max"), machine.late_ms()[1], phase["operations"]


def e2(report, server, options):
    before, before_late, _ = longest_set(server, options, lambda: None)
    longest, late, count = longest_set(server, options, lambda: ask(server, b"flush_all\r\n"))
    report.check(
        longest <= LONGEST_SET_MS + late,
        "E2: the longest of %d sets took %.1f ms before and %.1f ms beside a flush_all of %d keys; "
        "the machine was late by up to %.1f and %.1f"
        % (count, before, longest, options.keys, before_late, late),
    )


# E3


def new_keys(server, options, prefix):
    """At a steady rate, so that who waits shows."""
    with Machine(options.new_keys / options.rate) as machine:
        phase = loads.load(
            server,
            f"-o set -D sequential --prefix {prefix}: -k {options.new_keys} -n {options.new_keys}"
            f" -S 1024-4096 -c 8 -R {options.rate}",
        )
        return phase, machine.late_ms()


def fill(server, options):
    """Until keys are evicted."""
    turn = 0
    while server.stats("store")["evicted_items"] == "0":
        turn += 1
        count = options.full_limit * MIB // 2560 // 4
        loads.load_keys(server, count, "1024-4096", f"--prefix fill{turn}:")


def say_new_keys(options, name, limit_mib):
    server = Server("-m", "256", "-t", str(options.threads), "--disk-limit=%dm" % limit_mib)
    if name == "full":
        fill(server, options)
    phase, late = new_keys(server, options, name.replace(" ", "-"))
    times = [milliseconds(phase, percentile) for percentile in ("p50", "p99", "p99.9", "max")]
    evicted = server.stats("store")["evicted_items"]
    say(
        "  E3 %s: %d keys at %.0f a second: p50 %.2f, p99 %.2f, p99.9 %.2f, longest %.1f ms; "
        "the machine was late by %.1f ms (p99.9), at most %.1f; %s evicted"
        % (name, phase["operations"], phase["operations_per_second"], *times, *late, evicted)
    )
    server.kill9()
    return milliseconds(phase, "p99.9"), late[0]


def e3(report, options):
    room = max(1024, options.new_keys * 2 * 2700 // MIB)
    plenty, _ = say_new_keys(options, "not full", room)
    full, late = say_new_keys(options, "full", options.full_limit)
    report.check(
        full <= FULL_RATIO * plenty + late,
        "E3: p99.9 of a full cache %.2f ms, of one that is not %.2f" % (full, plenty),
    )


# E4


def e4(report, server, options):
    wait_until(lambda: progress.idle_share(server) < 0.05, "it has done what was left to do", 120)
    percent = 100 * progress.idle_share(server, options.idle)
    report.check(
        percent <= IDLE_PERCENT,
        "E4: idle with %d keys: %.2f %% of a core in %.0f s"
        % (options.keys, percent, options.idle),
    )


# E5 and E6


def say_start(report, name, server, keys, found):
    seconds = start(server)
    told = re.search(r"(\d+) keys recovered in ([0-9.]+) s", server.log())
    assert told and int(told[1]) == found, "%d keys were there: %s" % (found, server.log()[-1000:])
    report.check(
        float(told[2]) <= S_A_MILLION * max(keys, 1_000_000) / 1e6,
        "%s: %d keys: %s s for the data, %.3f s a million; the first answer after %.2f s"
        % (name, keys, told[2], float(told[2]) / keys * 1e6, seconds),
    )
    lines = [line for line in server.log().splitlines() if " ready on " not in line]
    for line in lines:
        say("    %s" % line)
    report.check(
        seconds < 2 * QUIET_S or len(lines) >= seconds // QUIET_S - 1,
        "%s: %d lines said in %.1f s" % (name, len(lines), seconds),
    )


def e5(report, server, options):
    server.kill9()
    say_start(report, "E5", server, options.keys, options.keys)


def e6(report, options):
    """They must not expire before the server is killed: the load has three times what it needs."""
    count = options.expired_keys
    server = make_server(options)
    sample = max(10_000, count // 100)
    rate = loads.load_keys(server, sample, options.value_size, "--prefix sample:")
    expiry = int(time.time() + 3 * count / rate) + 10
    loads.load_keys(server, count, options.value_size, f"-e {expiry}")
    assert time.time() < expiry - 1, "the load took longer than was foreseen"
    server.kill9()
    time.sleep(max(0, expiry + 2 - time.time()))
    say_start(report, "E6 all expired", server, count, sample)
    assert int(server.stats()["curr_items"]) == sample
    server.kill9()


# All of it


def with_all_keys(report, options):
    chosen = [part for part in (e4, e1, e5, e2) if part.__name__ in options.parts]
    if not chosen:
        return
    server = make_server(options)
    rate = loads.load_keys(server, options.keys, options.value_size)
    stats = server.stats("store")
    log_mib, keydir_bytes = int(stats["lsn"]) // MIB, int(stats["keydir_bytes"])
    say(
        "  %d keys of 16 bytes with values of %d: %.0f sets a second, %d MiB of log, keydir %.1f "
        "bytes a key"
        % (options.keys, options.value_size, rate, log_mib, keydir_bytes / options.keys)
    )
    assert int(server.stats()["curr_items"]) == options.keys
    for part in chosen:
        part(report, server, options)
    server.kill9()


def attempt(report, title, action):
    try:
        action()
    except (AssertionError, OSError, EOFError, subprocess.SubprocessError) as error:
        report.check(False, "%s: %s" % (title, common.shorten(error)))
    for complaint in support.end_test():
        report.check(False, "%s: %s" % (title, common.shorten(complaint)))


def run_all(report, options):
    attempt(report, "all keys", lambda: with_all_keys(report, options))
    for part in (e3, e6):
        if part.__name__ in options.parts:
            attempt(report, part.__name__, lambda part=part: part(report, options))


def set_defaults(options):
    options.memory = options.memory or max(64, options.keys * 40 // MIB + 64)
    options.new_keys = options.new_keys or min(1_200_000, max(200_000, options.keys // 80))
    options.full_limit = options.full_limit or min(4096, max(256, options.new_keys * 2560 // MIB))
    options.expired_keys = options.expired_keys or max(100_000, options.keys // 8)


def main():
    parser = common.options("scale", __doc__)
    parser.add_argument("--keys", type=common.number, default="100m", help="of the large server")
    parser.add_argument(
        "--value-size",
        type=int,
        default=100,
        help="bytes; at 200 and more, 100m keys are tens of GB",
    )
    parser.add_argument("--memory", type=int, help="-m of it (40 bytes a key)")
    parser.add_argument("--threads", type=int, default=2, help="-t")
    parser.add_argument(
        "--parts", type=common.words(*PARTS), default=",".join(PARTS), help="what to measure"
    )
    parser.add_argument(
        "--dump", type=float, default=600, help="e1: seconds of the dump alone, at most"
    )
    parser.add_argument(
        "--client", type=float, default=30, help="e1, e2: seconds of the light client"
    )
    parser.add_argument(
        "--new-keys", type=common.number, help="e3 (an 80th of --keys, 200k to 1.2m)"
    )
    parser.add_argument("--rate", type=common.number, default="10k", help="e3: new keys a second")
    parser.add_argument(
        "--full-limit",
        type=int,
        help="e3: disk limit of the full cache, MiB (what the new keys take)",
    )
    parser.add_argument("--idle", type=float, default=30, help="e4: seconds")
    parser.add_argument("--expired-keys", type=common.number, help="e6 (an 8th of --keys)")
    options = parser.parse_args()
    set_defaults(options)
    return common.run("scale", lambda report: run_all(report, options))


if __name__ == "__main__":
    sys.exit(main())
