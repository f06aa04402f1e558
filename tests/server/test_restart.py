"""What survives the end of the process, and which data directories are refused."""
import os
import struct
import time

import pytest

import support
from support import Server, contents, sleep_until, value_of

BOTH_ENDS = pytest.mark.parametrize("how", ["stop", "kill9"])


@BOTH_ENDS
def test_values_flags_and_cas_survive(server, how):
    with server.connect() as client:
        keys = [b"key-%d" % i for i in range(500)] + [b"k" * 250, b"x\x01y", b"\x00"]
        for i, key in enumerate(keys):
            client.set(key, value_of(key, i * 7), flags=i * 1000003 % 2**32)
        before = client.gets(*keys)
    server.restart(how)
    with server.connect() as client:
        assert client.gets(*keys) == before
        assert before[keys[3]] == (value_of(keys[3], 21), 3000009, before[keys[3]][2])


@BOTH_ENDS
def test_every_kind_of_write_survives(server, how):
    with server.connect() as client:
        client.talk(
            b"set a 1 0 1\r\nA\r\nadd b 2 0 1\r\nB\r\nset c 3 0 1\r\nC\r\nreplace c 4 0 2\r\nCC\r\n"
            b"set d 5 0 1\r\nD\r\n"
            b"append d 0 0 1\r\n>\r\nprepend d 0 0 1\r\n<\r\nset n 6 0 2\r\n10\r\nincr n 5\r\n"
            b"set m 7 0 2\r\n10\r\ndecr m 1\r\n",
            b"STORED\r\n" * 8 + b"15\r\nSTORED\r\n9\r\n")
        client.set(b"e", b"E")
        client.talk(b"cas e 8 0 2 %d\r\nEE\r\n" % client.cas_of(b"e"), b"STORED\r\n")
        before = client.gets(b"a", b"b", b"c", b"d", b"n", b"m", b"e")
    server.restart(how)
    with server.connect() as client:
        after = client.gets(b"a", b"b", b"c", b"d", b"n", b"m", b"e")
    assert after == before
    assert {key: value[:2] for key, value in after.items()} == {
        b"a": (b"A", 1), b"b": (b"B", 2), b"c": (b"CC", 4), b"d": (b"<D>", 5), b"n": (b"15", 6),
        b"m": (b"9 ", 7),
        b"e": (b"EE", 8)}


@BOTH_ENDS
def test_what_was_deleted_stays_away(server, how):
    with server.connect() as client:
        for i in range(100):
            client.set(b"k%d" % i, b"old")
            client.set(b"k%d" % i, b"new")
        for i in range(0, 100, 2):
            client.talk(b"delete k%d\r\n" % i, b"DELETED\r\n")
        client.set(b"k0", b"again")
    for _ in range(2):
        server.restart(how)
        with server.connect() as client:
            found = client.gets(*(b"k%d" % i for i in range(100)))
        wanted = {b"k%d" % i: b"new" for i in range(1, 100, 2)}
        wanted[b"k0"] = b"again"
        assert {key: value[0] for key, value in found.items()} == wanted


@BOTH_ENDS
def test_expiries_hold_across_a_restart(server, how):
    with server.connect() as client:
        client.set(b"gone", b"x", exptime=-1)
        client.set(b"soon", b"x", exptime=2)
        client.set(b"absolute", b"x", exptime=int(time.time()) + 2)
        client.set(b"later", b"x", exptime=1000)
        client.set(b"never", b"x")
        client.set(b"touched", b"x", exptime=1000)
        client.talk(b"touch touched 2\r\n", b"TOUCHED\r\n")
        support.touch_in_time(lambda: client.set(b"saved", b"x", exptime=2),
                              lambda: client.ask(b"touch saved 0\r\n", b"\r\n") == b"TOUCHED\r\n")
        support.touch_in_time(lambda: client.set(b"gat", b"x", exptime=2),
                              lambda: client.ask(b"gat 1000 gat\r\n", b"END\r\n") ==
                              b"VALUE gat 0 1\r\nx\r\nEND\r\n")
        before = client.gets(b"later", b"saved", b"gat")
    server.restart(how)
    time.sleep(3.1)
    keys = [b"gone", b"soon", b"absolute", b"later", b"never", b"touched", b"saved", b"gat"]
    with server.connect() as client:
        assert sorted(client.gets(*keys)) == [b"gat", b"later", b"never", b"saved"]
        assert client.gets(b"later", b"saved", b"gat") == before
    server.restart(how)
    with server.connect() as client:
        assert sorted(client.gets(*keys)) == [b"gat", b"later", b"never", b"saved"]


