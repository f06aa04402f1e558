"""What the programs of script/test-long share: checks that are counted, and options."""
import argparse
import os
import signal
import subprocess
import sys
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(TESTS)
sys.path[:0] = [os.path.join(TESTS, "server"), os.path.join(ROOT, "bench")]
os.environ.setdefault("CACHECASK", os.path.join(ROOT, "build/release/cachecask"))
os.environ.setdefault("CACHECASK_TEST_DIR", os.environ.get("TMPDIR", "/var/tmp"))
BENCH = os.environ.get("CACHECASK_BENCH", os.path.join(ROOT, "build/release/cachecask-bench"))

import support  # noqa: E402  pylint: disable=wrong-import-position

MIB = 1 << 20
UNITS = {"k": 1000, "m": 1_000_000, "g": 1_000_000_000}


def say(text):
    print(text, flush=True)


class Report:
    """Counts what was checked and says what was found."""

    def __init__(self, name):
        self.name = name
        self.checked = self.failed = self.skipped = 0
        self.began = time.monotonic()

    def check(self, ok, text):
        self.checked += 1
        self.failed += not ok
        say("  %s  %s" % ("ok    " if ok else "FAILED", text))
        return ok

    def skip(self, text):
        self.skipped += 1
        say("  skipped  %s" % text)

    def attempt(self, title, action):
        """Runs what raises when it fails and else answers what happened; ends its servers."""
        began = time.monotonic()
        try:
            found, ok = action(), True
        except (AssertionError, OSError, EOFError, subprocess.SubprocessError) as error:
            found, ok = shorten(error), False
        for complaint in support.end_test():
            found, ok = "%s; %s" % (found, complaint), False
        return self.check(ok, "%s (%.0f s): %s" % (title, time.monotonic() - began, found))

    def verdict(self):
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        skipped = ", %d skipped" % self.skipped if self.skipped else ""
        say(
            "%s: %s: %d of %d checks failed%s, %d min %02d s"
            % (
                self.name,
                "FAILED" if self.failed or not self.checked else "PASSED",
                self.failed,
                self.checked,
                skipped,
                minutes,
                seconds,
            )
        )
        return 1 if self.failed or not self.checked else 0


def shorten(error):
    """Of a long message the beginning and the end, which is a server's log; of none the place."""
    text = str(error).strip()
    if not text:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = "%s at %s:%d: %s" % (
            type(error).__name__,
            os.path.basename(frame.filename),
            frame.lineno,
            frame.line,
        )
    return text if len(text) < 1000 else text[:400] + " … " + text[-500:]


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def run(name, work):
    """Gives `work` a report and a place for its servers, cleans up, answers the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    report = Report(name)
    support.begin_session()
    try:
        work(report)
    except KeyboardInterrupt:
        say("%s: interrupted" % name)
        return 130
    finally:
        support.end_test()
        support.end_session()
    return report.verdict()


def number(text):
    """A count: 100000, 300k, 1.5m."""
    unit = UNITS.get(text[-1:].lower(), 1)
    return int(float(text[:-1] if unit > 1 else text) * unit)


def numbers(text):
    return [number(part) for part in text.split(",")]


def words(*allowed):
    def parse(text):
        chosen = text.split(",")
        if not set(chosen) <= set(allowed):
            raise argparse.ArgumentTypeError("choose of %s" % ",".join(allowed))
        return chosen

    return parse


def options(name, about):
    return argparse.ArgumentParser(
        prog="script/test-long " + name,
        description=about.split("\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
