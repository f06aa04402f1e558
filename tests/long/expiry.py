"""Many keys expire: together, in several seconds, or at random over a minute.

Each round loads its keys, alone or beside as many that stay, lets them expire while nothing else
happens, while keys are deleted and set, or while all is flushed, and then asks: is the server
alive, does it count exactly the keys that are left, are they there and the others not, and is the
memory of the index given back? All combinations of the options are tried.
"""
import random
import sys
import time

import common
from common import MIB, say
import loads
from support import Server, wait_until

VALUE_SIZE = 10
PARTS = 32  # of the keys whose seconds are random: each part has a second of its own
SPREADS = {"one": 1, "several": 5, "random": 60}
KEYDIR_BYTES = 26  # a key; a table is made smaller when half of its size will do
KEYDIR_LEAST = 8 * MIB  # of empty shards
SAMPLE = 2000
STALL_S = 60  # in which at least one more key must go


class Round:
    def __init__(self, options, count, spread, beside, meanwhile, threads):
        self.options = options
        self.count = count
        self.spread = spread
        self.stay = count if beside else 0
        self.meanwhile = meanwhile
        self.threads = threads
        self.random = random.Random("%d %d %s" % (options.seed, count, spread))

    def title(self):
        return "%s keys, %s, %s, %s, -t %d" % (
            format(self.count, ","),
            "%s second%s" % (self.spread, "" if self.spread == "one" else "s"),
            "beside as many" if self.stay else "alone",
            self.meanwhile,
            self.threads,
        )

    def run(self):
        memory = max(64, (self.count + self.stay) * KEYDIR_BYTES * 3 // 2 // MIB)
        disk = max(1024, (self.count + self.stay) * 100 * 3 // MIB)
        self.server = Server("-m", str(memory), "-t", str(self.threads), "--disk-limit=%dm" % disk)
        loads.load_keys(self.server, self.stay, VALUE_SIZE, "--prefix stay:")
        rate = self.load_expiring()
        peak = self.keydir_bytes()
        left = getattr(self, "meanwhile_" + self.meanwhile)()
        seconds = self.wait_until_gone(sum(left.values()))
        self.check_keys(left)
        bound = max(KEYDIR_LEAST, 2 * sum(left.values()) * KEYDIR_BYTES)
        wait_until(
            lambda: self.keydir_bytes() <= bound,
            "the index takes at most %d bytes again" % bound,
            60,
        )
        return (
            "%.0f sets a second, gone %.1f s after the last second, keydir %.1f MiB, then %.1f"
            % (rate, seconds, peak / MIB, self.keydir_bytes() / MIB)
        )

    # Loading

    def seconds_of_parts(self, first):
        """(part of the keys, second in which it expires)"""
        spread = SPREADS[self.spread]
        if self.spread == "random":
            return [(n, first + self.random.randrange(spread)) for n in range(PARTS)]
        return [(n, first + n) for n in range(spread)]

    def load_expiring(self):
        """The seconds lie behind the load, as far as that can be foreseen."""
        took = time.monotonic()
        first = int(time.time()) + 3 + int(self.count / self.options.rate)
        parts = self.seconds_of_parts(first)
        self.last = max(second for _, second in parts)
        self.parts = len(parts)
        for part, second in parts:
            count = self.count // self.parts
            loads.load_keys(self.server, count, VALUE_SIZE, f"--prefix go{part}: -e {second}")
        if time.time() > first:
            say("    the load took longer than was foreseen: see --rate")
        return self.count / (time.monotonic() - took)

    # What happens meanwhile. Each answers which keys must be left: {prefix: count}

    def meanwhile_quiet(self):
        return {"stay:": self.stay}

    def meanwhile_deletes(self):
        """Of both kinds, and new ones come: inserts meet shards that shrink."""
        common.support.sleep_until(
            time.monotonic() + self.last - time.time() - SPREADS[self.spread]
        )
        fresh = self.count // 4
        others = self.deletion("go0:", self.count // self.parts)
        new = f"--load -k {fresh} -S {VALUE_SIZE} --prefix fresh: -P 16"
        with loads.Load(self.server, others) as first, loads.Load(self.server, new) as second:
            gone = self.stay // 2
            if gone:
                loads.load(self.server, self.deletion("stay:", gone))
            first.result()
            second.result()
        return {"stay:": self.stay - gone, "fresh:": fresh}

    def deletion(self, prefix, count):
        return f"-o delete -D sequential -k {count} -n {count} --prefix {prefix} -c 4 -P 16"

    def meanwhile_flush(self):
        common.support.sleep_until(time.monotonic() + self.last - time.time())
        with self.server.connect() as client:
            client.talk(b"flush_all\r\n", b"OK\r\n")
        time.sleep(1.1)  # what is set in the second of a flush may go with it
        fresh = self.count // 4
        loads.load_keys(self.server, fresh, VALUE_SIZE, "--prefix fresh:")
        return {"stay:": 0, "fresh:": fresh}

    # What must be so afterwards

    def wait_until_gone(self, left):
        """However busy the machine is, the count must go on sinking."""
        common.support.sleep_until(time.monotonic() + self.last - time.time())
        began = moved = time.monotonic()
        least = None
        while True:
            assert self.server.is_alive(), "the server has died: %s" % self.server.log()[-500:]
            items = int(self.server.stats()["curr_items"])
            now = time.monotonic()
            if items == left:
                return now - began
            assert items > left, "%d keys are counted, %d must be left" % (items, left)
            if least is None or items < least:
                least, moved = items, now
            stuck = now - moved
            assert stuck < STALL_S, "still %d keys after %d s, not %d" % (items, stuck, left)
            time.sleep(0.2)

    def check_keys(self, left):
        """Those that are left, each one; of the others a sample."""
        for prefix, count in left.items():
            self.check_there(prefix, count)
        with self.server.connect() as client:
            for _ in range(SAMPLE):
                part = "go%d" % self.random.randrange(self.parts)
                key = self.key(part, self.random.randrange(self.count // self.parts))
                assert client.get(key) is None, key
        assert int(self.server.stats()["curr_items"]) == sum(left.values())

    def key(self, prefix, index):
        """As cachecask-bench makes them: 16 bytes."""
        return ("%s:%0*d" % (prefix, 15 - len(prefix), index)).encode()

    def check_there(self, prefix, count):
        """Deletions took the first ones of those that stay."""
        if not count:
            return
        if prefix == "stay:" and count < self.stay:
            with self.server.connect() as client:
                for _ in range(SAMPLE):
                    index = self.random.randrange(self.stay)
                    found = client.get(self.key("stay", index)) is not None
                    assert found == (index >= self.stay - count), "stay: %d: %s" % (index, found)
            return
        found = loads.load(
            self.server, f"--verify-all -k {count} -S {VALUE_SIZE} --prefix {prefix} -c 8 -P 32"
        )
        assert found["hits"] == count, "%d of %d are there" % (found["hits"], count)

    def keydir_bytes(self):
        return int(self.server.stats("store")["keydir_bytes"])


def rounds(options):
    for count in options.keys:
        for threads in options.threads:
            for spread in options.ttls:
                for beside in options.beside:
                    for meanwhile in options.meanwhile:
                        yield Round(options, count, spread, beside == "stay", meanwhile, threads)


def main():
    parser = common.options("expiry", __doc__)
    parser.add_argument(
        "--keys",
        type=common.numbers,
        default="300k,1m,3m,10m,50m",
        help="that expire, a round each",
    )
    parser.add_argument("--threads", type=common.numbers, default="1,2,4", help="-t")
    parser.add_argument(
        "--ttls",
        type=common.words(*SPREADS),
        default=",".join(SPREADS),
        help="in how many seconds they expire",
    )
    parser.add_argument(
        "--beside",
        type=common.words("alone", "stay"),
        default="alone,stay",
        help="as many that stay, or none",
    )
    parser.add_argument(
        "--meanwhile",
        type=common.words("quiet", "deletes", "flush"),
        default="quiet,deletes,flush",
        help="what clients do as they expire",
    )
    parser.add_argument(
        "--rate",
        type=common.number,
        default="300k",
        help="keys a second that are loaded here at least",
    )
    parser.add_argument("--seed", type=int, default=1, help="other seconds")
    options = parser.parse_args()

    def work(report):
        for one in rounds(options):
            report.attempt(one.title(), one.run)

    return common.run("expiry", work)


if __name__ == "__main__":
    sys.exit(main())
