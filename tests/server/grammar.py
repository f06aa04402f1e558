"""Random commands of each protocol, right and wrong ones, for differential.py.

Few keys, so that commands meet; values of all sorts; expiries that are far away or past, as time
passes while they run. What is known to answer differently and to leave different data behind is not
made at all: differences.py lists it.
"""
import base64
import random
import struct


class Cas:
    """Stands in a command for the CAS unique of a key that was seen last; which one that is, each
    server has said itself."""

    def __init__(self, key):
        self.key = key


class Command:
    __slots__ = ("parts", "key", "last", "opaque")

    def __init__(self, parts, key=None, last=False, opaque=None):
        """parts: bytes, or a list of them with a Cas among them. last: the server is to close the
        connection."""
        self.parts = parts
        self.key = key
        self.last = last
        self.opaque = opaque

    def bytes(self, write_cas):
        if isinstance(self.parts, bytes):
            return self.parts
        return b"".join(write_cas(part.key) if isinstance(part, Cas) else part
                        for part in self.parts)

    def shown(self):
        return self.bytes(lambda key: b"<cas>")


class Dice(random.Random):
    """Cheaper than choice() and randrange()."""

    def pick(self, things):
        return things[int(self.random() * len(things))]

    def one_in(self, n):
        return self.random() * n < 1


LIMIT_STORED, LIMIT_REFUSED = 1047552, 1049600  # on either side of -I 1m, whatever the header takes
# No value gets to 2^63: in such a one 1.6.18 looks for a minus sign, and it looks in the memory
# after the value too.
KEYS = [b"a", b"b", b"key:3", b"Zm9v", b"x\x01y", b"\x80\xff\xfe", b"k" * 250, "schlüssel".encode()]
LONG_KEYS = [b"k" * 251, b"k" * 1000]
NUMBERS = [b"0", b"1", b"7", b"10", b"99", b"00012", b"4294967295", b"9223372036854770000"]
WORDS = [b"", b"x", b"abc", b"hello world", b"a\r\nb", b"12 ", b" 12", b"1.5", b"+1", b"0x10",
         b"99999999999999999999"]
FLAGS = [b"0", b"1", b"65535", b"4294967295"]
BAD_FLAGS = [b"-1", b"abc", b"1x", b"1.5", b"99999999999999999999"]
TIMES = [b"0", b"0", b"0", b"100000", b"2592000", b"2147483647"]
PAST_TIMES = [b"-1", b"2592001", b"-100"]
BAD_TIMES = [b"abc", b"1x", b"1.5", b"--1", b"99999999999999999999"]
DELTAS = [b"0", b"1", b"5", b"1000"]
DOWN = DELTAS + [b"18446744073709551615"]
BAD_DELTAS = [b"x", b"-1", b"1x", b"18446744073709551616", b"1.5"]
BAD_LENGTHS = [b"x", b"-1", b"1.5", b""]

# Of all these words lines are made in any order. No plus, no NUL and no number beyond 32 bits:
# 1.6.18 takes them differently.
SALAD = [b"k", b"foo", b"0", b"1", b"-1", b"00", b"5", b"100000", b"1.5", b"0x10", b"1e3",
         b"noreply", b"norepl", b"NOREPLY", b"\xff", b"k\tv", b"'", b"*", b"all", b"on", b"b", b"q",
         b"v", b"T0", b"T", b"I", b"k" * 250, b"", b""]
SALAD_NAMES = {b"get": 4, b"gets": 4, b"gett": 4, b"ge": 4, b"GET": 4, b"get\t": 4, b"noop": 4,
               b"incr": 3, b"decr": 3, b"touch": 3,
               b"delete": 2, b"verbosity": 2}  # and how many words of theirs 1.6.18 looks at
FLUSH_WORDS = [b"", b"x", b"0", b"-1", b"1.5", b"noreply", b"noreply noreply", b"noreply x",
               b"noreply 0", b"0 noreply", b"x noreply"]
OPERATORS_LINES = [b"slabs automove %s" % level
                   for level in (b"0", b"2", b"3", b"-1", b"ratio", b"ratio 0.5", b"ratio x")] + \
    [b"slabs reassign %s" % classes
     for classes in (b"1", b"1 1", b"x 1", b"99 1", b"1 99", b"-2 3")] + \
    [b"stats cachedump %s" % words for words in (b"", b"x 1", b"1 x", b"999 1")] + \
    [b"slabs x", b"cache_memlimit x", b"cache_memlimit 7", b"stats detail", b"stats detail x",
     b"stats nonsense"]
