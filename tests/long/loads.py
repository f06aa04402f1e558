"""Runs cachecask-bench against a server, at its end or beside something else."""
import json
import shlex
import subprocess

from common import BENCH


class Load:
    """A run that is under way; result() waits for it."""

    def __init__(self, server, options, timeout=7200):
        self.timeout = timeout
        command = f"{BENCH} -p {server.port} --json --quiet --timeout 60 {options}"
        self.process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def result(self):
        """Of its last phase."""
        told, complaints = self.process.communicate(timeout=self.timeout)
        assert self.process.returncode == 0, "the load has failed: %s%s" % (
            complaints,
            told[-1000:],
        )
        return json.loads(told)["phases"][-1]


def load(server, options):
    with Load(server, options) as running:
        return running.result()


def load_keys(server, count, value_size, more=""):
    """Sets each key once. Answers keys a second."""
    if not count:
        return 0
    done = load(server, f"--load -k {count} -S {value_size} -c 8 -P 32 {more}")
    return done["operations_per_second"]
