"""--sync: answers arrive in every mode, and what was acknowledged survives kill -9 in every
mode."""
import threading

import pytest

import support
from support import Server


def write_and_kill(server, connections, rounds, depth):
    """Pipelined sets on many connections, until all are acknowledged; then kill -9. Returns the
    keys."""
    keys = []

    def write(number):
        with server.connect() as client:
            for turn in range(rounds):
                batch = [b"k-%d-%d-%d" % (number, turn, i) for i in range(depth)]
                client.talk(b"".join(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(key), key)
                                     for key in batch),
                            b"STORED\r\n" * depth)
                keys.extend(batch)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == connections * rounds * depth
    server.kill9()
    return keys


@pytest.mark.parametrize("sync", ["always", "none", "0.5", "1", "60"])
def test_acknowledged_writes_survive_kill_9(sync):
    server = Server("--sync=" + sync)
    keys = write_and_kill(server, connections=8, rounds=10, depth=20)
    server.start()
    with server.connect() as client:
        found = client.gets(*keys)
    assert {key: value[0] for key, value in found.items()} == {key: key for key in keys}


def test_with_sync_always_an_answer_means_synced():
    server = Server("--sync=always")
    with server.connect() as client:
        for i in range(20):
            client.set(b"k%d" % i, b"x")
            stats = client.stats("store")
            assert int(stats["lsn_synced"]) >= int(stats["lsn"])
        assert int(client.stats("store")["syncs"]) >= 20


def test_with_sync_always_one_sync_serves_all_who_wait():
    server = Server("--sync=always")
    with server.connect() as client:
        before = int(client.stats("store")["syncs"])
        client.talk(b"".join(b"set k%d 0 0 1\r\nx\r\n" % i for i in range(200)),
                    b"STORED\r\n" * 200)
        assert int(client.stats("store")["syncs"]) - before < 200


def test_with_sync_always_gets_and_errors_keep_their_place_among_the_answers():
    server = Server("--sync=always")
    with server.connect() as client:
        client.talk(b"set a 0 0 1\r\nA\r\nget a\r\nbogus\r\nset b 0 0 1\r\nB\r\nget b\r\n"
                    b"delete a\r\nget a\r\nincr b 1\r\n",
                    b"STORED\r\nVALUE a 0 1\r\nA\r\nEND\r\nERROR\r\nSTORED\r\nVALUE b 0 1\r\nB\r\n"
                    b"END\r\nDELETED\r\nEND\r\n"
                    b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n")


def test_with_a_number_of_seconds_the_log_is_synced_within_them():
    server = Server("--sync=0.2")
    with server.connect() as client:
        client.set(b"k", b"x")
        lsn = int(client.stats("store")["lsn"])
        support.wait_until(lambda: int(client.stats("store")["lsn_synced"]) >= lsn,
                           "the log is synced")


@pytest.mark.parametrize("value",
                         ["", "sometimes", "-1", "0", "1x", "nan", "inf", "1e9", "0x1p-3000"])
def test_other_values_are_refused(value):
    status, said = Server("--sync=" + value, start=False).launch().wait_for_exit()
    assert status == 64 and "sync" in said
