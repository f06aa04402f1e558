#!/usr/bin/python3
"""Measures servers side by side and prints tables.

Every contestant of a group is started once, pinned whole to one core, and loaded with the same
keys; the load runs on another core. For each row of a table the contestants take turns, round after
round, so that whatever else the machine does meets all of them; medians are shown. The CPU of a
server is the utime and stime of its process, all threads, before and after each measurement.

The echo server answers with the same bytes and stores nothing: what it costs, no server can save.

groups.py says what is measured, tables.py what is made of it.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import groups
import servers
import tables
from servers import Failure, say

LOAD_TIMEOUT_S = 300
WEAR_WRITES = 3
SYNC_TIMEOUT_S = 60
SETTLE_S = 0.2
README = os.path.join(servers.ROOT, "README.md")
DOCS = os.path.join(servers.ROOT, "docs/performance.md")

# A cold load: small values first, for memcached gives its memory to sizes as they come, and what
# extstore keeps there of a value is small; then no faster than extstore writes, or it evicts.
COLD_FIRST_BYTES = 10
COLD_BYTES_PER_S = 30_000_000


@dataclass
class Runner:
    """A contestant that runs."""
    contestant: groups.Contestant
    server: servers.Server

    @property
    def name(self):
        return self.contestant.name


# ---- measuring ----

def load(arguments, setup, runner, options, timeout, protocol=None):
    """Runs the load generator; where options repeat what the setup says, they hold."""
    _, core = choose_cores(setup)
    common = [f"--protocol={protocol or runner.contestant.own_protocol}", f"--keys={setup.keys}",
              f"--value-size={setup.value_bytes}", f"--connections={setup.connections}",
              f"--threads={min(setup.workers, setup.connections)}"]
    return runner.server.load(arguments.bench, [*common, *options], timeout, core)


def load_cold(arguments, setup, runner):
    load(arguments, setup, runner, ["--load", f"--value-size={COLD_FIRST_BYTES}"], LOAD_TIMEOUT_S)
    load(arguments, setup, runner,
         ["--op=set", "--distribution=sequential", f"--requests={setup.keys}",
          f"--rate={COLD_BYTES_PER_S // setup.value_bytes}", "--pipeline=4", "--connections=8"],
         LOAD_TIMEOUT_S)


def wear(arguments, setup, runner):
    """Writes every key some times more: a server that puts new values beside old ones takes memory
    from the system at first, and then no more."""
    if any(row.writes for row in setup.rows) and not runner.contestant.is_floor:
        load(arguments, setup, runner,
             ["--op=set", f"--requests={WEAR_WRITES * setup.keys}", "--pipeline=8"], LOAD_TIMEOUT_S)


def load_keys(arguments, setup, runner):
    say(f"{runner.name}: loading {setup.keys:,} keys of {setup.value_bytes:,} bytes")
    if setup.is_cold:
        load_cold(arguments, setup, runner)
    else:
        load(arguments, setup, runner, ["--load"], LOAD_TIMEOUT_S)
        wear(arguments, setup, runner)
    if any(row.of_numbers() for row in setup.rows):
        load(arguments, setup, runner, ["--load", *groups.NUMBERS, "--requests=1"], LOAD_TIMEOUT_S)


def measure(arguments, setup, runner, row):
    cpu_before = runner.server.cpu_seconds()
    phase = load(arguments, setup, runner, [*row.options, f"--duration={arguments.seconds}"],
                 arguments.seconds + 60, runner.contestant.protocol_for(row))
    cpu = runner.server.cpu_seconds() - cpu_before
    if phase["misses"] > 0 and not setup.is_cold:
        raise Failure(f"{runner.name}: {row.name}: {phase['misses']} of the keys that were loaded "
                      "are not there")
    operations = phase["operations"]
    asked = phase["hits"] + phase["misses"]
    load_cpu = phase["client_cpu_us_per_operation"] * operations / 1e6
    return tables.Sample(rate=phase["operations_per_second"],
                         server_cpu_us=cpu * 1e6 / operations,
                         p99_us=phase["latency_us"]["all"]["p99"],
                         found=phase["hits"] / asked if asked else 1,
                         server_share=cpu / phase["seconds"] / setup.workers,
                         load_share=load_cpu / phase["seconds"] / setup.workers)


def sync():
    try:
        subprocess.run(["sync"], timeout=SYNC_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        say("sync takes long; the disk may disturb the next measurement")


def settle(setup, runner, writes):
    """Unwritten data of one contestant must not slow the next one."""
    if writes or setup.is_cold:
        sync()
    if setup.is_cold:
        runner.server.forget_files()
    time.sleep(SETTLE_S)


def measure_row(arguments, setup, runners, row, cells):
    able = [runner for runner in runners if runner.contestant.protocol_for(row)]
    cells.update({(row.name, runner.name): tables.Cell() for runner in able})
    for number in range(arguments.rounds):
        turn = number % max(1, len(able))
        for runner in able[turn:] + able[:turn]:
            settle(setup, runner, row.writes)
            sample = measure(arguments, setup, runner, row)
            cells[row.name, runner.name].samples.append(sample)
            say(f"{row.name} {number + 1}/{arguments.rounds} {runner.name}: "
                f"{sample.rate:,.0f}/s, {sample.server_cpu_us:.2f} µs CPU, "
                f"p99 {sample.p99_us:,.0f} µs, cores: server {sample.server_share:.0%}, "
                f"load {sample.load_share:.0%}")


# ---- servers ----

def choose_cores(setup):
    """For the server and for the load; None: any."""
    if not setup.is_pinned():
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[min(1, len(cores) - 1)]


def start(arguments, place, setup, contestant):
    core, _ = choose_cores(setup)
    server = place.start(contestant.name, contestant.command, core, workers=setup.workers,
                         memory=setup.memory_mb, echo=shlex.quote(arguments.echo),
                         value_bytes=setup.value_bytes)
    server.wait_ready()
    return Runner(contestant, server)


def measure_setup(arguments, place, setup, result):
    runners = [start(arguments, place, setup, contestant) for contestant in result.contestants]
    for runner in runners:
        load_keys(arguments, setup, runner)
        result.versions[runner.name] = runner.server.version(runner.contestant.own_protocol)
    sync()
    for row in setup.rows:
        measure_row(arguments, setup, runners, row, result.cells)
    for runner in runners:
        place.end(runner.server)


def help_of(program):
    return subprocess.run([program, "-h"], stdin=subprocess.DEVNULL, capture_output=True,
                          check=False).stdout.decode("utf-8", "replace")


def is_there(contestant):
    """Whether its program is installed, and can what is wanted of it; says so if not."""
    program, wanted = contestant.program, contestant.help_says
    why = None
    if program and not shutil.which(program):
        why = f"{program} is not installed"
    elif wanted and wanted not in help_of(program):
        why = f"this {program} knows no {wanted}"
    if why:
        say(f"{contestant.name} is left out: {why}; install Debian's package {contestant.package}")
    return not why


def measure_group(arguments, place, group):
    names = arguments.servers or group.contestants
    contestants = [arguments.contestants[name] for name in names
                   if is_there(arguments.contestants[name])]
    result = tables.Result(group, contestants, chosen_setups(arguments, group))
    if not result.real():
        say(f"{group.name} is left out: it has no server")
        return None
    for setup in result.setups:
        measure_setup(arguments, place, setup, result)
    return result


def measure_all(arguments, place):
    if len(os.sched_getaffinity(0)) < 2:
        say("Only one core: server and load share it, so rates say little.")
    results = []
    for group in arguments.groups:
        result = measure_group(arguments, place, group)
        if result:
            results.append(result)
            print("\n".join(tables.group_text(result)) + "\n", flush=True)
    print("\n".join(tables.run_notes(arguments)), flush=True)
    write(arguments, results)


def write(arguments, results):
    text = tables.all_text(arguments, results)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as output:
            output.write("\n".join(text) + "\n")
    if arguments.readme:
        base = next(result for result in results if result.group.name == "base")
        tables.replace_between_marks(README, tables.readme_text(arguments, base))
    if arguments.docs:
        tables.replace_between_marks(DOCS, text)


# ---- choosing ----

def chosen_setups(arguments, group):
    """The group's setups with those rows that were asked for, and with no more keys."""
    setups = []
    for setup in group.setups:
        rows = [row for row in setup.rows if row.name in arguments.rows]
        if rows:
            keys = min(setup.keys, arguments.keys or setup.keys)
            setups.append(replace(setup, rows=rows, keys=keys))
    return setups