@BOTH_ENDS
def test_what_expired_while_the_server_was_down_is_gone(server, how):
    with server.connect() as client:
        client.set(b"k", b"old")
        client.set(b"k", b"new", exptime=1)
        client.set(b"t", b"x")
        client.talk(b"touch t 1\r\n", b"TOUCHED\r\n")
    getattr(server, how)()
    time.sleep(2.1)
    server.start()
    with server.connect() as client:
        assert client.gets(b"k", b"t") == {}


@BOTH_ENDS
def test_a_flush_holds(server, how):
    with server.connect() as client:
        client.set(b"before", b"x")
        client.talk(b"flush_all\r\n", b"OK\r\n")
        client.set(b"after", b"y")
    for _ in range(2):
        server.restart(how)
        with server.connect() as client:
            assert list(client.gets(b"before", b"after")) == [b"after"]


@BOTH_ENDS
def test_a_pending_flush_comes_after_the_restart(server, how):
    with server.connect() as client:
        client.set(b"before", b"x")
        begin = time.monotonic()
        client.talk(b"flush_all 5\r\n", b"OK\r\n")
    server.restart(how)
    with server.connect() as client:
        assert client.get(b"before") == b"x"
        client.set(b"between", b"x")
        sleep_until(begin + 6.1)
        assert client.gets(b"before", b"between") == {}
        client.set(b"after", b"x")
    server.restart(how)
    with server.connect() as client:
        assert list(client.gets(b"before", b"between", b"after")) == [b"after"]


@BOTH_ENDS
def test_a_flush_that_was_due_while_the_server_was_down(server, how):
    with server.connect() as client:
        client.set(b"before", b"x")
        client.talk(b"flush_all 1\r\n", b"OK\r\n")
    getattr(server, how)()
    time.sleep(2.1)
    server.start()
    with server.connect() as client:
        assert client.get(b"before") is None
        client.set(b"after", b"x")
    server.restart(how)
    with server.connect() as client:
        assert client.gets(b"before", b"after").keys() == {b"after"}


@BOTH_ENDS
def test_cas_uniques_go_on_above_all_that_were_given(server, how):
    highest = 0
    for _ in range(3):
        with server.connect() as client:
            client.set(b"k", b"x")
            assert client.cas_of(b"k") > highest
            client.set(b"doomed", b"x")
            highest = client.cas_of(b"doomed")
            client.talk(b"delete doomed\r\n", b"DELETED\r\n")
        server.restart(how)


def test_noreply_writes_survive_once_a_later_answer_is_read(server):
    with server.connect() as client:
        client.send(b"".join(b"set k%d 0 0 1 noreply\r\nx\r\n" % i for i in range(1000)))
        client.ask(b"version\r\n", b"\r\n")
        keys = [b"k%d" % i for i in range(1000)]
        server.kill9()
    server.start()
    with server.connect() as client:
        assert len(client.gets(*keys)) == 1000


@BOTH_ENDS
def test_many_segments(how):
    server = Server("--segment-size=64k", "-m", "8")
    keys = [b"key-%d" % i for i in range(1000)]
    with server.connect() as client:
        for version in range(3):
            client.talk(b"".join(b"set %s 0 0 1000\r\n%s\r\n"
                                 % (key, value_of(b"%d-%s" % (version, key), 1000))
                                 for key in keys), b"STORED\r\n" * len(keys))
        client.talk(b"".join(b"delete %s\r\n" % key for key in keys[::3]),
                    b"DELETED\r\n" * len(keys[::3]))
    for _ in range(3):
        server.restart(how)
        with server.connect() as client:
            found = client.gets(*keys)
        for i, key in enumerate(keys):
            assert (key in found) == (i % 3 != 0)
            assert i % 3 == 0 or found[key][0] == value_of(b"2-" + key, 1000)


def test_restarts_over_and_over_change_nothing(server):
    with server.connect() as client:
        client.set(b"k", b"value", flags=5, exptime=1000)
        before = client.gets(b"k")
    for turn in range(6):
        server.restart("kill9" if turn % 2 else "stop")
        with server.connect() as client:
            assert client.gets(b"k") == before
            assert client.stats("store")["recovered_items"] == "1"


