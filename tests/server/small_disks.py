"""File systems of a given size, really mounted: only root may, and not everywhere.

They are mounted in a mount namespace of this process and of the servers that it starts, so nobody
else sees them, and they go when these have ended, however they end.
"""
import ctypes
import os
import shutil
import subprocess

import support

MIB = 1 << 20
CLONE_NEWNS = 0x20000
KINDS = ("ext4", "xfs", "tmpfs")
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"], "xfs": ["mkfs.xfs", "-q", "-f"]}
OWN_MIB = {
    "ext4": 20,
    "xfs": 310,
    "tmpfs": 0,
}  # more than they keep for themselves; xfs is not made below 300

is_apart = False


class Unavailable(Exception):
    """No such disk can be had here, and why."""


def keep_mounts_apart():
    global is_apart
    if is_apart:
        return
    if not support.is_root():
        raise Unavailable("mounting a small disk needs root")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise Unavailable("no mount namespace: %s" % os.strerror(ctypes.get_errno()))
    run("mount", "--make-rprivate", "/")
    is_apart = True


def run(*command):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Unavailable(
            "%s: %s" % (" ".join(command), (done.stderr + done.stdout).strip().split("\n")[0])
        )


class SmallDisk:
    """A disk with so much free, and on it a data directory that belongs to the user who serves."""

    def __init__(self, kind, free_mib, size_mib=None):
        """size_mib: of the whole disk, if it is much larger than what is free."""
        if kind in MKFS and not shutil.which(MKFS[kind][0]):
            raise Unavailable("there is no %s" % MKFS[kind][0])
        keep_mounts_apart()
        self.path = support.place.new("disk")
        self.image = self.path + ".image"
        self.fillers = []
        self.mount(kind, size_mib or free_mib + OWN_MIB[kind])
        os.chmod(self.path, 0o755)
        self.data_dir = os.path.join(self.path, "data")
        os.mkdir(self.data_dir, 0o700)
        support.give_away(self.data_dir)
        self.fill(free_mib * MIB)

    def mount(self, kind, size_mib):
        if kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", "size=%dm,mode=755" % size_mib, "tmpfs", self.path)
            return
        with open(self.image, "wb") as image:
            image.truncate(size_mib * MIB)
        run(*MKFS[kind], self.image)
        run("mount", "-o", "loop", self.image, self.path)

    def free(self):
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def fill(self, leave=0):
        """Another file takes all but `leave` bytes."""
        self.fillers.append(os.path.join(self.path, "filler%d" % len(self.fillers)))
        with open(self.fillers[-1], "wb") as file:
            size, part = 0, 1 << 40
            while part >= 4096:
                part = min(part, max(0, self.free() - leave) // 4096 * 4096)
                try:
                    if part:
                        os.posix_fallocate(file.fileno(), size, part)
                        size += part
                        continue
                except OSError:
                    pass  # the file system needs some for itself
                part //= 2

    def make_room(self):
        """The last of those files goes."""
        os.unlink(self.fillers.pop())

    def remove(self):
        """When its servers have ended."""
        subprocess.run(["umount", "-l", self.path], check=False)
        if os.path.exists(self.image):
            os.unlink(self.image)
