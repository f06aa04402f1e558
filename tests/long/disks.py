"""Small disks, really mounted: what a cache and a store do on them, and on full ones.

Of 12 to 200 MB at -m 64, and of 200 and 300 MB at -m 1024; then the cases from the field with their
inputs. Each request must be answered within 15 s. Needs root; says what it leaves out.
"""
import functools
import os
import sys

import common

os.environ.setdefault("CACHECASK_ANSWER_S", "15")
import progress  # noqa: E402  pylint: disable=wrong-import-position
import small_disks  # noqa: E402  pylint: disable=wrong-import-position

SIZES = [(64, size) for size in (12, 20, 36, 50, 70, 90, 200)] + [(1024, 200), (1024, 300)]
LARGE_MIB = 1500  # of the disk that is nearly full


def on_disk(disk, case, *arguments):
    """A case that gets a disk of its own: (kind, free MiB, MiB in all)."""

    def run():
        small = small_disks.SmallDisk(*disk)
        try:
            return case(small, *arguments)
        finally:
            for server in progress.support.servers:
                server.give_up()
            small.remove()

    return run


def disks(kinds):
    """Each size as a disk of its own, and as the rest of a large one."""
    for memory, free in SIZES:
        for kind in kinds:
            yield memory, (kind, free, None)
            if kind != "tmpfs":
                yield memory, (kind, free, LARGE_MIB)


def table(options):
    for memory, disk in disks(options.kinds):
        for mode in options.modes:
            kind, free, whole = disk
            size = "%d MiB free" % free + (" of %d" % whole if whole else "")
            title = "-m %d, %s, %s, %s" % (memory, mode, kind, size)
            yield title, on_disk(disk, progress.small_disk, memory, mode)


def cases(options):
    """As they were found."""
    small = ("ext4", 236)  # of 256 MB
    yield "A5 tmpfs that another file fills", on_disk(
        ("tmpfs", 64), progress.disk_filled_by_another_file
    )
    yield "A6 values of 30 MB", on_disk(small, progress.values_as_large_as_segments)
    yield "A6 a value larger than the disk", on_disk(small, progress.value_larger_than_the_disk)
    for mode in options.modes:
        case = on_disk(("ext4", 100), progress.start_on_a_full_disk, mode)
        yield "A7 start on a full disk, %s" % mode, case
    yield "A11 the directory is removed", progress.directory_removed
    for memory, free in ((64, 50), (1024, 300)):
        case = on_disk(("ext4", free, LARGE_MIB), progress.small_disk, memory, "cache")
        yield "A12 -m %d, ext4 of 1.5 GB with %d MB free" % (memory, free), case
    for mode in options.modes:
        case = functools.partial(progress.disk_that_counts_nothing, mode)
        yield "A12 a file system that counts nothing, %s" % mode, case
    yield "A4 cache_disklimit 24 after 100 MB", progress.limit_lowered_below_the_segments
    yield "A4 --segment-size=64m --disk-limit=4m", progress.segments_larger_than_the_limit


def run_all(report, options):
    chosen = [source for source in (table, cases) if source.__name__ in options.parts]
    for source in chosen:
        for title, action in source(options):
            try:
                report.attempt(title, action)
            except small_disks.Unavailable as reason:
                report.skip("%s: %s" % (title, reason))


def main():
    parser = common.options("disks", __doc__)
    choose = common.words
    kinds, modes, parts = small_disks.KINDS, ("cache", "store"), ("table", "cases")
    parser.add_argument("--kinds", type=choose(*kinds), default=kinds, help="file systems")
    parser.add_argument("--modes", type=choose(*modes), default=modes, help="without and with -M")
    parser.add_argument("--parts", type=choose(*parts), default=parts, help="what to run")
    options = parser.parse_args()
    return common.run("disks", lambda report: run_all(report, options))


if __name__ == "__main__":
    sys.exit(main())
