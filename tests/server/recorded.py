"""What memcached 1.6.45 answered to random sequences of text and meta commands:
data/answers-1.6.45.jsonl.gz.

A sequence a line: {"sequence": n, "steps": [[sent, answered], ...]}, bytes as Latin-1 code points.
CAS uniques given by the server are `<cas>`, times to live `<ttl>`, the version `<version>`. Every
sequence began on an empty store and a new connection. After each step the marker was sent, and its
`EN` ended the answer and was left out. Two things follow from that:

- An `mg` that finds nothing answers `EN` as well. There the recording took the first of the two
  lines for the end, and all later answers of the sequence stand one step too late. `align` puts
  them right; the last ones of such a sequence are not there.
- A step that announces more bytes than it has swallows (a part of) its marker, and has no `EN`.
"""
import gzip
import json
import os
import re

MARKER = "me no:such:key\r\n"
MARKER_ANSWER = "EN\r\n"
BLOCK_MAX = 2**31 - 3
ANNOUNCES = re.compile(r"(?:(?:set|add|replace|append|prepend|cas) +\S+ +\S+ +\S+"
                       r"|ms +\S+) +(\d+)(?: [^\r\n]*)?\r?\n")


class Step:
    def __init__(self, sent, answer, marked=True):
        self.sent = sent
        self.answer = answer  # None: memcached waits for more
        self.marked = marked  # the marker's answer follows


class Sequence:
    def __init__(self, number, steps):
        self.number = number
        self.steps = steps

    def stream(self):
        return "".join(step.sent + MARKER for step in self.steps).encode("latin-1")

    def difference(self, got):
        """Where the answers `got` differ from what was recorded: a text, or None."""
        at = 0
        got = got.decode("latin-1")
        for index, step in enumerate(self.steps):
            wanted = step.answer + (MARKER_ANSWER if step.marked else "")
            match = pattern(wanted).match(got, at)
            if not match:
                return "sequence %d, step %d: sent %r\n    expected %r\n         got %r" % (
                    self.number, index, step.sent[:500], wanted[:500], got[at:][:500])
            at = match.end()
        if at < len(got):
            return "sequence %d: too much: %r" % (self.number, got[at:][:500])
        return None


def pattern(answer):
    holes = {"<cas>": r"\d+", "<ttl>": r"\d+", "<version>": r"\S+"}
    return re.compile("".join(holes.get(part, re.escape(part))
                              for part in re.split("(<cas>|<ttl>|<version>)", answer)))


def missing(sent):
    """The bytes of its data block that a step has not sent."""
    match = ANNOUNCES.match(sent)
    if not match or int(match[1]) > BLOCK_MAX:
        return 0
    return max(0, int(match[1]) + 2 - (len(sent) - match.end()))


def is_bare_miss(sent, answer):
    words = sent.split()
    return answer == "" and words[:1] == ["mg"] and "q" not in words[2:]


def align(steps):
    """The steps with the answers that belong to them, as far as they were recorded."""
    answers = [step[1] for step in steps]
    aligned = []
    for sent, *_ in steps:
        if not answers:
            break
        answer = answers[0]
        if is_bare_miss(sent, answer):
            assert "".join(answers[1:2]) == ""
            aligned.append(Step(sent, "EN\r\n"))
            del answers[:2]
        elif missing(sent) > len(MARKER):
            aligned.append(Step(sent, None, marked=False))
            break
        elif missing(sent):
            own = re.match(r"(?:CLIENT_ERROR [^\r]*\r\n)?ERROR\r\n", answer)[0]
            aligned.append(Step(sent, own, marked=False))
            answers[0] = answer[len(own) :]
        else:
            aligned.append(Step(sent, answer))
            del answers[0]
    return aligned


def load():
    path = os.path.join(os.path.dirname(__file__), "data/answers-1.6.45.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [Sequence(line["sequence"], align(line["steps"])) for line in map(json.loads, lines)]
