"""What script/bench measures: the contestants, and the groups of rows.

A group varies one thing and becomes one table. Its setups are started one after the other; the rows
of a setup share its servers and the keys they were loaded with.
"""

from dataclasses import dataclass, replace

import servers

NUMBERS = ["--prefix=num:", "--op=incr"]  # incr wants values that are numbers: keys of their own


# ---- contestants ----

@dataclass(frozen=True)
class Contestant:
    name: str
    command: str
    program: str = ""  # what must be installed for it, "": it is ours or the user's
    package: str = ""
    help_says: str = ""  # what the program's -h must speak of
    own_protocol: str = "text"
    more_protocols: tuple = ("meta", "binary")
    is_floor: bool = False  # stores nothing: only its CPU is shown

    def protocol_for(self, row):
        """How it is asked for the row, None if it does not speak that protocol."""
        if not row.protocol:
            return self.own_protocol
        return row.protocol if row.protocol in self.more_protocols else None


CONTESTANTS = {contestant.name: contestant for contestant in [
    Contestant("memcached", servers.MEMCACHED, "memcached", "memcached"),
    Contestant("memcached-extstore", servers.MEMCACHED + " -o ext_path={dir}/extstore:2g",
               "memcached", "memcached", help_says="ext_path"),
    Contestant("redis", servers.REDIS, "redis-server", "redis-server",
               own_protocol="redis", more_protocols=()),
    Contestant("cachecask", servers.CACHECASK),
    Contestant("echo", "{echo} -p {port} -l 127.0.0.1 -s {value_bytes}", more_protocols=(),
               is_floor=True),
]}


# ---- rows ----

@dataclass(frozen=True)
class Row:
    name: str
    title: str
    options: tuple  # of the load generator
    protocol: str = ""  # "": each server's own
    writes: bool = False
    is_quick: bool = False   # one of those that --quick measures
    in_readme: bool = False  # and README.md shows

    def of_numbers(self):
        return set(NUMBERS) <= set(self.options)


def both_ways(name, title, *options, **more):
    """The row with one request a round trip, and with 32 in a pipeline."""
    return [Row(f"{name}1", f"{title}, one a round trip", options, **more),
            Row(f"{name}p32", f"{title}, 32 in a pipeline", (*options, "--pipeline=32"), **more)]


def in_protocol(protocol):
    return [replace(row, name=f"{protocol}-{row.name}", title=f"{protocol} {row.title}",
                    protocol=protocol, is_quick=True) for row in GET + SET]


ZIPF = "--distribution=zipf:1.0"

GET = both_ways("get", "get", "--op=get")
SET = both_ways("set", "set", "--op=set", writes=True)
MULTIGET = [Row("mget50", "multiget of 50", ("--op=get", "--multiget=50"), is_quick=True)]


def shown(rows):
    return [replace(row, is_quick=True, in_readme=True) for row in rows]


OTHERS = [
    *both_ways("mix", "90 gets, 10 sets", "--op=mix", writes=True),
    *both_ways("zipf", "get, zipf 1.0", "--op=get", ZIPF),
    *both_ways("incr", "incr", *NUMBERS, writes=True),
    *both_ways("touch", "touch", "--op=touch", writes=True),
]
COLD = [
    *both_ways("zipf", "get, zipf 1.0", "--op=get", ZIPF),
    Row("get1", "get, uniform, one a round trip", ("--op=get",)),
    Row("mix1", "90 gets, 10 sets, zipf 1.0, one a round trip", ("--op=mix", ZIPF), writes=True),
]


# ---- groups ----

@dataclass(frozen=True)
class Setup:
    """What servers are started with, and what they are loaded with."""
    rows: list
    workers: int = 1  # threads of a server, and of the load
    connections: int = 50
    value_bytes: int = 100
    keys: int = 1_000_000
    memory_mb: int = 1024
    is_cold: bool = False  # most values are on disk only

    def is_pinned(self):
        """With one worker: the server has one core, the load another."""
        return self.workers == 1


@dataclass(frozen=True)
class Group:
    name: str
    title: str
    contestants: list  # names; ratios are to the first
    setups: list
    note: str = ""  # what else a reader of the table must know

    def rows(self):
        return [row for setup in self.setups for row in setup.rows]


def named(name, rows):
    """All rows have different names; those of README.md have the short ones."""
    return [replace(row, name=f"{name}-{row.name}") for row in rows]


def setup(name, label, rows, **settings):
    """One of several setups of a group: its rows say which."""
    return Setup([replace(row, title=f"{label}: {row.title}") for row in named(name, rows)],
                 **settings)


SERVERS = ["memcached", "cachecask"]
FLOORED = SERVERS + ["echo"]

# Few enough keys that all fit into -m of every contestant, however it cuts its memory.
KEYS_OF_BYTES = {10: 1_000_000, 1_000: 200_000, 10_000: 20_000, 500_000: 400}


def values(value_bytes):
    rows = GET + SET if value_bytes <= 10_000 else [GET[0], SET[0]]
    return setup(f"v{value_bytes}", f"{value_bytes:,} bytes", rows, value_bytes=value_bytes,
                 keys=KEYS_OF_BYTES[value_bytes])


GROUPS = {group.name: group for group in [
    Group("base", "One worker", FLOORED,
          [Setup(shown(GET) + MULTIGET + shown(SET) + OTHERS + in_protocol("meta")
                 + in_protocol("binary"))]),
    Group("connections", "Few and many connections", FLOORED, [
        setup("c1", "1 connection", GET + SET, connections=1),
        setup("c1000", "1,000 connections", GET + SET, connections=1_000)]),
    Group("values", "Small and large values", FLOORED,
          [values(value_bytes) for value_bytes in KEYS_OF_BYTES]),
    Group("workers", "More workers", SERVERS, [
        setup("w2", "2 workers", GET + SET, workers=2),
        setup("w4", "4 workers", GET + SET, workers=4)]),
    Group("cold", "Ten times more data than memory", ["memcached-extstore", "cachecask"],
          [Setup(named("cold", COLD), value_bytes=1_000, keys=640_000, memory_mb=64,
                 is_cold=True)],
          "Before each measurement the servers' files left the system's page cache."),
    Group("durable", "Writes that last", ["redis", "cachecask"],
          [Setup(named("durable", SET + GET))],
          "Both sync once a second: Redis with appendonly and appendfsync everysec, cachecask by "
          "default."),
]}
