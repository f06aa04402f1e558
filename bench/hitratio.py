#!/usr/bin/python3
"""Compares what memcached and cachecask find in RAM, at equal memory, request by request.

Each trace is replayed against one server after the other, which is started for it alone: first all
keys are set, then the warm-up runs, and then what is counted. The requests are the same for both,
and a get that misses is followed by a set, as users of caches do.
"""

import argparse
import sys
import time
from dataclasses import dataclass

import servers
from servers import Failure, say

TIMEOUT_S = 300


@dataclass
class Trace:
    name: str
    title: str
    keys: int
    options: list


@dataclass
class Size:
    """How much of everything; the keys' data is several times the memory, and the warm-up so long
    that nothing is left of the order in which all keys were set."""
    memory_mb: int
    keys: int
    warmup: int
    requests: int


FULL = Size(memory_mb=64, keys=1_000_000, warmup=4_000_000, requests=4_000_000)
QUICK = Size(memory_mb=16, keys=250_000, warmup=300_000, requests=200_000)


def traces(size):
    """Scans and shifts keep their proportion to the number of keys. The scans of a run bring about
    as many new keys as there are others: half as many others leave the index its usual size."""
    unit = size.keys // 20
    half = size.keys // 2
    return [
        Trace("zipf0.8", "zipf 0.8", size.keys, ["-D", "zipf:0.8"]),
        Trace("zipf1.0", "zipf 1.0", size.keys, ["-D", "zipf:1.0"]),
        Trace("zipf1.2", "zipf 1.2", size.keys, ["-D", "zipf:1.2"]),
        Trace("scan", f"zipf 1.0 over {half:,} keys, after {8 * unit:,} requests a scan of "
              f"{unit:,} new ones", half,
              ["-D", "scan:1.0", f"--scan-every={8 * unit}", f"--scan-length={unit}"]),
        Trace("shift", f"zipf 1.0, after {8 * unit:,} requests other keys are hot", size.keys,
              ["-D", "shift:1.0", f"--shift-every={8 * unit}"]),
    ]


# ---- measuring ----

def count_hits(server):
    """Gets so far, and how many of them were answered from RAM."""
    general = server.stats()
    if server.name == "memcached":
        return general["get_hits"] + general["get_misses"], general["get_hits"]
    return general["cmd_get"], server.stats("store")["ram_hits"]


def replay(arguments, server, trace):
    size = arguments.size
    # Few connections and short pipelines: requests meet the server in nearly the order drawn.
    options = [f"--keys={trace.keys}", f"--value-size={arguments.value_size}",
               f"--seed={arguments.seed}", "--connections=8", "--pipeline=8"]
    server.wait_ready()
    server.load(arguments.bench, options + ["--load"], TIMEOUT_S)
    options += trace.options + ["--op=get", "--fill", "--verify"]
    server.load(arguments.bench, options + [f"--requests={size.warmup}"], TIMEOUT_S)
    gets_before, hits_before = count_hits(server)
    server.load(arguments.bench,
                options + [f"--requests={size.requests}", f"--skip={size.warmup}"], TIMEOUT_S)
    gets, hits = count_hits(server)
    if gets - gets_before != size.requests:
        raise Failure(f"{server.name}: it counts {gets - gets_before:,} gets of {size.requests:,}")
    return (hits - hits_before) / (gets - gets_before)


def measure(arguments, place, name, trace):
    """The hit ratio of one server for one trace."""
    began = time.monotonic()
    server = place.start(name, arguments.commands[name], memory=arguments.size.memory_mb)
    ratio = replay(arguments, server, trace)
    arguments.versions[name] = server.version()
    place.end(server)
    say(f"{trace.name} {name}: {ratio:.2%}, {time.monotonic() - began:.0f} s")
    return ratio


# ---- the table ----

