"""Tables of what script/bench has measured, and the files that they go to."""

import os
import statistics
import textwrap
from dataclasses import dataclass, field

import servers
from groups import Group
from servers import Failure

# Above this share of its cores, a process is what limits the rate.
FULL = 0.95
BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"


# ---- results ----

@dataclass
class Sample:
    rate: float
    server_cpu_us: float
    p99_us: float
    found: float         # share of the keys asked for that were there
    server_share: float  # of its cores that the server used
    load_share: float    # of its cores that the load used


@dataclass
class Cell:
    samples: list = field(default_factory=list)

    def median(self, what):
        return statistics.median(getattr(sample, what) for sample in self.samples)

    def spread(self):
        """Half the distance of the slowest from the fastest round, as a share of the median."""
        rates = [sample.rate for sample in self.samples]
        return (max(rates) - min(rates)) / 2 / statistics.median(rates)

    def load_limits(self):
        return self.median("load_share") > FULL > self.median("server_share")


@dataclass
class Result:
    """What was measured of a group."""
    group: Group
    contestants: list
    setups: list  # with those rows that were chosen
    cells: dict = field(default_factory=dict)  # by row name and contestant name
    versions: dict = field(default_factory=dict)

    def rows(self):
        return [row for setup in self.setups for row in setup.rows]

    def real(self):
        return [contestant.name for contestant in self.contestants if not contestant.is_floor]

    def floors(self):
        return [contestant.name for contestant in self.contestants if contestant.is_floor]

    def cells_of(self, rows, names):
        return [self.cells[row.name, name] for row in rows for name in names
                if (row.name, name) in self.cells]


# ---- the table ----

def count(value):
    return f"{value:,.0f}"


def microseconds(value):
    return f"{value:.2f}" if value < 100 else count(value)


def shown(cell, what, form):
    return form(cell.median(what)) if cell else ""


def rate(cell):
    return shown(cell, "rate", count) + (" ¹" if cell and cell.load_limits() else "")


def ratio(cell, base, what):
    return f"{cell.median(what) / base.median(what):.2f}" if cell and base else ""


def head(result, is_brief):
    base, *others = result.real()
    ratios = ["ratio"] if len(others) == 1 else [f"{other} : {base}" for other in others]
    first = ["work", *[f"{name}, ops/s" for name in result.real()], *ratios,
             *[f"{name}, CPU µs/op" for name in result.real()], *ratios]
    return first if is_brief else [*first,
                                   *[f"{name} floor, CPU µs/op" for name in result.floors()],
                                   *[f"{name}, p99 µs" for name in result.real()]]


def line(result, row, is_brief):
    cells = [result.cells.get((row.name, name)) for name in result.real()]
    floors = [result.cells.get((row.name, name)) for name in result.floors()]
    base, *others = cells
    rates = [ratio(cell, base, "rate") for cell in others]
    first = [row.title, *map(rate, cells), *[f"**{text}**" if text else "" for text in rates],
             *[shown(cell, "server_cpu_us", microseconds) for cell in cells],
             *[ratio(cell, base, "server_cpu_us") for cell in others]]
    return first if is_brief else [*first,
                                   *[shown(cell, "server_cpu_us", microseconds) for cell in floors],
                                   *[shown(cell, "p99_us", count) for cell in cells]]


def table(result, rows, is_brief=False):
    """is_brief: without the floor and the latencies."""
    names = head(result, is_brief)
    lines = [names, *[line(result, row, is_brief) for row in rows]]
    texts = ["| " + " | ".join(cells) + " |" for cells in lines]
    return [texts[0], "|---|" + "---:|" * (len(names) - 1), *texts[1:]]


# ---- what stands below it ----

def alternatives(numbers):
    """'10, 100 or 1,000'"""
    *first, last = [f"{number:,}" for number in sorted(set(numbers))]
    return f"{', '.join(first)} or {last}" if first else last


def placement(setups):
    if all(setup.is_pinned() for setup in setups):
        return "one worker thread, the whole process on one core; the load on another"
    workers = alternatives(setup.workers for setup in setups)
    return (f"{workers} worker threads, and as many of the load, on any of "
            f"{len(os.sched_getaffinity(0))} cores")


def settings(setups):
    def of(what):
        return alternatives(getattr(setup, what) for setup in setups)

    return (f"{placement(setups)}, {of('connections')} connections, {of('keys')} keys of 16 bytes, "
            f"values of {of('value_bytes')} bytes, {of('memory_mb')} MiB of memory")


def found_notes(result, rows):
    for name in result.real():
        found = min([cell.median("found") for cell in result.cells_of(rows, [name])], default=1)
        if found < 1:
            yield (f"{name} had evicted some of the keys: of those asked for, {found:.1%} or more "
                   "were there.")


def notes(result, rows, is_brief=False):
    """About one table."""
    names = [f"{contestant.name} {result.versions[contestant.name]}".strip()
             for contestant in result.contestants if not (is_brief and contestant.is_floor)]
    setups = [setup for setup in result.setups if any(row in rows for row in setup.rows)]
    cells = result.cells_of(rows, result.real() + result.floors())
    text = [f"{', '.join(names)}: {settings(setups)}. "
            f"At most ±{max(cell.spread() for cell in cells):.0%} between rounds."]
    text += [result.group.note] if result.group.note else []
    text += found_notes(result, rows)
    if any(cell.load_limits() for cell in result.cells_of(rows, result.real())):
        text.append("¹ The load's cores were full and the server's were not: the server can do "
                    "more.")
    return text


def run_notes(arguments):
    """About all tables of a run."""
    return [f"Medians of {arguments.rounds} alternating rounds of {arguments.seconds:g} s. "
            f"{servers.processor()}, Linux {os.uname().release}.",
            "Ratios are to the first server: rates above 1 and CPU below 1 speak for the other."]


# ---- texts and files ----

def readme_text(arguments, result):
    rows = [row for row in result.rows() if row.in_readme]
    text = " ".join([*notes(result, rows, is_brief=True), *run_notes(arguments)])
    return [*table(result, rows, is_brief=True), "", *textwrap.wrap(text, 100)]


def group_text(result):
    rows = result.rows()
    return [f"### {result.group.title}", "", *table(result, rows), "", *notes(result, rows)]


def all_text(arguments, results):
    lines = run_notes(arguments)
    for result in results:
        lines += ["", *group_text(result)]
    return lines


def has_marks(path):
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    return BEGIN in lines and END in lines


def replace_between_marks(path, new):
    if not has_marks(path):
        raise Failure(f"{path}: it has no lines {BEGIN} and {END}")
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    lines[lines.index(BEGIN) + 1:lines.index(END)] = new
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
