#!/usr/bin/python3
"""Measures servers side by side and prints a table.

Every contestant is started once, pinned whole to one core, and loaded with the same keys; the load
runs on another core. For each row of the table the contestants take turns, round after round, so
that whatever else the machine does meets all of them; medians are shown. The CPU of a server is
the utime and stime of its process, all threads, before and after each measurement.

The echo server answers with the same bytes and stores nothing: what it costs, no server can save.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import servers
from servers import Failure, say

MEMORY_MB = 1024
LOAD_TIMEOUT_S = 300
SYNC_TIMEOUT_S = 60
# Above this share of its core, a process is what limits the rate.
FULL = 0.95


@dataclass
class Row:
    name: str
    title: str
    arguments: list
    writes: bool = False
    default: bool = True
    echo: bool = True  # the echo server knows the protocol


def rows_of(protocol):
    """Gets and sets in another protocol."""
    def row(name, operation, how, *arguments):
        return Row(f"{protocol}-{name}", f"{protocol} {operation}, {how}",
                   [f"--protocol={protocol}", f"--op={operation}", *arguments],
                   writes=operation == "set", echo=False)

    return [row("get1", "get", "one a round trip"),
            row("getp32", "get", "32 in a pipeline", "--pipeline=32"),
            row("set1", "set", "one a round trip"),
            row("setp32", "set", "32 in a pipeline", "--pipeline=32")]


ROWS = [
    Row("get1", "get, one a round trip", ["--op=get"]),
    Row("getp32", "get, 32 in a pipeline", ["--op=get", "--pipeline=32"]),
    Row("mget50", "multiget of 50", ["--op=get", "--multiget=50"]),
    Row("set1", "set, one a round trip", ["--op=set"], writes=True),
    Row("setp32", "set, 32 in a pipeline", ["--op=set", "--pipeline=32"], writes=True),
    Row("mix1", "90 gets, 10 sets, one a round trip", ["--op=mix"], True, False),
    Row("mixp32", "90 gets, 10 sets, 32 in a pipeline", ["--op=mix", "--pipeline=32"], True, False),
    Row("zipfp32", "get, zipf 1.0, 32 in a pipeline", ["--distribution=zipf", "--pipeline=32"],
        default=False),
    Row("touchp32", "touch, 32 in a pipeline", ["--op=touch", "--pipeline=32"], True, False),
    *rows_of("meta"),
    *rows_of("binary"),
]

COMMANDS = {
    "memcached": servers.MEMCACHED,
    "cachecask": servers.CACHECASK,
    "echo": "{echo} -p {port} -l 127.0.0.1 -s {value_size}",
}


# ---- measuring ----

@dataclass
class Sample:
    rate: float
    server_cpu_us: float
    p99_us: float
    server_share: float  # of its core that the server used
    load_share: float    # of its core that the load used


@dataclass
class Cell:
    samples: list = field(default_factory=list)

    def median(self, what):
        return statistics.median(getattr(sample, what) for sample in self.samples)

    def spread(self):
        """Half the distance of the slowest from the fastest round, as a share of the median."""
        rates = [sample.rate for sample in self.samples]
        return (max(rates) - min(rates)) / 2 / statistics.median(rates)


def run_load(arguments, core, server, extra, timeout):
    options = [f"--keys={arguments.keys}", f"--value-size={arguments.value_size}",
               f"--connections={arguments.connections}", "--threads=1"]
    return server.load(arguments.bench, options + extra, timeout, core)


def measure(arguments, core, server, row):
    cpu_before = server.cpu_seconds()
    phase = run_load(arguments, core, server,
                     row.arguments + [f"--duration={arguments.seconds}"], arguments.seconds + 60)
    cpu = server.cpu_seconds() - cpu_before
    if phase["misses"] > 0:
        raise Failure(f"{server.name}: {row.name}: {phase['misses']} of the keys that were loaded "
                      "are not there")
    operations = phase["operations"]
    return Sample(rate=phase["operations_per_second"],
                  server_cpu_us=cpu * 1e6 / operations,
                  p99_us=phase["latency_us"]["all"]["p99"],
                  server_share=cpu / phase["seconds"],
                  load_share=phase["client_cpu_us_per_operation"] * operations / 1e6 /
                  phase["seconds"])


def settle(row):
    """What one contestant has left to write must not slow the next one."""
    if row.writes:
        try:
            subprocess.run(["sync"], timeout=SYNC_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            say("sync takes long; the disk may disturb the next measurement")
    time.sleep(0.2)


def compare(arguments, load_core, contestants, rows):
    cells = {}
    for row in rows:
        able = [server for server in contestants if row.echo or server.name != "echo"]
        cells.update({(row.name, server.name): Cell() for server in able})
        for number in range(arguments.rounds):
            turn = number % max(1, len(able))
            for server in able[turn:] + able[:turn]:
                settle(row)
                sample = measure(arguments, load_core, server, row)
                cells[row.name, server.name].samples.append(sample)
                say(f"{row.name} {number + 1}/{arguments.rounds} {server.name}: "
                    f"{sample.rate:,.0f}/s, {sample.server_cpu_us:.2f} µs CPU, "
                    f"p99 {sample.p99_us:,.0f} µs, cores: server {sample.server_share:.0%}, "
                    f"load {sample.load_share:.0%}")
    return cells


# ---- the table ----

def number(value):
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def table(cells, rows, names):
    """One line a row of work; the columns of a contestant that is not there are left out."""
    real = [name for name in names if name != "echo"]
    base, other = (real + [None, None])[:2]
    head = ["work"] + [f"{name}, ops/s" for name in real]
    if other:
        head.append("ratio")
    head += [f"{name}, CPU µs/op" for name in real]
    if other:
        head.append("ratio")
    if "echo" in names:
        head.append("echo floor, CPU µs/op")
    head += [f"{name}, p99 µs" for name in real]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        def get(name, what, row=row):
            return cells[row.name, name].median(what)
        line = [row.title]
        for name in real:
            mark = " ¹" if get(name, "load_share") > FULL > get(name, "server_share") else ""
            line.append(f"{get(name, 'rate'):,.0f}{mark}")
        if other:
            line.append(f"**{get(other, 'rate') / get(base, 'rate'):.2f}**")
        line += [number(get(name, "server_cpu_us")) for name in real]
        if other:
            line.append(f"{get(other, 'server_cpu_us') / get(base, 'server_cpu_us'):.2f}")
        if "echo" in names:
            line.append(number(get("echo", "server_cpu_us")) if row.echo else "")
        line += [number(get(name, "p99_us")) for name in real]
        lines.append("| " + " | ".join(line) + " |")
    return lines


def notes(arguments, cells, rows, contestants, versions):
    names = [server.name + (f" {versions[server.name]}" if versions[server.name] else "")
             for server in contestants]
    spread = max(cell.spread() for cell in cells.values())
    text = [
        f"{', '.join(names)}: one worker thread, the whole process on one core; the load on "
        f"another, {arguments.connections} connections, {arguments.keys:,} keys of 16 bytes, "
        f"values of {arguments.value_size} bytes. Medians of {arguments.rounds} alternating rounds "
        f"of {arguments.seconds:g} s; at most ±{spread:.0%} between rounds. "
        f"{servers.processor()}, Linux {os.uname().release}.",
    ]
    if len([server for server in contestants if server.name != "echo"]) > 1:
        text.append("Ratios: the second server over the first; rates above 1 and CPU below 1 "
                    "speak for the second.")
    if any(cells[row.name, server.name].median("load_share") > FULL >
           cells[row.name, server.name].median("server_share")
           for row in rows for server in contestants if server.name != "echo"):
        text.append("¹ The load's core was full and the server's was not: the server can do more.")
    return text


# ---- command line ----

def parse_arguments():
    names = ", ".join(row.name for row in ROWS)
    parser = argparse.ArgumentParser(
        prog="script/bench", description=__doc__.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds of 2 s with 200,000 keys, unless they are given")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS if row.default),
                        help=f"which rows, of {names}")
    parser.add_argument("--servers", default="memcached,cachecask,echo",
                        help="the contestants; the first is what the others are compared with")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="how to start one, with {port}, {dir} and {user} in the command")
    parser.add_argument("--rounds", type=int, help="rounds (5, quick 3)")
    parser.add_argument("--seconds", type=float, help="length of a measurement (5, quick 2)")
    parser.add_argument("--keys", type=int, help="keys (1000000, quick 200000)")
    parser.add_argument("--value-size", type=int, default=100, help="bytes of a value")
    parser.add_argument("--connections", type=int, default=50, help="connections")
    parser.add_argument("--data-dir", help="where the data of the servers goes for the time of "
                        "the run (build/, or /var/tmp if others may not enter that)")
    parser.add_argument("--output", metavar="FILE", help="write the table to a file too")
    parser.add_argument("--bench", default=servers.BENCH,
                        help="the load generator")
    parser.add_argument("--echo", default=os.path.join(servers.ROOT, "build/release/bench-echo"),
                        help="the echo server")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.rounds = arguments.rounds or (3 if quick else 5)
    arguments.seconds = arguments.seconds or (2 if quick else 5)
    arguments.keys = arguments.keys or (200_000 if quick else 1_000_000)
    if min(arguments.rounds, arguments.seconds, arguments.keys, arguments.connections) <= 0:
        parser.error("rounds, seconds, keys and connections are more than 0")
    known = {row.name: row for row in ROWS}
    for name in arguments.rows.split(","):
        if name not in known:
            parser.error(f"no row {name}; there are: {names}")
    arguments.rows = [known[name] for name in arguments.rows.split(",")]
    arguments.commands = dict(COMMANDS)
    for given in arguments.server:
        name, equals, command = given.partition("=")
        if not equals:
            parser.error(f"--server {given}: not NAME=COMMAND")
        arguments.commands[name] = command
    arguments.servers = arguments.servers.split(",")
    for name in arguments.servers:
        if name not in arguments.commands:
            parser.error(f"no server {name}; say how to start it with --server")
    return arguments


def choose_cores():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        say("Only one core: server and load share it, so rates say little.")
    return cores[0], cores[min(1, len(cores) - 1)]


def measure_all(arguments, place):
    server_core, load_core = choose_cores()
    contestants = [place.start(name, arguments.commands[name], server_core, memory=MEMORY_MB,
                               echo=shlex.quote(arguments.echo), value_size=arguments.value_size)
                   for name in arguments.servers]
    for server in contestants:
        server.wait_ready()
        say(f"{server.name}: loading {arguments.keys:,} keys")
        run_load(arguments, load_core, server, ["--load"], LOAD_TIMEOUT_S)
    versions = {server.name: server.version() for server in contestants}
    settle(Row("", "", [], writes=True))
    cells = compare(arguments, load_core, contestants, arguments.rows)
    lines = table(cells, arguments.rows, arguments.servers) + [""]
    lines += notes(arguments, cells, arguments.rows, contestants, versions)
    text = "\n".join(lines) + "\n"
    print(text, end="", flush=True)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as output:
            output.write(text)


def main():
    arguments = parse_arguments()
    return servers.run("script/bench", arguments.data_dir,
                       lambda place: measure_all(arguments, place))


if __name__ == "__main__":
    sys.exit(main())
