"""What tools take for memcached: the version and its form, the name under which it was started."""
import os
import re
import subprocess

import pytest

import support
from support import CACHECASK, Server

pytestmark = pytest.mark.skipif(support.IS_MEMCACHED, reason="about our likeness to it")

MEMCACHED = "1.6.45"


def own_version():
    said = subprocess.run([CACHECASK, "--version"], stdout=subprocess.PIPE,
                          check=True).stdout.decode()
    return re.fullmatch(r"cachecask (\d+\.\d+\.\d+)\n", said).group(1)


def test_the_version_is_memcacheds_and_ours_is_told_elsewhere(server):
    with server.connect() as client:
        client.talk(b"version\r\n", b"VERSION %s\r\n" % MEMCACHED.encode())
        assert client.stats()["version"] == MEMCACHED
        assert client.stats("store")["cachecask_version"] == own_version()
    with server.connect() as client:
        client.talk(b"\x80\x0b" + bytes(22),
                    b"\x81\x0b" + bytes(9) + b"\x06" + bytes(12) + MEMCACHED.encode())
    assert server.log().startswith("cachecask %s ready" % own_version())


def as_memcached(*options):
    """What a link of that name says."""
    link = os.path.join(support.place.new("bin"), "memcached")
    os.symlink(os.path.abspath(CACHECASK), link)
    return subprocess.run([link, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True,
                          timeout=support.TIMEOUT).stdout.decode()


def test_under_memcacheds_name_it_says_its_version_first_and_ours_after_it():
    for option in ("-V", "--version"):
        assert as_memcached(option) == "memcached %s\ncachecask %s\n" % (MEMCACHED, own_version())
    for option in ("-h", "--help"):
        said = as_memcached(option)
        assert said.startswith("memcached %s\ncachecask %s: " % (MEMCACHED, own_version()))
        assert "-p, --port=<num>" in said and "proxy_config" not in said
        ours = subprocess.run([CACHECASK, option], stdout=subprocess.PIPE,
                              check=True).stdout.decode()
        assert said == "memcached %s\n" % MEMCACHED + ours
