#!/usr/bin/python3
"""Measures how long cachecask takes to start again, by the number of keys.

A server is loaded once; then it is ended and started again and again, by kill -9 and by a clean
stop in turn. What counts is the time that it tells itself, for its data, and the time from the
start of the process to its first answer.
"""

import argparse
import re
import signal
import statistics
import sys
import time

import servers
from servers import Failure, say

ENDS = {"kill -9": signal.SIGKILL, "a clean stop": signal.SIGTERM}
LOAD_TIMEOUT_S = 600
POLL_S = 0.005


def load(server, count, size):
    server.wait_ready()
    server.load(servers.BENCH, ["--load", f"--keys={count}", f"--value-size={size}",
                                "--connections=50", "--pipeline=32"], LOAD_TIMEOUT_S)


def restart(server, how, count):
    """Seconds until the data is there, as told by the server, and until it has answered."""
    server.end_by(ENDS[how])
    started = time.monotonic()
    server.start()
    while not server.version():
        server.check_alive()
        if time.monotonic() - started > servers.START_TIMEOUT_S:
            raise Failure(f"no answer after {servers.START_TIMEOUT_S} s: {server.last_words()}")
        time.sleep(POLL_S)
    answered = time.monotonic() - started
    told = re.search(r"(\d+) keys recovered in ([0-9.]+) s", server.last_words())
    if not told or int(told[1]) != count:
        raise Failure(f"{count:,} keys were set: {server.last_words()}")
    return float(told[2]), answered


def middle(times):
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def measure(arguments, place, count):
    server = place.start("cachecask", servers.CACHECASK, memory=arguments.memory)
    load(server, count, arguments.value_size)
    found = {how: [] for how in ENDS}
    for number in range(arguments.starts):
        for how, times in found.items():
            time.sleep(arguments.rest)
            times.append(restart(server, how, count))
            say(f"{count:,} keys, start {number + 1} after {how}: {times[-1][0]:.3f} s")
    arguments.version = server.version()
    place.end(server)
    return [f"| {count:,} | {how} | {middle([data for data, _ in times])} |"
            f" {middle([answer for _, answer in times])} |" for how, times in found.items()]


def measure_all(arguments, place):
    rows = [row for count in arguments.keys for row in measure(arguments, place, count)]
    print("| keys | after | s until the data is there | s until the first answer |\n"
          "|---:|---|---:|---:|")
    print("\n".join(rows))
    print(f"\ncachecask {arguments.version} on {servers.processor()}: values of "
          f"{arguments.value_size} bytes, keys of 16; median, least and most of {arguments.starts} "
          "starts with the files in the page cache.")


def parse_arguments():
    parser = servers.make_parser(
        "restart", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--keys", type=lambda text: [int(part) for part in text.split(",")],
                        default="1000000,2000000,10000000", help="one row each")
    parser.add_argument("--value-size", type=int, default=100, help="bytes")
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--starts", type=int, default=5, help="after each kind of end")
    parser.add_argument("--rest", type=float, default=2,
                        help="seconds that a server runs before it is ended")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(servers.run(parse_arguments(), measure_all))
