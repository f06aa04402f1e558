"""Real input: the files of /usr/include, stored, the server killed at once, and every one back as
it was."""
import hashlib
import os
import time

import pymemcache
import pytest

import support

FILES = None if support.LONG else (150 if support.SANITIZED else 500)
BYTES = None if support.LONG else 20 << 20


def files():
    """Paths of regular files below 1 MB, in a fixed order that mixes the directories."""
    found = []
    for directory, _, names in os.walk("/usr/include"):
        for name in names:
            path = os.path.join(directory, name)
            if (os.path.isfile(path) and not os.path.islink(path) and
                os.path.getsize(path) < 1000000):
                found.append(path)
    found.sort(key=lambda path: hashlib.sha256(path.encode()).digest())
    size = 0
    for count, path in enumerate(found):
        if (FILES and count >= FILES) or (BYTES and size > BYTES):
            return
        size += os.path.getsize(path)
        yield path


def key_of(path):
    return hashlib.sha256(path.encode()).hexdigest()


@pytest.mark.seconds(600 if support.LONG else 60)
def test_every_file_comes_back_after_kill_9():
    server = support.Server("-m", "16")
    client = pymemcache.Client(("127.0.0.1", server.port), default_noreply=False,
                               timeout=support.TIMEOUT)
    expiries = [0, 3600, 2592000, int(time.time()) + 86400]
    wanted = {}
    for number, path in enumerate(files()):
        with open(path, "rb") as file:
            content = file.read()
        flags = number * 2654435761 % 2**32
        assert client.set(key_of(path), content, expire=expiries[number % 4], flags=flags)
        wanted[path] = (hashlib.sha256(content).digest(), flags)
    server.process.kill()
    assert len(wanted) > 100, "/usr/include has too few files to tell anything"
    client.close()
    server.reap()

    server.start()
    uniques = {}
    with server.connect() as raw:
        for path, (digest, flags) in wanted.items():
            found = raw.gets(key_of(path).encode())
            assert found, "%s is lost" % path
            value, found_flags, uniques[path] = found[key_of(path).encode()]
            assert (hashlib.sha256(value).digest(), found_flags) == (digest, flags), path
    assert len(set(uniques.values())) == len(uniques)

    server.restart("kill9")
    client = pymemcache.Client(("127.0.0.1", server.port), timeout=support.TIMEOUT)
    for path, unique in uniques.items():
        value, found_unique = client.gets(key_of(path))
        assert (hashlib.sha256(value).digest(),
                int(found_unique)) == (wanted[path][0], unique), path
    print("%d files, all back" % len(wanted))
    client.close()


def test_cas_uniques_are_the_same_before_and_after(server):
    paths = list(files())[:100]
    with server.connect() as client:
        for number, path in enumerate(paths):
            with open(path, "rb") as file:
                client.set(key_of(path).encode(), file.read(), flags=number)
        keys = [key_of(path).encode() for path in paths]
        before = client.gets(*keys)
    server.restart("kill9")
    with server.connect() as client:
        assert client.gets(*keys) == before
