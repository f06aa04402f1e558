"""What a long start says to the operator, and what clients see of it."""
import os
import re
import subprocess

import support
from support import Server, value_of, wait_until

COUNT = 60
LONG_S = 120


class SlowDisk:
    """Large reads take so long as it says at that moment: slow_reads.c."""

    def __init__(self):
        folder = support.place.new("slow")
        os.chmod(folder, 0o755)
        library = os.path.join(folder, "slow_reads.so")
        source = os.path.join(os.path.dirname(__file__), "slow_reads.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
                        library, source], check=True)
        os.chmod(library, 0o755)
        self.path = os.path.join(folder, "milliseconds")
        self.set(0)
        os.chmod(self.path, 0o644)
        self.env = {"LD_PRELOAD": library, "SLOW_READS": self.path}
        if support.SANITIZED:
            self.env["ASAN_OPTIONS"] = (os.environ.get("ASAN_OPTIONS", "") +
                                        ":verify_asan_link_order=0").lstrip(":")

    def set(self, milliseconds):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("%d\n" % milliseconds)


def remove_hints(server):
    for name in os.listdir(server.data_dir):
        if name.endswith(".hint"):
            os.remove(os.path.join(server.data_dir, name))


def percents(server):
    """The log is a file: this is not only for terminals."""
    return [int(percent) for percent in
            re.findall(r"^recovering: (\d+) % of \d+\.\d GB read, about \d+ s left$", server.log(),
                       re.M)]


def test_a_long_start_says_how_far_it_is_and_clients_wait_for_it():
    disk = SlowDisk()
    server = Server("--segment-size=64k", env=disk.env)
    with server.connect() as client:
        for i in range(COUNT):
            client.set(b"key-%d" % i, value_of(b"key-%d" % i, 20000))
    server.stop()
    remove_hints(server)
    disk.set(2500)
    server.launch()
    wait_until(lambda: percents(server), "progress", LONG_S)
    with server.connect(LONG_S) as client:
        client.send(b"get key-7\r\n")
        disk.set(0)
        assert client.read_values()[b"key-7"][0] == value_of(b"key-7", 20000)
    assert "ready" in server.log()
    assert percents(server) == sorted(percents(server))
