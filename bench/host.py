#!/usr/bin/python3
"""Tells what the host takes away, in a measurement that runs beside it: steal and stops.

On a machine that is shared, a server stands still when its host lets others run, and its clients
wait. A thread that only sleeps, on the server's core and at a priority above all others, meets the
same stops: how late it wakes is what no server could have done better. It counts as the load
generator does: each time at which it should have been awake, however long it overslept.
"""

import json
import os
import statistics
import subprocess
import sys
import time

STEP_S = 0.005
STEAL = 7  # among the numbers of a line of /proc/stat


def processor_times():
    with open("/proc/stat", encoding="ascii") as stat:
        return [int(word) for word in stat.readline().split()[1:9]]


def watch(core, seconds):
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pass  # then it waits for its turn, too
    before = processor_times()
    begin = time.monotonic()
    late_us = []
    while len(late_us) * STEP_S < seconds:
        due = begin + (len(late_us) + 1) * STEP_S
        time.sleep(max(0, due - time.monotonic()))
        now = time.monotonic()
        while due <= now:
            late_us.append((now - due) * 1e6)
            due = begin + (len(late_us) + 1) * STEP_S
    times = [after - was for was, after in zip(before, processor_times())]
    return {"steal_percent": 100 * times[STEAL] / sum(times),
            "late_p99_9_us": statistics.quantiles(late_us, n=1000, method="inclusive")[-1],
            "late_max_us": max(late_us)}


class Beside:
    """A process that runs beside a measurement, and no longer than that."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class Host(Beside):
    """The watch, beside a measurement of that many seconds."""

    def __init__(self, core, seconds):
        super().__init__([sys.executable, __file__, str(core), str(seconds)],
                         start_new_session=True)

    def result(self):
        """Waits for the end, and returns what watch() does."""
        return json.load(self.process.stdout)


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]), float(sys.argv[2]))))