def checked(parser, what, names, known):
    for name in names:
        if name not in known:
            parser.error(f"no {what} {name}; there are: {', '.join(known)}")
    return names


def choose_groups(parser, arguments):
    if not arguments.groups:
        only_base = arguments.quick or (arguments.servers and not arguments.rows)
        arguments.groups = "base" if only_base else ",".join(groups.GROUPS)
    names = checked(parser, "group", arguments.groups.split(","), groups.GROUPS)
    arguments.groups = [groups.GROUPS[name] for name in names]


def choose_rows(parser, arguments):
    """A set of names; drops the groups of which no row was chosen."""
    known = {row.name: row for group in arguments.groups for row in group.rows()}
    of_readme = {name for name, row in known.items() if row.in_readme}
    quick = {name for name, row in known.items() if row.is_quick}
    default = quick if arguments.quick and quick else known
    names = set(arguments.rows.split(",") if arguments.rows else default)
    if "readme" in names:
        names = names - {"readme"} | of_readme
    arguments.rows = checked(parser, "row", names, known)
    arguments.groups = [group for group in arguments.groups if chosen_setups(arguments, group)]
    if arguments.readme and not (of_readme and of_readme <= arguments.rows):
        parser.error("--readme needs the rows of README.md: --groups=base --rows=readme")


