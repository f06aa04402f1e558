"""Hours of what a session store, a queue, a rate limiter and a mixed cache do.

Each scene has a server of its own and clients that know what they have written
(tests/server/workloads.py). Nothing may be refused, no live key may be evicted while garbage
exceeds an eighth of the disk limit, disk and memory stay in their bounds, every request is answered
within 15 s, and every value is right at the end and again after kill -9.

  sessions  gat and touch with rising expiry over keys that take a quarter of the disk limit; -M
  queue     set and delete of unique keys, beside some that stay; -M
  rate      add with a TTL of 2 s and incr of unique keys
  mix       values of 10 bytes to 8 MB and TTLs of all kinds; 40 % of the disk limit is alive
"""
import dataclasses
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time

import common
from common import MIB, say, support
import progress
import workloads
from support import Server, wait_until

SETTLE_S = 120  # until what has expired has left
STEADY_S = 120  # a shorter run says nothing about memory: caches fill
FLAT = 1.03  # of resident memory, and so many bytes
FLAT_BYTES = 6 * MIB


@dataclasses.dataclass
class Scene:
    mode: str
    options: list  # of the server, but for the disk limit
    limit_mib: int
    make: object  # the workload of the client of that number


def scenes(options):
    share = options.clients
    sessions = workloads.record_size(17, 200) * options.keys // MIB + 1
    mix = 2048 if options.seconds >= 600 else 512

    def make(workload, **settings):
        return lambda server, number: workload(server, number, options.seed, **settings)

    return {
        "sessions": Scene(
            "store",
            ["-m", str(max(64, options.keys // 8000))],
            4 * sessions,
            make(workloads.Sessions, keys=options.keys // share),
        ),
        "queue": Scene(
            "store",
            ["-m", "64", "--segment-size=1m"],
            64,
            make(workloads.Queue, static=20_000 // share),
        ),
        "rate": Scene("cache", ["-m", "64"], 256, make(workloads.RateLimiter)),
        "mix": Scene(
            "cache",
            ["-m", "256", "-I", "16m"],
            mix,
            make(workloads.Mix, budget=mix * MIB * 2 // 5 // share),
        ),
    }


# Clients: each a process of its own


class Client:
    def __init__(self, make, server, number):
        self.ours, theirs = multiprocessing.Pipe()
        self.operations = multiprocessing.Value("Q", 0)
        self.stop = multiprocessing.Value("b", 0, lock=False)
        self.process = multiprocessing.Process(
            target=self.serve, args=(theirs, make, server, number), daemon=True
        )
        self.process.start()
        theirs.close()

    def serve(self, pipe, make, server, client_number):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.close(support.guardian.pipe)  # which looks for the end of the program, not for ours
        self.ours.close()
        workload = make(server, client_number)
        while True:
            try:
                what, *arguments = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((True, self.do(workload, what, *arguments)))
            except (workloads.Unexpected, AssertionError, OSError, ValueError, IndexError) as error:
                pipe.send((False, "%s: %s" % (type(error).__name__, common.shorten(error))))

    def do(self, workload, what, deadline=None):
        if what != "run":
            return getattr(workload, what)()
        while time.monotonic() < deadline and not self.stop.value:
            done = workload.step()
            with self.operations.get_lock():
                self.operations.value += done
        return None

    def ask(self, *what):
        self.ours.send(what)

    def has_answered(self):
        return self.ours.poll()

    def answer(self):
        try:
            return self.ours.recv()
        except EOFError:
            return False, "the client has died"


class Failed(Exception):
    """A client has met what must not be."""


def ask_all(clients, *what):
    """All at once. Answers what they answer, or raises what the first of them complains about."""
    for client in clients:
        client.ask(*what)
    return answers(clients)


def answers(clients):
    found = [client.answer() for client in clients]
    for ok, answer in found:
        if not ok:
            raise Failed(answer)
    return [answer for _, answer in found]


# What is looked at meanwhile


class Watch:
    """Samples of memory, disk and statistics."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.resident = []
        self.most_disk = 0
        self.evicted = self.wrongly_evicted = 0
        self.dead = 0
        self.began = self.said = time.monotonic()

    def sample(self):
        stats = self.server.stats("store")
        self.limit = int(stats["disk_limit"])
        self.resident.append(self.server.resident_mib() * MIB)
        self.most_disk = max(self.most_disk, int(stats["disk_bytes"]), self.server.disk_bytes())
        self.count_evictions(int(stats["evicted_items"]), int(stats["dead_bytes"]))
        return stats

    def count_evictions(self, evicted, dead):
        if max(dead, self.dead) > self.limit // 8:
            self.wrongly_evicted += evicted - self.evicted
        self.evicted, self.dead = evicted, dead

    def tell(self, stats, operations, every):
        now = time.monotonic()
        if now - self.said < every:
            return
        self.said = now
        say(
            "  %s %5.0f s: %s operations, disk %d MiB of %d (%d live, %d dead), resident %d MiB, "
            "%s cleaned, %d evicted"
            % (
                self.name,
                now - self.began,
                format(operations, ","),
                int(stats["disk_bytes"]) // MIB,
                self.limit // MIB,
                int(stats["live_bytes"]) // MIB,
                int(stats["dead_bytes"]) // MIB,
                self.resident[-1] // MIB,
                stats["cleaner_segments"],
                self.evicted,
            )
        )

    def is_flat(self):
        """The last quarter beside the second one."""
        quarter = len(self.resident) // 4
        early, late = (
            statistics.median(self.resident[n * quarter : (n + 1) * quarter]) for n in (1, 3)
        )
        return (
            late <= early * FLAT + FLAT_BYTES,
            "resident %.0f MiB in the second quarter, %.0f in the last" % (early / MIB, late / MIB),
        )


def run_clients(clients, watch, options):
    deadline = time.monotonic() + options.seconds
    every = min(60, max(2, options.seconds / 10))
    for client in clients:
        client.ask("run", deadline)
    while time.monotonic() < deadline and not any(client.has_answered() for client in clients):
        time.sleep(min(options.seconds / 200, 2))
        watch.tell(watch.sample(), sum(client.operations.value for client in clients), every)
    for client in clients:
        client.stop.value = 1
    answers(clients)


def check_bounds(report, name, watch, seconds):
    report.check(
        watch.most_disk <= watch.limit + progress.FILE_SYSTEM_BYTES,
        "%s: at most %.1f MiB on disk, the limit is %.1f"
        % (name, watch.most_disk / MIB, watch.limit / MIB),
    )
    report.check(
        not watch.wrongly_evicted,
        "%s: %d keys evicted, %d of them beside much garbage"
        % (name, watch.evicted, watch.wrongly_evicted),
    )
    if seconds >= STEADY_S:
        ok, told = watch.is_flat()
        report.check(ok, "%s: %s" % (name, told))


def check_values(report, name, server, clients):
    report.check(True, "%s: %d keys are right at the end" % (name, sum(ask_all(clients, "verify"))))
    server.restart("kill9")
    ask_all(clients, "connect")
    report.check(
        True, "%s: %d keys are right after kill -9" % (name, sum(ask_all(clients, "verify")))
    )
    if name == "rate":
        wait_until(
            lambda: server.stats()["curr_items"] == "0",
            "what has expired leaves the index",
            SETTLE_S,
        )


def play(report, name, options):
    scene = scenes(options)[name]
    mode = progress.mode_options(options.mode or scene.mode)
    server = Server("-t", "2", *scene.options, *mode, "--disk-limit=%dm" % scene.limit_mib)
    clients = [Client(scene.make, server, number) for number in range(options.clients)]
    watch = Watch(server, name)
    try:
        ask_all(clients, "connect")
        ask_all(clients, "load")
        watch.sample()
        run_clients(clients, watch, options)
        operations = sum(client.operations.value for client in clients)
        report.check(True, "%s: %s operations, nothing refused" % (name, format(operations, ",")))
        check_bounds(report, name, watch, options.seconds)
        check_values(report, name, server, clients)
    except (Failed, AssertionError, OSError, EOFError) as error:
        tell_failure(report, name, server, watch, clients, error)
    finally:
        for client in clients:
            client.process.terminate()
        for complaint in support.end_test():
            report.check(False, "%s: %s" % (name, common.shorten(complaint)))


def tell_failure(report, name, server, watch, clients, error):
    operations = sum(client.operations.value for client in clients)
    report.check(
        False,
        "%s: after %.0f s and %s operations: %s"
        % (name, time.monotonic() - watch.began, format(operations, ","), common.shorten(error)),
    )
    try:
        watch.tell(watch.sample(), operations, 0)
    except (OSError, AssertionError) as also:
        say("  %s: no statistics: %s" % (name, common.shorten(also)))
    say("  %s: the server says: %s" % (name, progress.messages(server)[-10:]))


def play_side_by_side(options, arguments):
    """Each scene in a program of its own."""
    children = [
        subprocess.Popen([sys.executable, __file__, *arguments, "--scenes", name])
        for name in options.scenes
    ]
    try:
        return max(child.wait() for child in children)
    except KeyboardInterrupt:
        return 130
    finally:
        for child in children:
            child.terminate()
            child.wait()


def main():
    parser = common.options("soak", __doc__)
    names = ("sessions", "queue", "rate", "mix")
    letters = dict(zip("abcd", names))
    parser.add_argument(
        "--scenes",
        type=common.words(*names, *letters),
        default=",".join(names),
        help="a,b,c,d or their names: sessions, queue, rate, mix; several run side by side",
    )
    parser.add_argument("--seconds", type=float, default=3600, help="of each scene")
    parser.add_argument("--keys", type=common.number, default="1m", help="of the sessions")
    parser.add_argument("--clients", type=int, default=2, help="of each scene")
    parser.add_argument(
        "--mode", choices=("store", "cache"), help="of all scenes, instead of their own"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="another choice of keys, sizes and TTLs"
    )
    options = parser.parse_args()
    options.scenes = [letters.get(name, name) for name in options.scenes]
    if len(options.scenes) > 1:
        signal.signal(signal.SIGTERM, common.interrupt)
        return play_side_by_side(options, sys.argv[1:])
    return common.run(
        "soak " + options.scenes[0], lambda report: play(report, options.scenes[0], options)
    )


if __name__ == "__main__":
    sys.exit(main())
