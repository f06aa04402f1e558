"""Transcripts: what is sent, what must come back, in short text files. See
transcripts/README.md."""
import os
import re
import time

DIRECTORY = os.path.join(os.path.dirname(__file__), "transcripts")

class Transcript:
    def __init__(self, file, name, options):
        self.file = file
        self.name = name
        self.options = options
        # ("send", bytes), ("expect", bytes), ("match", bytes), ("closed", None), ("sleep", seconds)
        self.steps = []

    def has(self, kind):
        return any(step[0] == kind for step in self.steps)

    def uses_variables(self):
        return any(re.search(rb"\$[a-z]", argument) for kind, argument in self.steps
                   if kind == "send")


def unescape(text):
    text = re.sub(r"\{(.*?)\*(\d+)\}", lambda found: found.group(1) * int(found.group(2)), text)
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def parse_line(line):
    mark, rest = line[:2].strip(), line[2:] if len(line) > 2 else ""
    if mark == ">":
        return ("send", unescape(rest) + b"\r\n")
    if mark == ">|":
        return ("send", unescape(rest[1:]))
    if mark == "<":
        return ("expect", unescape(rest) + b"\r\n")
    if mark == "<~":
        return ("match", rest.strip().encode())
    if mark == "<.":
        return ("closed", None)
    if mark == "~":
        return ("sleep", float(rest))
    raise ValueError("what does this line mean? %r" % line)


def load():
    transcripts = []
    for file in sorted(os.listdir(DIRECTORY)):
        if not file.endswith(".txt"):
            continue
        options = ()
        with open(os.path.join(DIRECTORY, file), encoding="ascii") as lines:
            for line in lines:
                line = line.rstrip("\n")
                if line.startswith("options:"):
                    options = tuple(line.split()[1:])
                elif line.startswith("= "):
                    transcripts.append(Transcript(file, line[2:], options))
                elif line and not line.startswith("#"):
                    transcripts[-1].steps.append(parse_line(line))
    return transcripts


class Run:
    """Plays one transcript on one connection. `send` says how the bytes go out."""

    def __init__(self, client, send):
        self.client = client
        self.send_bytes = send
        self.variables = {}

    def play(self, steps):
        for kind, argument in steps:
            getattr(self, kind)(argument)

    def send(self, data):
        self.send_bytes(self.client, self.fill_in(data))

    def fill_in(self, data):
        return re.sub(rb"\$([a-z]+)", lambda found: self.variables[found.group(1)], data)

    def expect(self, wanted):
        if b"$" not in wanted:
            self.client.expect(wanted)
            return
        got = self.client.line()
        pattern = b"".join(self.pattern(part) for part in re.split(rb"(\$[a-z]+)", wanted))
        found = re.fullmatch(pattern, got)
        assert found, "expected %r\n     got %r\nwith %r" % (wanted, got, self.variables)
        for name, value in found.groupdict().items():
            self.variables[name.encode()] = value

    def pattern(self, part):
        if not part.startswith(b"$"):
            return re.escape(part)
        if part[1:] in self.variables:
            return self.variables[part[1:]]
        return rb"(?P<" + part[1:] + rb">\d+)"

    def match(self, pattern):
        got = self.client.line()
        assert re.fullmatch(pattern,
                            got[:-2]), "expected a match of %r\n     got %r" % (pattern, got)

    def closed(self, _):
        self.client.expect_closed()

    def sleep(self, seconds):
        time.sleep(seconds)