def choose_contestants(parser, arguments):
    arguments.contestants = dict(groups.CONTESTANTS)
    for given in arguments.server:
        name, equals, command = given.partition("=")
        if not equals:
            parser.error(f"--server {given}: not NAME=COMMAND")
        arguments.contestants[name] = groups.Contestant(name, command)
    if arguments.servers:
        arguments.servers = checked(parser, "server", arguments.servers.split(","),
                                    arguments.contestants)


# ---- command line ----

def make_parser():
    parser = servers.make_parser(
        "compare", __doc__,
        epilog="Groups and their rows. " + " ".join(
            f"{group.name}: {', '.join(row.name for row in group.rows())}."
            for group in groups.GROUPS.values()))
    parser.add_argument("--quick", action="store_true",
                        help="about two minutes: gets and sets in each protocol; unless they are "
                        "given, 3 rounds of 0.9 s and 200,000 keys")
    parser.add_argument("--groups", help="which groups (all)")
    parser.add_argument("--rows", help="which of their rows; 'readme' for those of README.md (all)")
    parser.add_argument("--servers", help="the contestants of every group; the first is what the "
                        "others are compared with (each group's own; then only the base group is "
                        "measured, unless groups or rows are given)")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="how to start one, with {port}, {dir}, {user}, {memory} and {workers} "
                        "in the command")
    parser.add_argument("--rounds", type=int, help="rounds (5, quick 3)")
    parser.add_argument("--seconds", type=float, help="length of a measurement (2, quick 0.9)")
    parser.add_argument("--keys", type=int, help="no setup has more keys than that (quick 200000)")
    parser.add_argument("--output", metavar="FILE", help="write the tables to a file too")
    parser.add_argument("--readme", action="store_true", help="write README.md's table into it")
    parser.add_argument("--docs", action="store_true",
                        help="write all tables into docs/performance.md")
    parser.add_argument("--bench", default=servers.BENCH, help="the load generator")
    parser.add_argument("--echo", default=os.path.join(servers.ROOT, "build/release/bench-echo"),
                        help="the echo server")
    return parser


def parse_arguments():
    parser = make_parser()
    arguments = parser.parse_args()
    for name, full, quick in [("rounds", 5, 3), ("seconds", 2, 0.9), ("keys", None, 200_000)]:
        given = getattr(arguments, name)
        if given is not None and given <= 0:
            parser.error(f"--{name} is more than 0")
        setattr(arguments, name, given or (quick if arguments.quick else full))
    choose_contestants(parser, arguments)
    choose_groups(parser, arguments)
    choose_rows(parser, arguments)
    for wanted, path in [(arguments.readme, README), (arguments.docs, DOCS)]:
        if wanted and not tables.has_marks(path):
            parser.error(f"{path} has no lines {tables.BEGIN} and {tables.END}")
    return arguments


if __name__ == "__main__":
    sys.exit(servers.run(parse_arguments(), measure_all))
