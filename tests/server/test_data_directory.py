"""Directories that are given from outside: volumes, mounts, and the disk below them."""
import os
import subprocess

import pytest

import support
from support import Server

only_root = pytest.mark.skipif(not support.is_root(), reason="only root can become another user")


class PodServer(Server):
    """As Kubernetes starts it: a user that no file knows, in the group of the volume."""

    def __init__(self, *options, **how):
        self.program = support.program_for_all()
        os.chmod(os.path.dirname(self.program), 0o755)
        super().__init__(*options, **how)

    def command(self):
        command = super().command()
        assert command[1:3] == ["-u", "nobody"]
        return ["setpriv", "--reuid=12345", "--regid=12345", "--groups=2000",
                self.program] + command[3:]


def volume(mode=0o2775):
    path = support.place.new("volume")
    os.chown(path, 0, 2000)
    os.chmod(path, mode)
    return path


@only_root
def test_a_volume_that_belongs_to_root_and_a_group_of_ours():
    path = volume()
    status, said = PodServer(data_dir=path, start=False).launch().wait_for_exit()
    assert status != 0 and "--any-owner takes it" in said and not os.listdir(path)
    server = PodServer("--any-owner", data_dir=path)
    for how in ("kill9", "stop"):
        with server.connect() as client:
            client.set(how.encode(), b"x")
        server.restart(how)
        with server.connect() as client:
            assert client.get(how.encode()) == b"x"
    assert {os.stat(os.path.join(path, name)).st_uid for name in os.listdir(path)} == {12345}


@only_root
def test_a_subdirectory_of_it_needs_no_option():
    path = os.path.join(volume(), "cachecask")
    PodServer(data_dir=path).stop()
    assert os.stat(path).st_mode & 0o777 == 0o700


@only_root
def test_a_volume_that_cannot_be_written_is_refused_all_the_same():
    path = volume(0o2755)
    status, said = PodServer("--any-owner", data_dir=path, start=False).launch().wait_for_exit()
    assert status != 0 and "must be readable and writable" in said and not os.listdir(path)


def test_the_root_of_a_mount_with_snapshots():
    path = support.place.new("mount")
    os.mkdir(os.path.join(path, ".snapshot"))
    os.mkdir(os.path.join(path, "lost+found"))
    Server(data_dir=path)


def test_for_what_is_not_empty_the_message_names_a_subdirectory():
    path = support.place.new("mount")
    os.mkdir(os.path.join(path, "others"))
    status, said = Server(data_dir=path, start=False).launch().wait_for_exit()
    assert status != 0 and "such as %s/cachecask" % path in said


# A disk that should have been mounted

class Mount:
    """A file system at a path, which comes and goes."""

    def __init__(self):
        self.path = support.place.new("mount")
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", self.path], check=True,
                       stderr=subprocess.DEVNULL)

    def umount(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture
def mount():
    try:
        made = Mount()
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("nothing can be mounted here")
    yield made
    for server in support.servers:
        server.give_up()
    subprocess.run(["umount", "--lazy", made.path], stderr=subprocess.DEVNULL, check=False)


def test_without_the_mount_it_does_not_start_and_makes_nothing(mount):
    server = Server("--require-mount=" + mount.path,
                    data_dir=os.path.join(mount.path, "deep", "data"))
    with server.connect() as client:
        client.set(b"k", b"x")
    server.stop()
    mount.umount()
    status, said = server.launch().wait_for_exit()
    assert status != 0 and "--require-mount=%s: nothing is mounted there" % mount.path in said
    assert os.listdir(mount.path) == []
    mount.mount()
    server.start()


def test_a_data_directory_beside_the_mount_is_refused(mount):
    path = support.place.new("data")
    status, said = Server("--require-mount=" + mount.path, data_dir=path,
                          start=False).launch().wait_for_exit()
    assert (status != 0 and "%s lies on another file system" % path in said and
            os.listdir(path) == [])


def test_a_mount_that_is_not_there_at_all():
    status, said = Server("--require-mount=/no/such/place", start=False).launch().wait_for_exit()
    assert status != 0 and "--require-mount=/no/such/place: No such file or directory" in said
