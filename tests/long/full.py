"""A full store: what is dead is always taken back, and what is there can always be overwritten.

With -M, half of the disk holds keys that stay. Then unique keys are set and deleted, or expire
after a second, until three times the disk was written: nothing may be refused. And a store full of
the smallest records takes others in their place.
"""
import os
import sys
import time

import common
from common import MIB, say

os.environ.setdefault("CACHECASK_ANSWER_S", "15")
import progress  # noqa: E402  pylint: disable=wrong-import-position
import workloads  # noqa: E402  pylint: disable=wrong-import-position
from support import Server  # noqa: E402  pylint: disable=wrong-import-position

SAY_S = 10


def lsn(server):
    return int(server.stats("store")["lsn"])


def store(options, static_share):
    """A server, and how many keys of 100 bytes fill that share of its disk."""
    limits = ["-m", str(options.memory), "--disk-limit=%dm" % options.limit]
    server = Server("-t", "2", *limits, *progress.mode_options(options.mode))
    return server, int(options.limit * MIB * static_share / workloads.record_size(16, 100))


def write_three_times(server, workload, options, bytes_a_second=None):
    workload.connect()
    workload.load()
    first, began, said = lsn(server), time.monotonic(), 0
    most, written, operations = 0, 0, 0
    while written < options.times * options.limit * MIB:
        for _ in range(10):
            operations += workload.step()
        written = lsn(server) - first
        if bytes_a_second:
            time.sleep(max(0, began + written / bytes_a_second - time.monotonic()))
        most = max(most, server.disk_bytes())
        if time.monotonic() - said > SAY_S:
            said = time.monotonic()
            say("    %d MB of the log written, %d MB on disk" % (written // MIB, most // MIB))
    workload.verify()
    stats = server.stats("store")
    server.restart("kill9")
    workload.connect()
    workload.verify()
    assert stats["evicted_items"] == "0", "%s keys were evicted" % stats["evicted_items"]
    limit = options.limit * MIB + progress.FILE_SYSTEM_BYTES
    assert most <= limit, "%.1f MiB on disk" % (most / MIB)
    return "%d operations, at most %.1f MiB on disk" % (operations, most / MIB)


def told(workload, action):
    try:
        return action()
    except workloads.Unexpected as error:
        stats = workload.server.stats("store")
        live, dead = int(stats["live_bytes"]) / MIB, int(stats["dead_bytes"]) / MIB
        raise AssertionError(
            "after %d keys: %s; %.1f MiB live, %.1f dead, %s cleaned, %s evicted"
            % (workload.head, error, live, dead, stats["cleaner_segments"], stats["evicted_items"])
        ) from error


def queue(options):
    server, static = store(options, 0.5)
    workload = workloads.Queue(server, static=static, depth=1000, longest=100)
    return told(workload, lambda: write_three_times(server, workload, options))


def expire(options):
    """What has not expired yet is alive: an eighth of the disk at most."""
    server, static = store(options, 0.5)
    workload = workloads.Queue(server, static=static, longest=100, exptime=1)
    return told(
        workload, lambda: write_three_times(server, workload, options, options.limit * MIB / 16)
    )


def overwrite(options):
    return progress.overwrites_of_a_full_store(options.memory, options.limit)


SCENES = {"queue": queue, "expire": expire, "overwrite": overwrite}


def main():
    parser = common.options("full", __doc__)
    parser.add_argument("--memory", type=int, default=64, help="-m")
    parser.add_argument("--limit", type=int, default=64, help="--disk-limit, MiB")
    parser.add_argument("--times", type=float, default=3, help="how often the disk is written")
    parser.add_argument(
        "--mode", choices=("store", "cache"), default="store", help="with -M or without"
    )
    parser.add_argument(
        "--scenes", type=common.words(*SCENES), default=",".join(SCENES), help="what to run"
    )
    options = parser.parse_args()

    def work(report):
        for scene in options.scenes:
            report.attempt(
                "%s, -m %d --disk-limit=%dm, %s"
                % (scene, options.memory, options.limit, options.mode),
                lambda: SCENES[scene](options),
            )

    return common.run("full", work)


if __name__ == "__main__":
    sys.exit(main())
