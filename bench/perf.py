#!/usr/bin/python3
"""Shows where the time of a server's requests goes.

Rows of script/bench run against one server while perf samples its process, all threads. Each sample
counts by the code it is in, and once more by the call of the system it is within; "ring" is what
receives and sends through it cost more than they cost themselves, "other threads" is all that no
worker does.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import time

import compare
import groups
import servers
from servers import Failure, say

DEFAULT_ROWS = "get1,set1,getp32,mget50,setp32,v10000-setp32,v500000-set1"
EDGE_MS = 500  # of the load, at its beginning and its end, without samples
PERF_TIMEOUT_S = 60
FUNCTIONS = 6  # that are named
LEAST_SHARE = 0.01

# By the name of the file that the code is in.
CODE = {
    "kernel": r"^\[kernel",
    "cachecask": r"^cachecask$",
    "libc": r"^libc\.",
    "libevent": r"^libevent",
}

# By functions of the kernel that the sample is in, or was called from; the first that fits.
CALLS = {
    "send": r"^(tcp_sendmsg|sock_sendmsg|____sys_sendmsg|__sys_sendto)$",
    "receive": r"^(tcp_recvmsg|sock_recvmsg|__sys_recvfrom|sock_read_iter)$",
    "epoll": r"^(do_epoll_wait|__x64_sys_epoll_wait)$",
    "write": r"^(ksys_pwrite64|__x64_sys_pwrite64|vfs_writev)$",
    "ring": r"^(__do_sys_io_uring_enter|__x64_sys_io_uring_enter)$",
}


class Profile:
    """What was found of one row."""

    def __init__(self):
        self.samples = 0
        self.workers = 0
        self.code = collections.Counter()
        self.calls = collections.Counter()
        self.functions = collections.Counter()

    def add(self, thread, frames):
        """Frames are pairs of function and file, the innermost first."""
        function, file = frames[0]
        self.samples += 1
        self.workers += thread == "cc-worker"
        self.code[first_that_fits(CODE, [os.path.basename(file)])] += 1
        self.calls[first_that_fits(CALLS, [name for name, _ in frames])] += 1
        if not file.startswith("["):
            self.functions[plain(function)] += 1

    def share(self, count):
        return f"{count / self.samples:.0%}".replace("%", " %") if count else ""

    def cells(self):
        code = [self.share(self.code[name]) for name in CODE]
        calls = [self.share(self.calls[name]) for name in CALLS]
        return [*code, *calls, self.share(self.samples - self.workers)]

    def most(self):
        return ", ".join(f"`{name}` {self.share(count)}"
                         for name, count in self.functions.most_common(FUNCTIONS)
                         if count >= LEAST_SHARE * self.samples)


def plain(function):
    """Without what the linker and the compiler have added to its name."""
    return re.sub(r"^__GI_+|@.*|\.(isra|part|constprop).*", "", function)


def first_that_fits(patterns, names):
    for kind, pattern in patterns.items():
        if any(re.search(pattern, name) for name in names):
            return kind
    return ""


def parse(text):
    """Of what perf script prints: a line with the thread, one for each frame (address, function and
    file), and an empty one."""
    profile = Profile()
    for block in text.split("\n\n"):
        thread, *lines = block.strip("\n").split("\n")
        frames = [found.groups() for found in
                  (re.match(r"\s*[0-9a-f]+ (.+) \((.*)\)$", line) for line in lines)
                  if found]
        if frames:
            profile.add(thread.strip(), frames)
    return profile


def result_of(perf):
    """Its output, when it ends."""
    output, message = perf.communicate(timeout=PERF_TIMEOUT_S)
    if perf.returncode != 0:
        raise Failure("perf: " + message.decode("utf-8", "replace").strip())
    return output.decode("utf-8", "replace")


def start_perf(*words):
    return subprocess.Popen(["perf", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def profile_row(arguments, place, setup, runner, row):
    """The load begins before the samples and ends after them."""
    data = os.path.join(place.path, "perf.data")
    with start_perf("record", "--quiet", "--call-graph=fp", f"--output={data}",
                    f"--pid={runner.server.process.pid}", f"--delay={EDGE_MS}", "--", "sleep",
                    str(arguments.seconds - EDGE_MS / 1000)) as perf:
        sample = compare.measure(arguments, setup, runner, row)
        result_of(perf)
    with start_perf("script", f"--input={data}", "--fields=comm,ip,sym,dso") as perf:
        profile = parse(result_of(perf))
    say(f"{row.name}: {sample.rate:,.0f}/s, {sample.server_cpu_us:.2f} µs CPU, "
        f"{profile.samples:,} samples")
    cells = [row.title, f"{sample.server_cpu_us:.3g}", *profile.cells()]
    return cells, f"- {row.title}: {profile.most()}"


def profile_setup(arguments, place, setup):
    runner = compare.start(arguments, place, setup, groups.CONTESTANTS["cachecask"])
    compare.load_keys(arguments, setup, runner)
    found = []
    for row in setup.rows:
        compare.settle(setup, runner, True)
        found.append(profile_row(arguments, place, setup, runner, row))
    place.end(runner.server)
    return found


def profile_all(arguments, place):
    if not shutil.which("perf"):
        raise Failure("perf is not installed; it is in Debian's package linux-perf")
    found = [row for group in groups.GROUPS.values()
             for setup in compare.chosen_setups(arguments, group)
             for row in profile_setup(arguments, place, setup)]
    print("| work | " + " | ".join(["CPU, µs/op", *CODE, *CALLS, "other threads"]) + " |")
    print("|---|" + "---:|" * (len(CODE) + len(CALLS) + 2))
    for cells, _ in found:
        print("| " + " | ".join(cells) + " |")
    print("\nMost of it outside of the kernel:\n")
    print("\n".join(functions for _, functions in found))
    print(f"\n`perf record`, {arguments.seconds - 2 * EDGE_MS / 1000:g} s a row; shares of all CPU "
          f"of the process. {servers.processor()}, Linux {os.uname().release}, "
          f"{time.strftime('%Y-%m-%d')}.")


def parse_arguments():
    parser = servers.make_parser(
        "profile", __doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", default=DEFAULT_ROWS, help="rows of script/bench")
    parser.add_argument("--seconds", type=float, default=4, help="length of the load of a row")
    parser.add_argument("--keys", type=int, help="no setup has more keys than that")
    parser.add_argument("--bench", default=servers.BENCH, help="the load generator")
    arguments = parser.parse_args()
    arguments.echo = ""
    known = {row.name for group in groups.GROUPS.values() for row in group.rows()}
    arguments.rows = compare.checked(parser, "row", set(arguments.rows.split(",")), known)
    return arguments


if __name__ == "__main__":
    sys.exit(servers.run(parse_arguments(), profile_all))
