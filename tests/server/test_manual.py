"""The manual pages: what they list is what there is, and their examples go as they are printed.

A page is read as it stands, in roff. In an example (between .EX and .EE) a line in bold is sent,
what follows is the answer, and italics stand for a value: any at first, from then on the same one.
"""
import glob
import os
import re
import shutil
import struct
import subprocess

import pytest

import binary
import support
from support import CACHECASK, Server
from test_tls import TlsServer, certificates  # pylint: disable=unused-import

pytestmark = pytest.mark.skipif(support.IS_MEMCACHED, reason="about our manual")

ROOT = os.path.join(os.path.dirname(__file__), "../..")
PAGES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "docs/*.[1-8]")))
STATS, PROTOCOL = "cachecask-stats.7", "cachecask-protocol.7"
CONF, PROGRAM = "cachecask.conf.5", "cachecask.1"


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


# Roff

def plain(text):
    """Without its fonts."""
    text = re.sub(r"\\f.|\\&", "", text)
    return text.replace("\\-", "-").replace("\\ ", " ").replace("\\e", "\\")


def joined(line):
    """The text that a line shows: of .B, which splits its words at blanks, of .BR and the like,
    which do not, or plain text."""
    macro = re.match(r"\.([BI]|[BIR]{2}) (.*)", line)
    if not macro:
        return plain(line)
    words = re.findall(r'"([^"]*)"|((?:\\ |\S)+)', macro.group(2))
    return plain(("" if len(macro.group(1)) == 2
                  else " ").join(quoted or word for quoted, word in words))


def sections(page):
    """{heading of a .SS: its lines}; what stands before the first of a .SH has the heading of
    that."""
    found = {}
    for line in read("docs/" + page).splitlines():
        heading = re.match(r"\.S[HS] (.*)", line)
        if heading:
            lines = found.setdefault(plain(heading.group(1)).strip('"'), [])
        elif found:
            lines.append(line)
    return found


def tags(lines):
    """The terms explained in a list: the lines after .TP and .TQ."""
    return [joined(line) for before, line in zip(lines, lines[1:]) if before in (".TP", ".TQ")]


def examples(page):
    """The lines of each example that sends something."""
    text = read("docs/" + page)
    found = [block.splitlines() for block in re.findall(r"^\.EX\n(.*?)^\.EE", text, re.M | re.S)]
    return [lines for lines in found if any(line.startswith("\\fB") for line in lines)]


