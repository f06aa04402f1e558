"""It always makes progress: with garbage, on full disks, under low limits, when keys expire.

progress.py and workloads.py say what is done and what must hold; here it is small. script/test-long
soak, expiry, full and disks do the same for hours."""
import json
import os
import subprocess
import time

import pytest

import progress
import workloads
from support import SANITIZED, Server, wait_until

BENCH = os.environ.get(
    "CACHECASK_BENCH", os.path.join(os.path.dirname(__file__), "../../cachecask-bench")
)
MIB = 1 << 20
MODES = pytest.mark.parametrize("mode", ["cache", "store"])


# Garbage is taken back


def run_workload(server, workload, steps=None, log_bytes=None):
    """So many steps, or until so much was written. All is compared then, and after kill -9."""
    workload.connect()
    workload.load()
    evicted = server.stats("store")["evicted_items"]
    first = int(server.stats("store")["lsn"])
    while steps or (log_bytes and int(server.stats("store")["lsn"]) - first < log_bytes):
        for _ in range(min(steps or 20, 20)):
            workload.step()
        steps = steps and max(0, steps - 20)
    workload.verify()
    stats = server.stats("store")
    assert stats["evicted_items"] == evicted == "0"
    assert server.disk_bytes() <= int(stats["disk_limit"]) + progress.FILE_SYSTEM_BYTES
    server.restart("kill9")
    workload.connect()
    workload.verify()


class Paced:
    """A workload with a rest after each step."""

    def __init__(self, workload, seconds):
        self.workload = workload
        self.seconds = seconds

    def __getattr__(self, name):
        return getattr(self.workload, name)

    def step(self):
        time.sleep(self.seconds)
        return self.workload.step()


@MODES
@pytest.mark.seconds(180)
def test_a_queue_beside_keys_that_fill_half_of_the_disk(mode):
    """A1: what stays lies in the oldest segments, and tombstones cannot be dropped before it."""
    server = Server(
        "-m", "8", "--segment-size=256k", "--disk-limit=8m", *progress.mode_options(mode)
    )
    run_workload(
        server,
        workloads.Queue(server, static=24_000, depth=500, longest=100),
        log_bytes=3 * 8 * MIB,
    )


@pytest.mark.seconds(180)
def test_keys_that_expire_beside_keys_that_fill_half_of_the_disk():
    """A1: in the two seconds that they have, an eighth of the disk at most."""
    server = Server("-m", "8", "-M", "--segment-size=256k", "--disk-limit=8m")
    workload = workloads.Queue(server, static=22_000, longest=100, exptime=1)
    run_workload(server, Paced(workload, 0.025), log_bytes=12 * MIB)


@MODES
@pytest.mark.seconds(180)
def test_sessions_whose_expiry_rises(mode):
    server = Server(
        "-m", "8", "--segment-size=256k", "--disk-limit=8m", *progress.mode_options(mode)
    )
    run_workload(
        server, workloads.Sessions(server, keys=10_000, value_size=100), log_bytes=4 * 8 * MIB
    )


@pytest.mark.seconds(120)
def test_a_rate_limiter():
    server = Server("-m", "8", "--segment-size=256k", "--disk-limit=32m")
    run_workload(server, workloads.RateLimiter(server), steps=300)


@pytest.mark.seconds(180)
def test_a_mix_of_sizes_and_ttls():
    server = Server("-m", "32", "-I", "16m", "--segment-size=4m", "--disk-limit=128m")
    run_workload(server, workloads.Mix(server, keys=1000, budget=32 * MIB), steps=1000)


# Many keys expire together


@pytest.mark.seconds(180)
def test_a_million_keys_that_expire_together():
    """Case 01: the crawler empties each shard part by part, and it must not be shrunk too early."""
    count = 1_200_000
    server = Server("-m", "512", "-t", "2")
    load = [
        "-p",
        str(server.port),
        "-k",
        str(count),
        "-S",
        "10",
        "-P",
        "32",
        "-c",
        "8",
        "--quiet",
        "--json",
    ]
    done = subprocess.run(
        [BENCH, "-l", *load, "-e", "5"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["phases"][0]["stored"] == count
    wait_until(
        lambda: not server.is_alive() or server.stats()["curr_items"] == "0", "all have left", 90
    )
    assert server.is_alive(), server.log()
    wait_until(
        lambda: int(server.stats("store")["keydir_bytes"]) < count * 6, "memory is given back", 60
    )


# Limits


@pytest.mark.seconds(180)
def test_a_disk_limit_below_what_is_stored():
    progress.limit_lowered_below_the_segments()


@pytest.mark.seconds(120)
def test_segments_larger_than_the_disk_limit():
    progress.segments_larger_than_the_limit()


@pytest.mark.seconds(240)
def test_a_full_store_can_be_overwritten():
    progress.overwrites_of_a_full_store(memory_mib=8, limit_mib=8)


# Disks


@MODES
@pytest.mark.parametrize("kind, free_mib", [("ext4", 12), ("ext4", 36), ("tmpfs", 50)])
@pytest.mark.seconds(240)
def test_a_small_disk(small_disk, kind, free_mib, mode):
    progress.small_disk(small_disk(kind, free_mib), 64, mode)


@MODES
@pytest.mark.seconds(240)
def test_a_large_disk_that_is_nearly_full(small_disk, mode):
    progress.small_disk(small_disk("ext4", 50, 1500), 64, mode)


@pytest.mark.seconds(240)
def test_a_disk_that_another_file_fills(small_disk):
    progress.disk_filled_by_another_file(small_disk("tmpfs", 64))


@pytest.mark.seconds(240)
def test_values_as_large_as_segments_on_a_small_disk(small_disk):
    progress.values_as_large_as_segments(small_disk("ext4", 236))


@pytest.mark.seconds(240)
def test_a_value_larger_than_the_disk(small_disk):
    progress.value_larger_than_the_disk(small_disk("ext4", 100))


@MODES
@pytest.mark.seconds(240)
def test_a_start_on_a_full_disk(small_disk, mode):
    progress.start_on_a_full_disk(small_disk("ext4", 100), mode)


@pytest.mark.seconds(240)
def test_a_data_directory_that_is_removed():
    progress.directory_removed(mib=32)


@MODES
@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be the first that is preloaded")
@pytest.mark.seconds(120)
def test_a_disk_that_counts_nothing(mode):
    progress.disk_that_counts_nothing(mode)