def table(rows, names):
    head = ["trace"] + [f"{name}, hits in RAM" for name in names]
    if len(names) > 1:
        head.append("difference")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for trace, ratios in rows:
        line = [trace.title] + [f"{ratio:.2%}" for ratio in ratios]
        if len(names) > 1:
            line.append(f"**{(ratios[1] - ratios[0]) * 100:+.2f}**")
        lines.append("| " + " | ".join(line) + " |")
    return lines


def notes(arguments):
    size = arguments.size
    names = ", ".join(f"{name} {version}" for name, version in arguments.versions.items())
    return [
        f"{names}: `-m {size.memory_mb}`, {size.keys:,} keys of 16 bytes, each with a value of "
        f"{arguments.value_size} bytes, all set before; {size.warmup:,} gets to warm up and "
        f"{size.requests:,} that count, what misses is set, seed {arguments.seed}. Differences in "
        "percentage points.",
        "cachecask keeps on disk what leaves its RAM, so its clients miss nothing that was ever "
        "set. Compared is what each finds in RAM: memcached's get_hits over its gets, and "
        "cachecask's ram_hits over its gets. The memory of cachecask holds its index of all keys "
        "too, those on disk included.",
    ]


def measure_all(arguments, place):
    rows = [(trace, [measure(arguments, place, name, trace) for name in arguments.servers])
            for trace in arguments.traces]
    text = "\n".join(table(rows, arguments.servers) + [""] + notes(arguments)) + "\n"
    print(text, end="", flush=True)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as output:
            output.write(text)


# ---- command line ----

def choose(parser, what, names, known):
    for name in names.split(","):
        if name not in known:
            parser.error(f"no {what} {name}; there are: {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def parse_arguments():
    names = ",".join(trace.name for trace in traces(FULL))
    parser = servers.make_parser(
        "hitratio", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="a quarter of the keys and of the memory, and fewer requests")
    parser.add_argument("--traces", default=names, help="which traces")
    parser.add_argument("--servers", default="memcached,cachecask", help="which servers")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="how to start one, with {port}, {dir}, {memory} and {user} in the "
                        "command; any but memcached must count ram_hits in 'stats store'")
    parser.add_argument("--memory", type=int, help=f"MiB ({FULL.memory_mb}, quick "
                        f"{QUICK.memory_mb})")
    parser.add_argument("--keys", type=int, help=f"keys ({FULL.keys}, quick {QUICK.keys})")
    parser.add_argument("--requests", type=int, help="gets that count, after as many to warm up "
                        f"({FULL.requests}, quick {QUICK.requests})")
    parser.add_argument("--value-size", default="100-700", help="bytes of the values")
    parser.add_argument("--seed", type=int, default=1, help="another choice of the same keys")
    parser.add_argument("--output", metavar="FILE", help="write the table to a file too")
    parser.add_argument("--bench", default=servers.BENCH, help="the load generator")
    arguments = parser.parse_args()
    settle(parser, arguments)
    return arguments


def settle(parser, arguments):
    size = QUICK if arguments.quick else FULL
    arguments.size = Size(arguments.memory or size.memory_mb, arguments.keys or size.keys,
                          arguments.requests or size.warmup, arguments.requests or size.requests)
    if arguments.size.memory_mb <= 0 or arguments.size.keys < 20 or arguments.size.requests <= 0:
        parser.error("--memory and --requests are more than 0, --keys at least 20")
    arguments.versions = {}
    arguments.commands = {"memcached": servers.MEMCACHED, "cachecask": servers.CACHECASK}
    for given in arguments.server:
        name, equals, command = given.partition("=")
        if not equals:
            parser.error(f"--server {given}: not NAME=COMMAND")
        arguments.commands[name] = command
    arguments.traces = choose(parser, "trace", arguments.traces,
                              {trace.name: trace for trace in traces(arguments.size)})
    arguments.servers = choose(parser, "server", arguments.servers,
                               {name: name for name in arguments.commands})


if __name__ == "__main__":
    sys.exit(servers.run(parse_arguments(), measure_all))
