"""Runs cachecask-bench against a server, at its end or beside something else."""
import json
import shlex
import subprocess

from common import BENCH
from host import Beside


class Load(Beside):
    """A run that is under way; result() waits for it."""

    def __init__(self, server, options, timeout=7200):
        self.timeout = timeout
        command = f"{BENCH} -p {server.port} --json --quiet --timeout 60 {options}"
        super().__init__(shlex.split(command), stderr=subprocess.PIPE, text=True)

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
