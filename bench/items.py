#!/usr/bin/python3
"""Counts the items that memcached and cachecask hold in RAM at equal memory.

New keys are set, a thousand at a time, until the server says that something had to leave. With
cachecask that is a value that is on disk alone from then on, with memcached one that is lost.
"""

import argparse
import random
import socket
import sys

import servers
from servers import Failure, say

STEP = 1000
TIMEOUT_S = 60


def evicted(server):
    if server.name == "memcached":
        return server.stats()["evictions"]
    return server.stats("store")["cache_items_evicted"]


def command(number, size, expiry):
    return b"set key-%012d 0 %d %d\r\n%s\r\n" % (number, expiry, size, b"x" * size)


def fill(arguments, server, smallest, largest):
    """How many items it took until the first left."""
    sizes = random.Random(arguments.seed)
    most = arguments.memory * 2**20 // (smallest + 16)  # as if they cost nothing else
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as connection:
        answers = connection.makefile("rb")
        for first in range(0, most, STEP):
            connection.sendall(b"".join(
                command(number, sizes.randint(smallest, largest), arguments.expiry)
                for number in range(first, first + STEP)))
            for _ in range(STEP):
                if answers.readline() != b"STORED\r\n":
                    raise Failure(f"{server.name} did not store an item")
            if evicted(server):
                return first + STEP
    raise Failure(f"{server.name}: {most:,} items, and none has left")


def measure(arguments, place, name, sizes):
    server = place.start(name, servers.MEMCACHED if name == "memcached" else servers.CACHECASK,
                         memory=arguments.memory)
    server.wait_ready()
    count = fill(arguments, server, *sizes)
    arguments.versions[name] = server.version()
    place.end(server)
    say(f"{sizes[0]}-{sizes[1]} bytes: {name} {count:,}")
    return count


def title(sizes):
    return f"{sizes[0]:,}" if sizes[0] == sizes[1] else f"{sizes[0]:,} to {sizes[1]:,}"


def measure_all(arguments, place):
    rows = []
    for sizes in arguments.sizes:
        theirs, ours = (measure(arguments, place, name, sizes)
                        for name in ("memcached", "cachecask"))
        rows.append(f"| {title(sizes)} | {theirs:,} | {ours:,} | **{ours / theirs:.2f}** |")
    print("| value, bytes | memcached, items | cachecask, items | ratio |\n|---|---:|---:|---:|")
    print("\n".join(rows))
    versions = ", ".join(f"{name} {version}" for name, version in arguments.versions.items())
    expiry = f"an expiry in {arguments.expiry:,} s" if arguments.expiry else "no expiry"
    print(f"\n{versions}: `-m {arguments.memory}`, keys of 16 bytes, {expiry}, seed "
          f"{arguments.seed}; items set until the first has left the RAM.")


def parse_sizes(text):
    sizes = []
    for part in text.split(","):
        smallest, _, largest = part.partition("-")
        sizes.append((int(smallest), int(largest or smallest)))
    return sizes


def parse_arguments():
    parser = servers.make_parser(
        "items", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--memory", type=int, default=64, help="MiB")
    parser.add_argument("--sizes", type=parse_sizes, default="10,50,100,400,1000,1-100,1-400",
                        help="bytes of the values, one row each: N, or MIN-MAX for a mix")
    parser.add_argument("--expiry", type=int, default=0, help="of the items, in seconds")
    parser.add_argument("--seed", type=int, default=1, help="another choice of sizes in a mix")
    arguments = parser.parse_args()
    arguments.versions = {}
    return arguments


if __name__ == "__main__":
    sys.exit(servers.run(parse_arguments(), measure_all))
