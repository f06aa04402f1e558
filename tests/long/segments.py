"""More segments than descriptors: 20,000 beside 1,000, each of one value, with 1,024 open files.

Writes, reads, new connections and both kinds of start, at each count of segments: whether all is
there, how many descriptors were open, and how long a roll and a start take. The limit of open files
is soft and hard, so that the server cannot raise it.
"""
import random
import sys
import time

import common
from common import say, support
from limited import descriptors, limited_server
from support import value_of

LENGTH = 60_000  # so that two do not fit into one segment
SEGMENT = "64k"
READY_S = 600
SAMPLE = 20_000  # keys that are read


def key_of(number):
    return b"key-%d" % number


class Times:
    """How long single requests took, in ms."""

    def __init__(self):
        self.taken = []

    def measure(self, action):
        began = time.monotonic()
        result = action()
        self.taken.append((time.monotonic() - began) * 1000)
        return result

    def __str__(self):
        ordered = sorted(self.taken)
        median, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        return "%.2f ms at the median, p99 %.2f, at most %.1f" % (median, late, ordered[-1])


def read(server, count):
    chosen = random.Random(1)
    numbers = chosen.sample(range(count), min(count, SAMPLE))
    times = Times()
    with server.connect(60) as client:
        for number in numbers:
            key = key_of(number)
            found = times.measure(lambda key=key: client.get(key))
            assert found == value_of(key, LENGTH), "%s is wrong" % key
    return times


def connect(server, count=100):
    crowd = [server.connect() for _ in range(count)]
    for client in crowd:
        client.talk(b"mn\r\n", b"MN\r\n")
    most = descriptors(server)
    for client in crowd:
        client.close()
    return most


def cpu_s(server):
    with open("/proc/%d/stat" % server.process.pid, encoding="ascii") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def start(server, how):
    """Answers seconds until it serves, and of processor time."""
    if how == "stop":
        server.stop()
    else:
        server.kill9()
    began = time.monotonic()
    server.launch()
    server.wait_until_ready(READY_S)
    return time.monotonic() - began, cpu_s(server)


def measure(report, options, count):
    limit_mib = 2 * count * (LENGTH + 6000) // common.MIB + 64
    sizes = "--segment-size=" + SEGMENT, "--disk-limit=%dm" % limit_mib
    server = limited_server(*sizes, "-m", "64", "-t", "2", limit=options.limit)
    rolls = Times()
    with server.connect(60) as client:
        for number in range(count):
            key = key_of(number)
            rolls.measure(lambda key=key: client.set(key, value_of(key, LENGTH)))
    stats = server.stats("store")
    opened = descriptors(server)
    say("  %s segments of %s, %d descriptors open" % (stats["segments"], SEGMENT, opened))
    report.check(int(stats["segments"]) >= count, "more segments than %d keys" % count)
    cpu_ms = cpu_s(server) * 1000 / count
    say("    a set, which is a roll: %s; %.3f ms of processor time" % (rolls, cpu_ms))
    report.check(True, "read: %s" % read(server, count))
    most = connect(server)
    report.check(most <= options.limit, "100 new connections, %d descriptors" % most)
    taken = {}
    for how in ("kill9", "stop") * options.starts:
        taken.setdefault(how, []).append(start(server, how))
        report.check(True, "all right after %s: %s" % (how, read(server, count)))
    log = server.log()
    report.check("error:" not in log and "disk space" not in log, "nothing is complained about")
    server.kill9()
    medians = {how: sorted(starts)[len(starts) // 2] for how, starts in taken.items()}
    return ", ".join(
        "a start after %s took %.2f s, %.2f of processor time" % (how, *median)
        for how, median in medians.items()
    )


def run_all(report, options):
    for count in options.segments:
        report.attempt("%d segments" % count, lambda count=count: measure(report, options, count))


def main():
    parser = common.options("segments", __doc__)
    parser.add_argument(
        "--segments", type=common.numbers, default="1000,20000", help="how many, a round each"
    )
    parser.add_argument("--limit", type=int, default=1024, help="of open files, soft and hard")
    parser.add_argument("--starts", type=int, default=3, help="of each kind")
    options = parser.parse_args()
    return common.run("segments", lambda report: run_all(report, options))


if __name__ == "__main__":
    sys.exit(main())