ODD_FLAGS = [b"k k", b"S0", b"P", b"Lx", b"Ppath", b"z", b"Z", b"I", b"b", b"q", b"q q", b"c",
             b"Tx", b"Fx", b"F-1", b"F5", b"Cx", b"T", b"C", b"J1", b"D5", b"R30", b"Rx", b"N0",
             b"T-1", b"0", b"7", b"!!", b"?", b"-", b"\x01", b"\xff"]


class Grammar:
    """incr and decr never meet a key that has been read in the same batch: as long as such an
    answer waits to be sent, memcached cannot write over the value, and then it does not pad a
    shorter number with blanks."""

    def __init__(self, dice):
        self.dice = dice
        self.keys = [dice.pick(KEYS) for _ in range(4)]
        self.read = set()  # in this batch

    def batch(self, size):
        self.read.clear()
        return [self.dice.pick(self.commands)() for _ in range(size)] + [self.probe()]

    def reads(self, key):
        """The key, for a command that reads its value."""
        self.read.add(key)
        return key

    def counts(self, key):
        """The key, or another one that incr and decr may meet."""
        return key if key not in self.read else b"not+read"

    def key(self):
        return self.dice.pick(self.keys)

    def time(self):
        return self.dice.pick(PAST_TIMES if self.dice.one_in(15) else TIMES)

    def value(self):
        dice = self.dice
        if dice.one_in(3):
            return dice.pick(NUMBERS)
        if dice.one_in(2):
            return dice.pick(WORDS)
        if dice.one_in(500):
            return b"L" * dice.pick([LIMIT_STORED, LIMIT_REFUSED, LIMIT_REFUSED + 70000])
        return b"v" * dice.pick([1, 7, 100, 300, 1023, 1024, 1025, 4000, 16384, 20000])

    def more(self):
        """What is appended or prepended, in one step or in two: nothing that makes a long value
        begin like a number. "12 vvv" is one for memcached; for us it is none when it has more than
        1024 bytes."""
        dice = self.dice
        return (dice.pick(NUMBERS + WORDS).strip() if dice.one_in(2)
                else b"v" * dice.pick([1, 7, 50]))


class Lines(Grammar):
    """Shared by the two text protocols."""

    def end(self):
        return b"\r\n" if self.dice.random() < 0.9 else self.dice.pick([b"\n", b" \r\n", b"  \n"])

    def block(self, value):
        """A data block, seldom a bad one; that one is as long as was announced, for the sake of
        what follows."""
        if self.dice.random() < 0.98:
            return value + b"\r\n"
        return value + self.dice.pick([b"xx", b"\n\n", b"\rx", b"x\n"])

    def noise(self):
        return b"".join(self.dice.pick([b"\x00", b"\x01", b"!", b"z", b"\xff", b" "])
                        for _ in range(4))