def test_lost_hint_files_are_made_anew():
    server = Server("--segment-size=64k", "-m", "8")
    keys = [b"key-%d" % i for i in range(300)]
    with server.connect() as client:
        for key in keys:
            client.set(key, value_of(key, 1000))
    server.stop()
    hints = [name for name in os.listdir(server.data_dir) if name.endswith(".hint")]
    assert hints
    for turn, name in enumerate(hints):
        path = os.path.join(server.data_dir, name)
        if turn % 2:
            os.remove(path)
        else:
            with open(path, "r+b") as hint:
                hint.seek(os.path.getsize(path) // 2)
                hint.write(b"\xff" * 8)
    server.start()
    with server.connect() as client:
        found = client.gets(*keys)
    assert {key: value[0]
            for key, value in found.items()} == {key: value_of(key, 1000) for key in keys}


def test_lives_shorter_than_the_sync_interval_leave_hint_files():
    """Or each start would read all the segments of all lives before it."""
    server = Server("--sync=600")
    for life in range(5):
        with server.connect() as client:
            client.set(b"life-%d" % life, b"short")
        written = [name for name in os.listdir(server.data_dir) if name.endswith(".seg")]
        server.restart("kill9")
        hints = {name.replace(".seg", ".hint") for name in written
                 if os.path.exists(os.path.join(server.data_dir, name))}
        support.wait_until(lambda: hints.issubset(os.listdir(server.data_dir)), "hint files")
    with server.connect() as client:
        assert len(client.gets(*[b"life-%d" % life for life in range(5)])) == 5


def test_the_data_directory_and_its_files_are_private(server):
    with server.connect() as client:
        client.set(b"k", b"x")
    assert os.stat(server.data_dir).st_mode & 0o777 == 0o700
    for name in os.listdir(server.data_dir):
        assert os.stat(os.path.join(server.data_dir, name)).st_mode & 0o777 == 0o600, name
    assert {"store", "lock"} < set(os.listdir(server.data_dir))


# Refused

def refused(data_dir, *options):
    """Starts a server that must refuse the directory and leave it as it is. Returns what it
    said."""
    before = contents(data_dir)
    status, said = Server(*options, data_dir=data_dir, start=False).launch().wait_for_exit()
    assert status > 0, "exit status %d: %s" % (status, said)
    assert "ready" not in said
    assert data_dir in said
    assert contents(data_dir) == before, "the directory was touched"
    return said


def test_a_data_directory_in_use_is_refused_and_its_user_named(server):
    with server.connect() as client:
        client.set(b"k", b"x")
    time.sleep(1.5)  # the first server's syncs are done, so nothing changes but by the second
    said = refused(server.data_dir)
    assert "in use" in said and str(server.process.pid) in said
    with server.connect() as client:
        assert client.get(b"k") == b"x"
        client.set(b"k", b"y")
        assert client.get(b"k") == b"y"


def test_a_data_directory_is_free_again_after_kill_9(server):
    server.restart("kill9")
    server.stop()
    Server(data_dir=server.data_dir)


@pytest.mark.parametrize("version", [0, 2, 77])
def test_another_format_version_is_refused(server, version):
    with server.connect() as client:
        client.set(b"k", b"x")
    server.stop()
    with open(os.path.join(server.data_dir, "store"), "r+b") as store:
        original = store.read()
        store.seek(8)
        store.write(struct.pack("<I", version))
    said = refused(server.data_dir)
    assert "version %d" % version in said and "--data-dir" in said
    with open(os.path.join(server.data_dir, "store"), "wb") as store:
        store.write(original)
    server.start()
    with server.connect() as client:
        assert client.get(b"k") == b"x"


def test_a_damaged_store_file_is_refused(server):
    server.stop()
    with open(os.path.join(server.data_dir, "store"), "r+b") as store:
        store.seek(20)
        store.write(b"\xff\xff")
    assert "damaged" in refused(server.data_dir)


@pytest.mark.skipif(not support.is_root(), reason="only root can give a directory to another user")
def test_a_directory_of_another_user_is_refused():
    directory = support.place.new("root")
    os.chown(directory, 0, 0)
    assert "chown" in refused(directory)
    assert os.listdir(directory) == []


@pytest.mark.skipif(not support.is_root(), reason="only root can give a directory to another user")
def test_a_store_of_another_user_is_refused(server):
    server.stop()
    os.chown(server.data_dir, 0, 0)
    refused(server.data_dir)


def test_a_directory_with_something_else_in_it_is_refused():
    directory = support.place.new("foreign")
    for name in ("notes.txt", "0000000000000001.seg"):
        path = os.path.join(directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write("mine")
        support.give_away(path)
        said = refused(directory)
        assert "not empty" in said
        os.remove(path)
    Server(data_dir=directory)


def test_a_file_in_place_of_the_directory_is_refused():
    path = os.path.join(support.place.new("parent"), "file")
    with open(path, "w", encoding="ascii") as file:
        file.write("mine")
    support.give_away(path)
    status, said = Server(data_dir=path, start=False).launch().wait_for_exit()
    assert status > 0 and path in said
    with open(path, encoding="ascii") as file:
        assert file.read() == "mine"


def test_a_data_directory_that_is_not_there_is_made():
    path = os.path.join(support.place.new("parent"), "data")
    server = Server(data_dir=path)
    with server.connect() as client:
        client.set(b"k", b"x")
    assert os.stat(path).st_mode & 0o777 == 0o700