def every_example(page):
    return [pytest.param(lines, id="%s-%s" % (page, plain(lines[0]).replace(" ", "_")[:40]))
            for lines in examples(page)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_formatted_without_a_warning(page):
    if not shutil.which("man") or not shutil.which("groff"):
        pytest.skip("man and groff are not installed")
    done = subprocess.run(["man", "--warnings", "-l", os.path.join(ROOT, "docs", page)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=support.TIMEOUT, check=True,
                          env=dict(os.environ, LC_ALL="C.UTF-8", MANWIDTH="80",
                                   MAN_KEEP_FORMATTING=""))
    assert done.stderr == b"" and b"NAME" in done.stdout


def test_every_page_is_installed_and_leads_to_the_others():
    installed = read("Makefile.am")
    for page in PAGES:
        assert "docs/" + page in installed, page
        seen = read("docs/" + page).split(".SH SEE ALSO")[1]
        for other in PAGES:
            name, section = other.rsplit(".", 1)
            assert (page == other or
                    "%s (%s)" % (name.replace("-", "\\-"), section) in seen), (page, other)


# Examples

class Example:
    def __init__(self, client):
        self.client = client
        self.values = {}

    def send(self, line):
        text = re.sub(r"\\fI(.*?)\\f[BR]", lambda found: self.values[found.group(1)], line)
        self.client.send(plain(text).encode() + b"\r\n")

    def pattern(self, part):
        name = re.fullmatch(r"\\fI(.*)\\fR", part)
        if not name:
            return re.escape(plain(part))
        known = self.values.get(name.group(1))
        return re.escape(known) if known else r"(?P<%s>\S+)" % name.group(1)

    def expect(self, line):
        got = self.client.read_until(b"\n").decode().rstrip("\r\n")
        found = re.fullmatch("".join(map(self.pattern, re.split(r"(\\fI.*?\\fR)", line))), got)
        assert found, "expected %r, got %r" % (line, got)
        self.values.update(found.groupdict())


def is_hex(line):
    return re.fullmatch(r"[0-9a-f ]+", plain(line)) and len(plain(line).replace(" ", "")) >= 48


def play_hex(client, lines):
    for line in lines:
        data = bytes.fromhex(plain(line))
        if line.startswith("\\fB"):
            client.send(data)
        else:
            client.expect(data)


@pytest.mark.parametrize("lines", every_example(STATS) + every_example(PROTOCOL))
def test_an_example(lines):
    with Server().connect() as client:
        if is_hex(lines[0]):
            play_hex(client, lines)
        else:
            example = Example(client)
            for line in lines:
                (example.send if line.startswith("\\fB") else example.expect)(line)
        assert not client.buffer, "more was answered: %r" % bytes(client.buffer)


# cachecask-stats(7)

GROUPS = ["", "store", "settings", "items", "slabs", "conns", "sizes"]


def printed(server, group):
    """The names of the rows. Variable parts are named as on the page."""
    with server.connect() as client:
        client.set(b"key", b"value")
        names = client.stats(group)
    return {re.sub(r"^\d+(?=:)" if group == "conns" else r"^\d+$",
                   "fd" if group == "conns" else "size", name) for name in names}


def documented(group):
    """{name of a row: whether it is on a condition}"""
    rows = tags(sections(STATS)[("stats " + group).strip()])
    names = [row.split(" ", 1)[0] for row in rows]
    assert len(set(names)) == len(names), "a row is explained twice"
    return {name: " (" in row for name, row in zip(names, rows)}


@pytest.fixture(name="rich")
def make_rich(request):
    """A server that prints what others print on a condition."""
    options = ["-U", str(support.free_port()), "-o", "idle_timeout=1000,track_sizes"]
    if support.is_built_in("enable-ssl"):
        return TlsServer(request.getfixturevalue("certificates"), *options,
                         extended="ssl_session_cache")
    return Server(*options)


def test_every_row_of_the_statistics_is_explained(rich):
    plain_server = Server()
    for group in GROUPS:
        rows, usual, unusual = documented(group), printed(plain_server, group), printed(rich, group)
        wrong = {name for name, on_condition in rows.items() if not on_condition}
        wrong = wrong - usual or wrong - unusual
        assert not wrong, "stats %s does not print %s" % (group, wrong)
        unexplained = (usual | unusual) - set(rows)
        assert not unexplained, "of stats %s is not explained: %s" % (group, unexplained)
        on_condition = {name for name, condition in rows.items() if condition}
        if support.is_built_in("enable-ssl"):
            wrong = on_condition - (usual ^ unusual)
            assert not wrong, "no condition of stats %s: %s" % (group, wrong)


def test_every_group_of_the_statistics_is_explained():
    """A group without a row in src/command/rights.c is not to be had over UDP, so all that there
    are stand there."""
    groups = set(re.findall(r'\{OP_STATS,\s+"(\w*)"', read("src/command/rights.c")))
    assert groups >= {"", "store", "sizes"}
    text = plain(read("docs/" + STATS))
    for group in groups:
        assert re.search(r"stats %s\b" % group if group else "stats", text), group


def test_what_the_cleaner_does_is_explained():
    source = read("storage/clean/clean_plan.c")
    names = {name for block in re.findall(r"names\[\] = \{(.*?)\};", source, re.S)
             for name in re.findall(r'"(\w+)"', block)}
    assert {"rotate", "garbage"} <= names == set(tags(sections(STATS)["The cleaner"]))


# cachecask-protocol(7)

def test_every_command_is_explained():
    """The names in the parser's table, and those that it knows without it."""
    names = set(re.findall(r'COMMAND\("(\w+)"',
                           read("protocol/text_command.c"))) | {"mg", "ms", "md", "ma", "me", "mn"}
    found = {re.match(r"\w*", tag).group() for lines in sections(PROTOCOL).values()
             for tag in tags(lines)}
    assert len(names) > 30 and not names - found, names - found


def test_every_opcode_is_explained():
    """An unknown opcode is answered 0x81, and the connection stays."""
    rows = {tag for tag in tags(sections(PROTOCOL)["Opcodes"]) if "(with -S)" not in tag}
    known = {int(opcode, 16) for row in rows for opcode in re.findall(r"\b0x\w\w\b", row)}
    with_sasl = {binary.SASL_LIST, binary.SASL_AUTH, binary.SASL_STEP}
    server = Server()
    for opcode in set(range(256)) - with_sasl:
        with server.connect() as client:
            # Lengths that contradict each other are an error to all
            client.send(binary.packet(opcode, key_len=1, body_len=0))
            first = binary.receive(client)
            client.expect_closed()
        with server.connect() as client:
            client.send(binary.packet(opcode, b"k" * 10, b"x" * 7, b"v"))  # which is right for none
            second = binary.receive(client)
            assert first.status == binary.UNKNOWN
            assert (second.status != binary.UNKNOWN) == (opcode in known), hex(opcode)


def test_every_status_of_the_binary_protocol_is_explained():
    codes = set(re.findall(r"CODE_\w+ = (0x\w\w)", read("protocol/binary_reply.c")))
    assert len(codes) > 10 and codes == set(tags(sections(PROTOCOL)["Status"]))


def test_every_flag_of_a_meta_command_is_explained():
    known = set(re.findall(r"META_FLAG\('(\w)'\)",
                           read("protocol/meta.c").split("FLAGS_WITH_ARGUMENT")[0]))
    explained = set()
    for heading, lines in sections(PROTOCOL).items():
        if heading.startswith("Flags of "):
            explained |= {flag[0] for tag in tags(lines) for flag in tag.split(", ")}
    assert len(known) > 20 and explained == known


# cachecask.conf(5) and cachecask(1)

def test_every_option_that_is_named_exists():
    said = subprocess.run([CACHECASK, "-h"], stdout=subprocess.PIPE, check=True).stdout.decode()
    for tag in [tag for lines in sections(CONF).values() for tag in tags(lines)]:
        for option in re.findall(r"(?<!\S)-o [a-z_]+|(?<!\S)-{1,2}[\w-]+", tag):
            assert re.search(r"(?<![\w-])%s(?![\w-])" % re.escape(option.replace("-o ", "")),
                             said), option


def as_here(text, server):
    """With the port and the directory of the server, and without what only root may do."""
    text = text.replace("11211", str(server.port)).replace("/var/lib/cachecask/%d" % server.port,
                                                           server.data_dir)
    return text if support.is_root() else re.sub(r"(?m)^-u nobody$| -u nobody", "", text)


@pytest.mark.parametrize("lines", every_example(CONF))
def test_a_server_starts_with_a_configuration(lines):
    server = Server(start=False, listen=False)
    path = os.path.join(server.folder, "cachecask.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(as_here("\n".join(plain(line) for line in lines) + "\n", server))
    os.chmod(path, 0o644)
    server.options = ["-p", str(server.port), "--config=" + path]
    if "drop_privileges" in open(path, encoding="ascii").read() and not support.DROPPED:
        pytest.skip("built without seccomp")
    server.start()
    settings = server.stats("settings")
    limits = {"-m 1024": 1 << 30, "-m 256": 256 << 20}
    assert settings["maxbytes"] == str(next(limit for line, limit in limits.items()
                                            if line in map(plain, lines)))
    assert (settings["evictions"] == "off") == ("\\fB\\-M\\fR" in lines)


@pytest.mark.parametrize("lines", every_example(PROGRAM))
def test_a_server_starts_with_a_command_line(lines):
    server = Server(start=False, listen=False)
    server.options = ["-p", str(server.port)] + as_here(plain(lines[0]), server).split()[1:]
    server.start()
    assert server.stats()["threads"] == "4"