class Text(Lines):
    """The classic commands; one in ten is wrong in some way."""

    def __init__(self, dice):
        super().__init__(dice)
        self.commands = ([self.store] * 8 + [self.cas] * 3 + [self.get] * 6 +
                         [self.arithmetic] * 4 + [self.touch, self.gat, self.delete] * 2 +
                         [self.flush, self.wrong_line, self.wrong_store, self.wrong_key,
                          self.salad])

    def probe(self):
        """Comes last in a batch: it tells a CAS unique, so that a cas of the next one can match."""
        key = self.key()
        return Command(b"gets %s\r\n" % key, key)

    def farewell(self):
        return Command(self.dice.pick([b"quit\r\n", b"quit noreply\r\n", b"GET / HTTP/1.1\r\n",
                                       b"POST /a HTTP/1.0\r\n"]), last=True)

    def line(self, *words):
        """The words of a command, mostly as they should be."""
        dice = self.dice
        noreply = (b"noreply",) if dice.one_in(10) else ()
        if dice.random() < 0.9:
            return b" ".join(words + noreply) + self.end()
        return b" " * int(dice.random() * 3) + b"".join(
            word + b" " * int(1 + dice.random() * 3) for word in words + noreply) + self.end()

    def store(self):
        dice, key = self.dice, self.key()
        name = dice.pick([b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend"])
        value = self.more() if name in (b"append", b"prepend") else self.value()
        return Command(self.line(name, key, dice.pick(FLAGS), self.time(), b"%d" % len(value)) +
                       self.block(value), key)

    def cas(self):
        dice, key, value = self.dice, self.key(), self.value()
        head = b"cas %s %s %s %d " % (key, dice.pick(FLAGS), self.time(), len(value))
        unique = dice.pick([b"0", b"1", b"18446744073709551615"]) if dice.one_in(6) else Cas(key)
        noreply = b" noreply" if dice.one_in(10) else b""
        return Command([head, unique, noreply + self.end() + self.block(value)], key)

    def get(self):
        dice = self.dice
        keys = [self.reads(self.key())]
        while dice.one_in(2):
            keys.append(self.reads(self.key()) if dice.random() < 0.8 else b"none")
        blanks = b" " * (1 if dice.random() < 0.95 else 3)
        return Command(blanks.join([dice.pick([b"get", b"gets"])] + keys) + self.end(), keys[0])

    def gat(self):
        dice, key = self.dice, self.reads(self.key())
        keys = key + b" none" * dice.one_in(4)
        return Command(b"%s %s %s%s" % (dice.pick([b"gat", b"gats"]), self.time(), keys,
                                        self.end()), key)

    def arithmetic(self):
        dice, key = self.dice, self.counts(self.key())
        name, deltas = dice.pick([(b"incr", DELTAS), (b"decr", DOWN)])
        return Command(self.line(name, key, dice.pick(BAD_DELTAS if dice.one_in(12) else deltas)),
                       key)

    def touch(self):
        key = self.key()
        return Command(self.line(b"touch", key,
                                 self.dice.pick(BAD_TIMES) if self.dice.one_in(12)
                                 else self.time()), key)

    def delete(self):
        key = self.key()
        return Command(self.line(b"delete", key,
                                 *self.dice.pick([[], [], [], [b"0"], [b"5"], [b"x", b"y"]])), key)

    def flush(self):
        dice = self.dice
        if not dice.one_in(6):
            return Command(self.line(b"verbosity", dice.pick([b"0", b"1", b"x"])))
        return Command(self.line(b"flush_all", *dice.pick([[], [], [b"0"], [b"-1"], [b"x"]])))

    def wrong_line(self):
        key = self.key()
        return Command(self.dice.pick([
            b"", b" ", b"x", b"get", b"gets ", b"GET " + key, b"set", b"set " + key,
            b"set %s 0" % key, b"set %s 0 0" % key, b"incr", b"incr " + key, b"touch " + key,
            b"delete", b"gat", b"gat 0", b"gat x " + key, b"nonsense", b"flush_all x y z",
            b"stats nonsense", b"lru", b"slabs", b"cache_memlimit", b"cache_memlimit 5",
            b"shutdown", b"verbosity", b"lru_crawler", b"lru mode x", b"slabs automove x",
            b"noreply", b"mget " + key, b"add %s 0 0 1.5" % key, b"set %s 0 0 x" % key,
            b"set %s 0 0 -1" % key, self.noise(),
        ]) + self.end())

    def salad(self):
        dice = self.dice
        if dice.one_in(4):
            return Command(dice.pick(OPERATORS_LINES) + self.end())
        if dice.one_in(30):
            return Command(b"flush_all " + dice.pick(FLUSH_WORDS) + self.end())
        name = dice.pick(list(SALAD_NAMES))
        words = [dice.pick(SALAD) for _ in range(int(dice.random() * (SALAD_NAMES[name] + 1)))]
        return Command(b" ".join([name] + words) + self.end())

    def wrong_key(self):
        dice, key = self.dice, self.dice.pick(LONG_KEYS)
        return Command(dice.pick([b"incr %s 1", b"touch %s 0", b"delete %s"]) % key + self.end())

    def batch(self, size):
        """A get of a bad key comes first: in 1.6.18 it takes answers with it that still wait to be
        sent."""
        commands = super().batch(size)
        if self.dice.one_in(4):
            line = self.dice.pick([b"get %s", b"gets a %s",
                                   b"gat 0 %s"]) % self.dice.pick(LONG_KEYS)
            commands.insert(0, Command(line + self.end()))
        return commands

    def wrong_store(self):
        """A bad line with a good length. If a server runs the block after it as commands, that does
        no harm."""
        dice, key, flags, exptime = self.dice, self.key(), b"0", b"0"
        if dice.one_in(3):
            flags = dice.pick(BAD_FLAGS)
        elif dice.one_in(2):
            exptime = dice.pick(BAD_TIMES)
        else:
            key = LONG_KEYS[0]
        name = dice.pick([b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
        return Command(b"%s %s %s %s 5%s%s.....\r\n"
                       % (name, key, flags, exptime, b" noreply" * dice.one_in(8), self.end()), key)


BINARY_KEYS = [b"foo", b"a b", b"\r\n", b"\x00", b"\x00\xff" * 60]
BASE64_KEYS = [base64.b64encode(key) for key in BINARY_KEYS]


class Meta(Lines):
    """The meta commands, and now and then a classic one on the same keys."""

    def __init__(self, dice):
        super().__init__(dice)
        self.classic = Text(dice)
        self.classic.keys, self.classic.read = self.keys, self.read
        self.commands = ([self.get] * 8 + [self.store] * 8 + [self.delete] * 3 +
                         [self.arithmetic] * 4 +
                         [self.debug, self.wrong, self.wrong_store, self.odd, self.classic.get,
                          self.classic.store, self.classic.arithmetic])

    def probe(self):
        key = self.key()
        return Command(b"mg %s c k\r\n" % key, key)

    def farewell(self):
        return self.classic.farewell()

    def name(self, use=lambda key: key):
        """A key as it is written, and the flags that go with it."""
        if self.dice.one_in(8):
            return use(self.dice.pick(BASE64_KEYS)), [b"b"]
        return use(self.key()), []

    def flags(self, some, always):
        """Some of the flags, each once, in any order."""
        dice = self.dice
        chosen = list(always)
        for chance, flag in some:
            if dice.random() < chance:
                chosen.append(flag if isinstance(flag, (bytes, Cas)) else dice.pick(flag))
        dice.shuffle(chosen)
        return chosen

    def make(self, name, flags, key, block=b""):
        """A Cas among the flags is C and the unique."""
        parts = [name]
        for flag in flags:
            parts += [b" C", flag] if isinstance(flag, Cas) else [b" " + flag]
        parts.append(self.end() + block)
        return Command(parts if any(isinstance(flag, Cas) for flag in flags) else b"".join(parts),
                       key)

    OPAQUE = (0.2, [b"O", b"O1", b"Oabc", b"O" + b"o" * 31])
    QUIET = (0.2, b"q")
    TIMES = [b"N30000", b"N100000", b"R10", b"R60000", b"R200000", b"N30000 R60000", b"R10 N100000",
             b"T0", b"T-1", b"T30000", b"T100000"]

    def cas_flag(self, key):
        return (0.15, [b"C0", b"C1", Cas(key), Cas(key), Cas(key)])

    def get(self):
        key, always = self.name(self.reads)
        flags = self.flags([(0.5, b"v"), (0.25, b"c"), (0.25, b"f"), (0.2, b"h"), (0.2, b"k"),
                            (0.1, b"l"), (0.2, b"s"), (0.25, b"t"), (0.1, b"u"), self.OPAQUE,
                            self.QUIET, (0.5, self.TIMES)], always)
        return self.make(b"mg " + key, flags, key)

    def store(self):
        key, always = self.name()
        mode = self.dice.pick([b"", b"", b" ME", b" MA", b" MP", b" MR", b" MS"])
        value = self.more() if mode in (b" MA", b" MP") else self.value()
        flags = self.flags([(0.2, b"c"), self.cas_flag(key), (0.3, [b"F0", b"F5", b"F4294967295"]),
                            (0.15, b"I"), (0.2, b"k"), self.OPAQUE, self.QUIET,
                            (0.3, [b"T0", b"T-1", b"T30000", b"T100000"])], always)
        return self.make(b"ms %s %d%s" % (key, len(value), mode), flags, key, self.block(value))

    def delete(self):
        key, always = self.name()
        flags = self.flags([self.cas_flag(key), (0.5, b"I"), (0.2, b"k"), self.OPAQUE, self.QUIET,
                            (0.3, [b"T0", b"T30000", b"T100000"])], always)
        return self.make(b"md " + key, flags, key)

    def arithmetic(self):
        """T only with D0: where the number grows longer, memcached makes a new item and forgets the
        time. And T without N: of an item that it makes it shows a time that the item does not get.
        """
        key, always = self.name(self.counts)
        flags = self.flags([self.cas_flag(key), (0.3, [b"D0", b"D5", b"D1000"]),
                            (0.3, [b"J0", b"J13"]), self.OPAQUE,
                            (0.5, [b"MI", b"MD", b"Mi", b"Md", b"M+", b"M-"]),
                            (0.4, [b"q", b"N0", b"N30000", b"D0 T0", b"T30000 D0"]), (0.2, b"t"),
                            (0.2, b"c"), (0.5, b"v"), (0.2, b"k")], always)
        return self.make(b"ma " + key, flags, key)

    def debug(self):
        key = self.key()
        return Command(self.dice.pick([b"me %s", b"me %s", b"me none%s"]) % key + self.end(), key)

    def wrong(self):
        dice, key = self.dice, self.key()
        name = dice.pick([b"mg", b"md", b"ma"])
        if dice.one_in(6):
            return Command(name + b" " + dice.pick(LONG_KEYS) + self.end())
        return Command(dice.pick([
            name, name + b" ", b"%s %s k k" % (name, key), b"mg none O" + b"o" * 33, b"me",
            b"mx " + key, b"m", b"%s %s %s" % (name, key, b"k q " * 12), b"mg %s Nx" % key,
            b"mg %s Tx" % key, b"mg %s Rx" % key, b"ma %s Jx" % key, b"ma %s MX" % key,
            b"ma %s Nx" % key, b"%s %s k T" % (name, key), b"%s \x80 b" % name,
        ]) + self.end(), key)

    def odd(self):
        """Flags that mean something, and others, in any order; seldom a key that can be none. An ma
        gets no T (see arithmetic), and no N with q: 1.6.18 tells a client of the counter that it
        has made all the same."""
        dice, key = self.dice, self.key()
        written = dice.pick(LONG_KEYS) if dice.one_in(12) else key
        name = dice.pick([b"ms", b"ms", b"ms", b"mg", b"md", b"ma"])
        flags = [dice.pick(ODD_FLAGS) for _ in range(int(dice.random() * 4))]
        if name == b"ma":
            flags = [flag for flag in flags if flag[:1] not in b"Tq"]
        line = b" ".join([name, written] + [b"5"] * (name == b"ms") + flags)
        return Command(line + self.end() + b".....\r\n" * (name == b"ms"), key)

    def wrong_store(self):
        """A bad line with a good length, or with none: then the block is no more than an unknown
        command."""
        dice, key = self.dice, self.key()
        if dice.one_in(5):
            return Command(b"ms %s %s%s.....\r\n" % (key, dice.pick(BAD_LENGTHS), self.end()), key)
        flags = dice.pick([b"k k", b"MZ", b"O" + b"o" * 33, b"Tx", b"Fx", b"F-1", b"Cx", b"b", b"T",
                           b"C", b"M", b"k q " * 12])
        written = LONG_KEYS[0] if dice.one_in(8) else b"\x80key"
        return Command(b"ms %s 5 %s%s.....\r\n" % (written, flags, self.end()), key)


OPCODES = dict(get=0x00, set=0x01, add=0x02, replace=0x03, delete=0x04, incr=0x05, decr=0x06,
               quit=0x07, flush=0x08, getq=0x09, noop=0x0a, version=0x0b, getk=0x0c, getkq=0x0d,
               append=0x0e, prepend=0x0f, stat=0x10, setq=0x11, addq=0x12, replaceq=0x13,
               deleteq=0x14, incrq=0x15, decrq=0x16, quitq=0x17, flushq=0x18, appendq=0x19,
               prependq=0x1a, touch=0x1c, gat=0x1d, gatq=0x1e, gatk=0x23, gatkq=0x24)
BARRIER_OPAQUE = 0xba221e12


NO_CAS = b"\0" * 8


def packet_parts(name, key=b"", extras=b"", value=b"", opaque=0, vbucket=0):
    """A request, before and after its CAS."""
    body = extras + key + value
    opcode = OPCODES[name] if isinstance(name, str) else name
    return struct.pack(">BBHBBHII", 0x80, opcode, len(key), len(extras), 0, vbucket, len(body),
                       opaque), body


def packet(*arguments, **more):
    head, body = packet_parts(*arguments, **more)
    return head + NO_CAS + body


class Binary(Grammar):
    """All opcodes, quiet and loud. A request's opaque is its number; that tells whose CAS an answer
    shows."""

    def __init__(self, dice):
        super().__init__(dice)
        self.count = 0
        self.commands = ([self.get] * 6 + [self.store] * 6 + [self.join] * 2 + [self.delete] * 2 +
                         [self.arithmetic] * 4 + [self.touch] * 2 + [self.gat] * 2 + [self.other])

    def key(self):
        return (self.dice.pick(self.keys) if not self.dice.one_in(10)
                else self.dice.pick(BINARY_KEYS))

    def make(self, name, key=b"", extras=b"", value=b"", cas=NO_CAS, last=False, vbucket=0):
        self.count += 1
        head, body = packet_parts(name, key, extras, value, self.count, vbucket)
        return Command([head, cas, body] if isinstance(cas, Cas) else head + cas + body, key, last,
                       self.count)

    def cas_of(self, key):
        """Mostly none; else the last one that was seen, or one that cannot be right."""
        dice = self.dice
        if not dice.one_in(4):
            return NO_CAS
        return Cas(key) if not dice.one_in(5) else dice.pick([b"\0" * 7 + b"\1", b"\xff" * 8])

    def seconds(self):
        return struct.pack(">I", int(self.time()) & 0xffffffff)

    def probe(self):
        return self.make("get", self.key())

    def farewell(self):
        dice, key = self.dice, self.key()
        wrong = [
            ("quit",), ("quitq",), ("get", b""), ("get", key, b"1234"),
            ("set", key, b"1234", b"value"), ("set", b"", b"\0" * 8, b"value"),
            ("delete", key, b"1234"), ("incr", key, b"\0" * 8), ("touch", key), ("gat", key, b"12"),
            ("append", key, b"12345678", b"x"), ("get", b"k" * 251),
            ("set", b"k" * 251, b"\0" * 8, b"x"), ("noop", key), ("version", b"", b"1234"),
            ("flush", key), ("quit", key), ("delete", b""), ("incr", b"", b"\0" * 20),
            ("get", key, b"", b"value"), ("noop", b"", b"", b"value"),
        ]
        return self.make(*dice.pick(wrong), last=True)

    def get(self):
        return self.make(self.dice.pick(["get", "getq", "getk", "getkq"]), self.reads(self.key()))

    def store(self):
        dice, key = self.dice, self.key()
        name = dice.pick(["set", "set", "set", "setq", "setq", "add", "addq", "replace",
                          "replaceq"])
        extras = struct.pack(">I", int(dice.pick(FLAGS))) + self.seconds()
        return self.make(name, key, extras, self.value(), cas=self.cas_of(key))

    def join(self):
        key = self.key()
        return self.make(self.dice.pick(["append", "appendq", "prepend", "prependq"]), key,
                         value=self.more(), cas=self.cas_of(key))

    def delete(self):
        key = self.key()
        return self.make(self.dice.pick(["delete", "deleteq"]), key, cas=self.cas_of(key))

    def arithmetic(self):
        dice, key = self.dice, self.counts(self.key())
        name, deltas = dice.pick([("incr", DELTAS), ("incrq", DELTAS), ("decr", DOWN),
                                  ("decrq", DOWN)])
        delta, initial = int(dice.pick(deltas)), int(dice.pick(DELTAS))
        expiry = 0xffffffff if dice.one_in(4) else dice.pick([0, 100000, 2592000])
        return self.make(name, key, struct.pack(">QQI", delta, initial, expiry),
                         cas=self.cas_of(key))

    def touch(self):
        return self.make("touch", self.key(), self.seconds())

    def gat(self):
        return self.make(self.dice.pick(["gat", "gatq", "gatk", "gatkq"]), self.reads(self.key()),
                         self.seconds())

    def other(self):
        dice, key = self.dice, self.key()
        if dice.one_in(8):
            return self.make(dice.pick(["flush", "flushq"]), extras=dice.pick([b"", b"\0\0\0\0"]))
        return dice.pick([
            lambda: self.make("noop"),
            lambda: self.make("version"),
            lambda: self.make("stat", b"nonsense"),
            lambda: self.make(dice.pick([0x1b, 0x1f, 0x25, 0x30, 0x3c, 0x40, 0x7f, 0xff])),
            lambda: self.make("get", key, vbucket=5),
        ])()


GRAMMARS = {"text": Text, "meta": Meta, "binary": Binary}
