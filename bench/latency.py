#!/usr/bin/python3
"""Measures what a server's work in the background does to the latency of its clients.

Each scene has two sides that differ in one thing, such as whether the cleaner has work. A load of
fixed rate meets both in turn, round after round, and counts each latency from the moment when the
request was due. Shown are medians over the rounds, and lower quartiles: on a machine that is
shared, whole rounds suffer from what others do, and the quarter that suffered least tells of the
server. Beside each round stands what the host took away meanwhile, and how late a thread on the
server's core woke that only slept: what no server could have done better. With --most-steal a round
in which the host took more from either side is repeated, whatever was measured in it.

The servers are pinned to one core, all threads; the load runs on another. What makes the work in
the background (writes, the reader of a key list) shares the load's core at the lowest priority, so
that it disturbs the server and not the clock.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import servers
from host import Host
from servers import Failure, say

LOAD_TIMEOUT_S = 300
LEVELS = ["p50", "p99", "p99.9"]
WRITTEN_VALUE = 1000
# So that a round begins when the work in the background has begun, and ends before it does.
LEAD_S = 0.5
ATTEMPTS_A_ROUND = 4


@dataclass
class Side:
    title: str
    server: servers.Server
    background: object  # a function of (arguments, server, seconds) that returns what to wait for


@dataclass
class Scene:
    title: str
    load: list
    sides: list


# ---- work in the background ----

class Nothing:
    def __init__(self, *_):
        pass

    def wait(self):
        return ""


class Writes:
    """Sets at a fixed rate, over keys that are all there."""

    def __init__(self, arguments, server, seconds):
        self.server = server
        self.cleaned = cleaned(server)
        self.process = background(arguments, server, [
            "--op=set", f"--keys={arguments.keys}", f"--value-size={WRITTEN_VALUE}",
            f"--rate={arguments.write_rate}", f"--duration={seconds}", "--connections=4",
            "--pipeline=4"])

    def wait(self):
        if self.process.wait() != 0:
            raise Failure(f"{self.server.name}: the writes in the background failed")
        return f"{cleaned(self.server) - self.cleaned} segments cleaned"


class Dumps:
    """Lists all keys again and again, until it must wait."""

    def __init__(self, arguments, server, _seconds):
        self.keys = arguments.listed_keys
        self.server = server
        self.lists = 0
        self.wrong = 0
        self.stopping = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            while not self.stopping:
                connection.sendall(b"lru_crawler metadump all\r\n")
                found = 0
                tail = b""
                while not tail.endswith(b"\nEND\r\n"):
                    chunk = connection.recv(1 << 20)
                    if not chunk:
                        self.wrong += 1
                        return
                    found += chunk.count(b"\n")
                    tail = (tail + chunk)[-6:]
                self.lists += 1
                self.wrong += found - 2 != self.keys  # OK, and END

    def wait(self):
        self.stopping = True
        self.thread.join()
        if self.wrong:
            raise Failure(f"{self.server.name}: a list did not name all keys")
        return f"{self.lists} lists of {self.keys:,} keys"


def background(arguments, server, options):
    command = servers.pinned(
        ["nice", "-n", "19", arguments.bench, "--quiet", f"--port={server.port}"] + options,
        arguments.load_core)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def cleaned(server):
    return server.stats("store")["cleaner_segments"]


# ---- scenes ----

def start(arguments, place, name, command, memory):
    server = place.start(name, command, arguments.server_core, memory=memory)
    server.wait_ready()
    return server


def fill(arguments, server, keys, value_size, *more):
    say(f"{server.name}: writing {keys:,} keys")
    server.load(arguments.bench, [f"--keys={keys}", f"--value-size={value_size}",
                                  "--connections=20", "--pipeline=16", *more],
                LOAD_TIMEOUT_S, arguments.load_core)


def scene_cleaner(arguments, place):
    """Gets of a hot set, with writes beside it that give the cleaner work, or do not."""
    sides = []
    tight = arguments.keys * (WRITTEN_VALUE + 60) * 5 // 4
    for title, limits in [("cleaner idle", "--disk-limit=40g --clean-rate=1k"),
                          ("cleaner busy", f"--disk-limit={tight}")]:
        server = start(arguments, place, title.replace(" ", "-"),
                       f"{servers.CACHECASK} {limits}", 64)
        fill(arguments, server, arguments.keys, WRITTEN_VALUE, "--load")
        if "busy" in title:
            fill(arguments, server, arguments.keys, WRITTEN_VALUE, "--op=set",
                 f"--requests={arguments.keys}")
        sides.append(Side(title, server, Writes))
    return Scene(f"gets, beside {arguments.write_rate:,} sets/s of {WRITTEN_VALUE:,} bytes",
                 ["--op=get", "--keys=1000", f"--value-size={WRITTEN_VALUE}", "--connections=8"],
                 sides)


def scene_metadump(arguments, place):
    """Gets and sets, with a list of all keys being written beside them, or not."""
    server = start(arguments, place, "cachecask", servers.CACHECASK, 192)
    fill(arguments, server, arguments.listed_keys, 32, "--load")
    return Scene(f"90 gets, 10 sets, over {arguments.listed_keys:,} keys",
                 ["--op=mix", f"--keys={arguments.listed_keys}", "--value-size=32",
                  "--connections=8"],
                 [Side("no list", server, Nothing), Side("metadump all", server, Dumps)])


def scene_set(arguments, place):
    """Sets of two servers."""
    sides = []
    for name, command in [("memcached", servers.MEMCACHED), ("cachecask", servers.CACHECASK)]:
        server = start(arguments, place, name, command, 1024)
        fill(arguments, server, arguments.keys, 100, "--load")
        sides.append(Side(name, server, Nothing))
    return Scene("sets of 100 bytes", ["--op=set", f"--keys={arguments.keys}", "--value-size=100",
                                       "--connections=50"], sides)


SCENES = {"cleaner": scene_cleaner, "metadump": scene_metadump, "set": scene_set}


# ---- measuring ----

def measure(arguments, scene, side):
    """The latencies of one round, in microseconds, and what the host did meanwhile."""
    work = side.background(arguments, side.server, arguments.seconds + 2 * LEAD_S)
    time.sleep(LEAD_S)
    try:
        with Host(arguments.server_core, arguments.seconds) as host:
            phase = side.server.load(arguments.bench, scene.load + [
                f"--rate={arguments.rate}", f"--duration={arguments.seconds}", "--threads=1"],
                arguments.seconds + 60, arguments.load_core)
            taken = host.result()
    finally:
        told = work.wait()
    return {**phase["latency_us"]["all"], **taken}, told


def measure_scene(arguments, scene):
    """The samples of each side, and how many rounds were repeated."""
    rounds = [[] for _ in scene.sides]
    for number in range(ATTEMPTS_A_ROUND * arguments.rounds):
        pair = [None, None]
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            side = scene.sides[which]
            sample, told = measure(arguments, scene, side)
            pair[which] = sample
            say(f"{len(rounds[0]) + 1}/{arguments.rounds} {side.title}: " +
                ", ".join(f"{level} {sample[level]:,.0f}" for level in LEVELS + ["max"]) +
                f" µs{', ' if told else ''}{told}; steal {sample['steal_percent']:.1f} %, "
                f"sleeper late p99.9 {sample['late_p99_9_us']:,.0f}, "
                f"max {sample['late_max_us']:,.0f} µs")
        if max(sample["steal_percent"] for sample in pair) <= arguments.most_steal:
            for samples, sample in zip(rounds, pair):
                samples.append(sample)
        if len(rounds[0]) == arguments.rounds:
            return rounds, number + 1 - arguments.rounds
    raise Failure(f"the host took more than {arguments.most_steal:g} % in all but "
                  f"{len(rounds[0])} of {number + 1} rounds: come again when it has less to do")


def table(scene, rounds):
    head = ["scene", "side"]
    head += [f"{level}, µs, {what}" for what in ("median", "quartile") for level in LEVELS]
    head += ["steal, %, median", "sleeper's p99.9, µs, median"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    shown = []
    for side, samples in zip(scene.sides, rounds):
        quartiles = [statistics.quantiles([sample[level] for sample in samples])
                     for level in LEVELS]
        shown.append([median for _, median, _ in quartiles] + [low for low, _, _ in quartiles])
        steal, late = (statistics.median(sample[name] for sample in samples)
                       for name in ("steal_percent", "late_p99_9_us"))
        lines.append(f"| {scene.title} | {side.title} | " +
                     " | ".join(f"{level:,.0f}" for level in shown[-1]) +
                     f" | {steal:.1f} | {late:,.0f} |")
    lines.append("| | second over first | " +
                 " | ".join(f"**{b / a:.2f}**" for a, b in zip(*shown)) + " | | |")
    return lines


def measure_all(arguments, place):
    text = []
    for name in arguments.scenes:
        scene = SCENES[name](arguments, place)
        rounds, repeated = measure_scene(arguments, scene)
        text += table(scene, rounds) + [""]
        if arguments.most_steal < 100:
            text += [f"Rounds of which the host took more than {arguments.most_steal:g} % were "
                     f"repeated: {repeated}.", ""]
        for server in list(place.servers):
            place.end(server)
    text.append(f"{arguments.rate:,} requests/s. {arguments.rounds} alternating rounds of "
                f"{arguments.seconds:g} s; the server on one core, the load on another. "
                f"{servers.processor()}, Linux {os.uname().release}.")
    print("\n".join(text), flush=True)


# ---- command line ----

def parse_arguments():
    parser = servers.make_parser(
        "latency", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--scenes", default=",".join(SCENES), help="which scenes")
    parser.add_argument("--rounds", type=int, default=20, help="rounds")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a measurement")
    parser.add_argument("--most-steal", type=float, default=100, metavar="PERCENT",
                        help="repeat a round of which the host took more, up to "
                        f"{ATTEMPTS_A_ROUND} times as many in all")
    parser.add_argument("--rate", type=int, default=25_000, help="requests a second")
    parser.add_argument("--write-rate", type=int, default=15_000,
                        help="sets a second beside them that make work for the cleaner")
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys that are written")
    parser.add_argument("--listed-keys", type=int, default=5_000_000, help="keys of the list")
    parser.add_argument("--bench", default=servers.BENCH, help="the load generator")
    arguments = parser.parse_args()
    if min(arguments.rounds - 1, arguments.seconds, arguments.rate, arguments.write_rate) <= 0:
        parser.error("there are at least 2 rounds; seconds and rates are more than 0")
    arguments.scenes = arguments.scenes.split(",")
    for name in arguments.scenes:
        if name not in SCENES:
            parser.error(f"no scene {name}; there are: {', '.join(SCENES)}")
    cores = sorted(os.sched_getaffinity(0))
    arguments.server_core, arguments.load_core = cores[0], cores[min(1, len(cores) - 1)]
    return arguments


if __name__ == "__main__":
    sys.exit(servers.run(parse_arguments(), measure_all))
