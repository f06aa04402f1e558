"""The binary protocol, packet by packet. The expected answers are memcached 1.6's; tests say where
we differ."""
import os
import random
import struct
import time

import pytest

import support
from binary import (ADD, ADDQ, APPEND, APPENDQ, DECR, DECRQ, DELETE, DELETEQ, DO_NOT_CREATE, EXISTS,
                    FLUSH, FLUSHQ, GAT, GATK, GATKQ, GATQ, GET, GETK, GETKQ, GETQ, INCR, INCRQ,
                    INVALID, NON_NUMERIC, NOOP, NOT_FOUND, NOT_STORED, OK, PREPEND, PREPENDQ, QUIT,
                    QUITQ, REPLACE, REPLACEQ, SASL_AUTH, SASL_LIST, SASL_STEP, SET, SETQ, STAT,
                    TEXTS, TOO_LARGE, TOUCH, UNKNOWN, VERSION, ask, count, packet, receive, refused,
                    statistics, store, talk, until)
from support import Server, forget_page_cache, value_of


def set_(client, key, value, **more):
    answer = ask(client, store(SET, key, value, **more))
    assert answer.status == OK and answer.cas > 0 and not answer.value
    return answer.cas


def get(client, key):
    """(value, flags, cas), or None."""
    answer = ask(client, packet(GET, key))
    if answer.status == NOT_FOUND:
        return None
    assert answer.status == OK and not answer.key
    return answer.value, struct.unpack(">I", answer.extras)[0], answer.cas


def number(answer):
    assert answer.status == OK and len(answer.value) == 8
    return struct.unpack(">Q", answer.value)[0]


# Get

def test_a_set_and_each_get(client):
    cas = set_(client, b"k", b"value", flags=0xA0B0C0D)
    for opcode, key in ((GET, b""), (GETQ, b""), (GETK, b"k"), (GETKQ, b"k")):
        answer = ask(client, packet(opcode, b"k", opaque=opcode))
        assert answer == (opcode, OK, b"\x0a\x0b\x0c\x0d", key, b"value", cas, opcode)


def test_misses(client):
    assert talk(client, *(packet(opcode, b"none") for opcode in (GET, GETQ, GETK, GETKQ))) == [
        refused(GET, NOT_FOUND), refused(GETK, NOT_FOUND, b"none")]


def test_quiet_gets_end_with_a_noop(client):
    for n in range(0, 200, 2):
        set_(client, b"k%d" % n, b"%d" % n)
    answers = talk(client, *(packet(GETKQ, b"k%d" % n) for n in range(200)))
    assert [(a.key, a.value) for a in answers] == [(b"k%d" % n, b"%d" % n)
                                                   for n in range(0, 200, 2)]


def test_keys_may_hold_any_byte(client):
    for key in (b" ", b"a b\r\n\0", b"k" * 250, bytes(range(1, 200))):
        set_(client, key, b"x")
        assert ask(client, packet(GETK, key)).key == key


def test_values_of_every_size(client):
    for size in (0, 1, 16383, 16384, 16385, 100000, 1000000):
        value = value_of(b"k", size)
        set_(client, b"k", value)
        assert get(client, b"k")[0] == value
        assert ask(client, packet(GETK, b"k")).value == value
        assert ask(client, until(GATK, b"k", 100)).value == value


# Storing

def test_add_and_replace(client):
    assert ask(client, store(REPLACE, b"k", b"x")) == refused(REPLACE, NOT_FOUND)
    assert ask(client, store(ADD, b"k", b"1")).status == OK
    assert ask(client, store(ADD, b"k", b"2")) == refused(ADD, EXISTS)
    assert ask(client, store(REPLACE, b"k", b"3")).status == OK
    assert get(client, b"k")[0] == b"3"


def test_every_write_shows_the_new_cas(client):
    requests = [store(SET, b"k", b"1"), store(REPLACE, b"k", b"1"), packet(APPEND, b"k", b"", b"1"),
                packet(PREPEND, b"k", b"", b"1"), count(INCR, b"k"), count(DECR, b"k")]
    seen = 0
    for request in requests:
        answer = ask(client, request)
        assert answer.status == OK and answer.cas > seen and answer.cas == get(client, b"k")[2]
        seen = answer.cas
    assert ask(client, count(INCR, b"new", initial=3)).cas == get(client, b"new")[2]
    assert ask(client, packet(DELETE, b"k")).cas == 0


@pytest.mark.parametrize("opcode", [SET, ADD, REPLACE, SETQ, ADDQ, REPLACEQ])
def test_with_a_cas_all_of_them_compare(client, opcode):
    cas = set_(client, b"k", b"1")
    assert ask(client, store(opcode, b"k", b"2", cas=cas + 1)) == refused(opcode, EXISTS)
    assert ask(client, store(opcode, b"none", b"2", cas=cas)) == refused(opcode, NOT_FOUND)
    answers = talk(client, store(opcode, b"k", b"3", cas=cas))
    assert [a.status for a in answers] == ([OK] if opcode < SETQ else [])
    assert get(client, b"k")[0] == b"3" and get(client, b"none") is None


@pytest.mark.parametrize("opcode", [DELETE, DELETEQ])
def test_delete_with_a_cas(client, opcode):
    cas = set_(client, b"k", b"1")
    assert ask(client, packet(opcode, b"none", cas=cas)) == refused(opcode, NOT_FOUND)
    assert ask(client, packet(opcode, b"k", cas=cas + 1)) == refused(opcode, EXISTS)
    assert get(client, b"k")[0] == b"1"
    answers = talk(client, packet(opcode, b"k", cas=cas))
    assert [a.status for a in answers] == ([OK] if opcode == DELETE else [])
    assert get(client, b"k") is None


@pytest.mark.parametrize("opcode,joined",
                         [(APPEND, b"middleend"), (PREPEND, b"endmiddle"), (APPENDQ, b"middleend"),
                          (PREPENDQ, b"endmiddle")])
def test_append_and_prepend(client, opcode, joined):
    cas = set_(client, b"k", b"middle", flags=5)
    assert ask(client, packet(opcode, b"none", b"", b"end")) == refused(opcode, NOT_STORED)
    assert ask(client, packet(opcode, b"none", b"", b"end", cas=cas)) == refused(opcode, NOT_STORED)
    assert ask(client, packet(opcode, b"k", b"", b"end", cas=cas + 1)) == refused(opcode, EXISTS)
    talk(client, packet(opcode, b"k", b"", b"end", cas=cas))
    assert get(client, b"k")[:2] == (joined, 5)


def test_append_beyond_the_limit(client):
    set_(client, b"k", b"x" * 1000000)
    assert ask(client, packet(APPEND, b"k", b"", b"x" * 500000)) == refused(APPEND, NOT_STORED)
    assert len(get(client, b"k")[0]) == 1000000


@pytest.mark.parametrize("cas", [0, 5])
def test_too_large(client, cas):
    for opcode, stays in ((SET, False), (SETQ, False), (ADD, True), (REPLACE, True),
                          (APPEND, True)):
        set_(client, b"k", b"old")
        extras = b"" if opcode == APPEND else bytes(8)
        assert talk(client,
                    packet(opcode, b"k", extras, b"x" * 2000000,
                           cas=cas)) == [refused(opcode, TOO_LARGE)]
        assert (get(client, b"k") is not None) == stays


def test_the_item_limit_is_that_of_the_text_protocol(client):
    set_(client, b"k", b"x" * 1047552)
    assert ask(client, store(SET, b"k", b"x" * 1049600)) == refused(SET, TOO_LARGE)


def test_quiet_writes_are_silent_when_they_succeed(client):
    assert talk(client, store(SETQ, b"k", b"1"), store(ADDQ, b"a", b"1"),
                store(REPLACEQ, b"k", b"5"), packet(APPENDQ, b"k", b"", b"0"),
                packet(PREPENDQ, b"k", b"", b"1"), count(INCRQ, b"k", 5), count(DECRQ, b"k", 2),
                packet(DELETEQ, b"a")) == []
    assert get(client, b"k")[0] == b"153" and get(client, b"a") is None
    assert talk(client, packet(FLUSHQ)) == []
    assert get(client, b"k") is None


def test_quiet_writes_tell_what_fails(client):
    set_(client, b"k", b"text")
    assert talk(client, store(ADDQ, b"k", b"1"), store(REPLACEQ, b"none", b"1"),
                packet(APPENDQ, b"none", b"", b"1"),
                packet(DELETEQ, b"none"), count(INCRQ, b"none", exptime=DO_NOT_CREATE),
                count(DECRQ, b"k")) == [
refused(ADDQ, EXISTS), refused(REPLACEQ, NOT_FOUND), refused(APPENDQ, NOT_STORED),
refused(DELETEQ, NOT_FOUND), refused(INCRQ, NOT_FOUND), refused(DECRQ, NON_NUMERIC)]


# Counting

def test_counters(client):
    assert number(ask(client, count(INCR, b"n", 5, 10))) == 10
    assert number(ask(client, count(INCR, b"n", 5, 10))) == 15
    assert number(ask(client, count(DECR, b"n", 7, 10))) == 8
    assert get(client, b"n")[:2] == (b"8 ", 0)
    assert number(ask(client, count(DECR, b"n", 100, 10))) == 0
    assert number(ask(client, count(DECR, b"d", 1, 2**64 - 1))) == 2**64 - 1
    assert get(client, b"d")[0] == b"18446744073709551615"
    assert number(ask(client, count(INCR, b"d", 2))) == 1


def test_a_counter_that_is_not_to_be_made(client):
    assert ask(client, count(INCR, b"n", 5, 10, DO_NOT_CREATE)) == refused(INCR, NOT_FOUND)
    assert ask(client, count(DECR, b"n", 5, 10, DO_NOT_CREATE)) == refused(DECR, NOT_FOUND)
    assert get(client, b"n") is None


def test_a_counter_with_a_cas(client):
    cas = ask(client, count(INCR, b"n", 5, 10, cas=7)).cas
    assert get(client, b"n")[0] == b"10"
    assert ask(client, count(INCR, b"n", cas=cas + 1)) == refused(INCR, EXISTS)
    assert number(ask(client, count(INCR, b"n", cas=cas))) == 11


def test_a_text_is_no_counter(client):
    set_(client, b"k", b"text")
    assert ask(client, count(INCR, b"k", initial=1)) == refused(INCR, NON_NUMERIC)
    assert get(client, b"k")[0] == b"text"


def test_what_counts_as_a_hit(server, client):
    talk(client, count(INCR, b"n"), count(INCR, b"n"), count(INCR, b"m", exptime=DO_NOT_CREATE),
         count(DECR, b"n"))
    stats = server.stats()
    assert (stats["incr_hits"], stats["incr_misses"], stats["decr_hits"]) == ("1", "1", "1")


# Time

def test_touch_and_its_siblings(client):
    cas = set_(client, b"k", b"value", flags=9)
    assert ask(client, until(TOUCH, b"k", 100)) == (TOUCH, OK, b"\0\0\0\x09", b"", b"", cas,
                                                    0xDECAFBAD)
    for opcode, key in ((GAT, b""), (GATQ, b""), (GATK, b"k"), (GATKQ, b"k")):
        assert ask(client, until(opcode, b"k", 100)) == (opcode, OK, b"\0\0\0\x09", key, b"value",
                                                         cas, 0xDECAFBAD)
    assert talk(client,
                *(until(opcode, b"none", 100) for opcode in (TOUCH, GAT, GATQ, GATK, GATKQ))) == [
refused(TOUCH, NOT_FOUND), refused(GAT, NOT_FOUND), refused(GATK, NOT_FOUND, b"none")]


def test_expiries(client):
    now = int(time.time())
    set_(client, b"short", b"x", exptime=1)
    set_(client, b"past", b"x", exptime=2592001)  # beyond 30 days it is a date
    set_(client, b"date", b"x", exptime=now + 100)
    set_(client, b"far", b"x", exptime=0xFFFFFFFF)  # and there are no negative ones
    set_(client, b"shortened", b"x")
    ask(client, count(INCR, b"counter", 1, 5, 1))
    support.touch_in_time(lambda: set_(client, b"touched", b"x", exptime=2),
                          lambda: ask(client, until(TOUCH, b"touched", 100)).status == OK)
    ask(client, until(GAT, b"shortened", 1))
    assert get(client, b"past") is None
    time.sleep(2.1)
    left = {key for key in (b"short", b"date", b"far", b"touched", b"shortened", b"counter")
            if get(client, key)}
    assert left == {b"date", b"far", b"touched"}


def test_flush(client):
    set_(client, b"k", b"1")
    assert ask(client, packet(FLUSH)) == (FLUSH, OK, b"", b"", b"", 0, 0xDECAFBAD)
    assert get(client, b"k") is None
    set_(client, b"k", b"2")
    assert ask(client, packet(FLUSH, extras=b"\0\0\0\2")).status == OK
    assert get(client, b"k")[0] == b"2"
    time.sleep(3.1)
    assert get(client, b"k") is None


def test_flush_with_dash_F():
    with Server("-F").connect() as client:
        assert talk(client, packet(FLUSH),
                    packet(FLUSHQ)) == [refused(FLUSH, 0x20), refused(FLUSHQ, 0x20)]


# The rest

def test_version_noop_and_quit(server, client):
    answer = ask(client, packet(VERSION))
    assert answer.status == OK and answer.value.startswith(b"1.6.")
    assert talk(client) == []
    assert ask(client, packet(QUIT)) == (QUIT, OK, b"", b"", b"", 0, 0xDECAFBAD)
    client.expect_closed()
    with server.connect() as other:
        other.send(store(SETQ, b"k", b"x") + packet(QUITQ) + packet(NOOP))
        other.expect_closed()
    with server.connect() as other:
        assert get(other, b"k")[0] == b"x"


def test_stat(server, client):
    for group in ("", "settings", "items", "slabs", "sizes", "store"):
        if group == "items":
            set_(client, b"k", b"x")
        assert statistics(client, group.encode()).keys() == server.stats(group).keys()
    assert statistics(client, b"settings")["maxconns"] == "1024"
    assert statistics(client)["curr_items"] == "1"
    assert "conn_listening" in statistics(client, b"conns").values()
    assert statistics(client, b"reset") == {}
    assert statistics(client)["cmd_set"] == "0"
    assert statistics(client, b"nonsense") == NOT_FOUND


# What is refused

def test_unknown_opcodes(client):
    """1.6.18 loses its place in the stream where such a request has a body."""
    for opcode in [0x1B, 0x1F] + list(range(0x25, 0x100)):
        assert talk(client, packet(opcode),
                    packet(opcode, b"key", b"extra",
                           packet(FLUSH) * 10)) == [refused(opcode, UNKNOWN)] * 2


def test_sasl_that_is_off(client):
    assert talk(client, packet(SASL_LIST), packet(SASL_AUTH, b"PLAIN", b"", b"\0u\0p"),
                packet(SASL_STEP, b"PLAIN", b"", b"\0u\0p")) == [
        refused(opcode, UNKNOWN) for opcode in (SASL_LIST, SASL_AUTH, SASL_STEP)]


MALFORMED = [
    (packet(GET, b"k", b"extras"), INVALID),
    (packet(SET, b"k", b"1234567"), INVALID),
    (packet(GET), INVALID),
    (packet(GET, b"k" * 251), INVALID),
    (store(SET, b"", b"x"), INVALID),
    (store(SET, b"k" * 251, b"x"), INVALID),
    (packet(DELETE, b"k", b"", b"value"), INVALID),
    (count(INCR, b"", 1), INVALID),
    (packet(NOOP, b"k"), INVALID),
    (packet(VERSION, b"", b"", b"x"), INVALID),
    (packet(FLUSH, extras=b"12"), INVALID),
    (packet(STAT, b"items", b"12"), INVALID),
    (packet(QUIT, b"k"), INVALID),
    (packet(GET, b"k", body_len=0xFFFFFFFF), INVALID),
    (packet(GET, b"k", key_len=10, body_len=1), UNKNOWN),
    (store(SET, b"k", b"", body_len=5), UNKNOWN),
    (packet(0x40, b"k", key_len=251, body_len=300), INVALID),
]


def test_malformed_requests_close(server):
    for request, status in MALFORMED:
        with server.connect() as client:
            client.send(request + packet(FLUSH))
            answer = receive(client)
            assert (answer.status, answer.value) == (status, TEXTS[status]), request
            client.expect_closed()


def test_another_protocol_closes(server):
    for data in (b"\x81" + bytes(23), b"get a\r\n" * 10, b"\0"):
        with server.connect() as client:
            assert talk(client) == []
            client.send(data)
            client.expect_closed()


def test_a_body_of_4_gib_is_not_kept(server, client):
    before = server.resident_mib()
    client.send(store(SET, b"k", b"", body_len=0xFFFFFFFF))
    assert receive(client) == refused(SET, TOO_LARGE)
    client.send(packet(0x30, body_len=0xFFFFFFFF) * 3)
    for _ in range(30):
        client.send(bytes(1 << 20))
    assert server.resident_mib() < before + 20


# Which protocol

def test_dash_B():
    with Server("-B", "binary").connect() as client:
        assert talk(client) == []
        assert statistics(client, b"settings")["binding_protocol"] == "binary"
    with support.servers[-1].connect() as client:
        client.send(b"get a\r\n")
        client.expect_closed()
    ascii_server = Server("-B", "ascii")
    with ascii_server.connect() as client:
        assert b"ERROR" in client.ask(packet(NOOP) + b"\r\n", b"\r\n")
    bad = Server("-B", "nonsense", start=False).launch()
    status, said = bad.wait_for_exit()
    assert status == 64 and "nonsense" in said


def test_both_protocols_see_the_same_items(server, client):
    with server.connect() as text:
        cas = set_(client, b"k", b"1", flags=3)
        assert text.gets(b"k") == {b"k": (b"1", 3, cas)}
        text.talk(b"cas k 4 0 1 %d\r\n2\r\n" % cas, b"STORED\r\n")
        assert get(client, b"k") == (b"2", 4, text.cas_of(b"k"))


# However it arrives

SESSION = b"".join([
    store(SET, b"k", b"value" * 10, flags=1), packet(GET, b"k"), packet(GETKQ, b"none"),
    packet(GETKQ, b"k"), store(ADD, b"k", b"x"), store(SET, b"large", b"y" * 3000),
    packet(GET, b"large"), packet(0x1B, b"key", b"ex", b"body"), count(INCR, b"n", 5, 10),
    count(INCRQ, b"n"), packet(APPEND, b"k", b"", b"z"), packet(STAT, b"reset"),
    until(TOUCH, b"k", 0), packet(DELETE, b"k"), packet(DELETEQ, b"k"), packet(VERSION),
    packet(FLUSH), packet(QUIT)])


def play(server, pieces, pause=0.0):
    with server.connect() as client:
        for piece in pieces:
            client.send(piece)
            time.sleep(pause)
        answers = []
        while not answers or answers[-1].opcode != QUIT:
            answers.append(receive(client)._replace(cas=0))
        client.expect_closed()
    return answers


def split_at_every_byte(server):
    """The server takes items of 2 KiB."""
    whole = play(server, [SESSION])
    assert [a.status for a in whole if a.opcode == SET] == [OK, TOO_LARGE]
    assert len(whole) == 16
    step = 1 if not support.SANITIZED else 7
    for cut in filter(cut_matters, range(1, len(SESSION), step)):
        assert play(server, [SESSION[:cut], SESSION[cut:]], 0.001) == whole
    assert play(server, [SESSION[at : at + 1] for at in range(len(SESSION))]) == whole


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix socket"])
def test_split_at_every_byte(unix):
    split_at_every_byte(Server("-I", "2k", unix=unix))  # test_tls.py does it over TLS


def cut_matters(cut):
    """All but the middle of the value that nobody keeps."""
    start = SESSION.index(b"y" * 3000)
    return not start + 50 < cut < start + 2950


def test_in_pieces_of_any_size():
    server = Server("-I", "2k")
    seed = int(os.environ.get("SEED", time.time()))
    print("SEED=%d" % seed)
    chance = random.Random(seed)
    whole = play(server, [SESSION])
    for _ in range(50):
        cuts = sorted(chance.sample(range(len(SESSION)), 10))
        assert play(server,
                    [SESSION[a:b] for a, b in zip([0] + cuts, cuts + [len(SESSION)])]) == whole


def test_values_from_disk():
    """Values not in memory are fetched in the middle of a pipeline, and the answers keep their
    order."""
    server = Server("-m", "2", "--segment-size=1m")
    keys = [b"key-%05d" % n for n in range(6000)]
    with server.connect() as client:
        for at in range(0, len(keys), 500):
            assert talk(client,
                        *(store(SETQ, key, value_of(key, 1000), flags=7)
                          for key in keys[at : at + 500])) == []
        forget_page_cache(server)
        answers = talk(client, *(packet(GETKQ, key) for key in keys[:1000]))
        assert [(a.key, a.value) for a in answers] == [(key, value_of(key, 1000))
                                                       for key in keys[:1000]]
        forget_page_cache(server)
        answers = talk(client, *(until(TOUCH, key, 1000) for key in keys[1000:1200]))
        assert [(a.status, a.extras) for a in answers] == [(OK, b"\0\0\0\x07")] * 200
        answers = talk(client, *(packet(DELETE, key, cas=1 << 60) for key in keys[1200:1400]))
        assert [a.status for a in answers] == [EXISTS] * 200
        assert int(statistics(client, b"store")["disk_hits"]) > 500


def test_a_restart_keeps_what_binary_clients_have_stored(server):
    with server.connect() as client:
        cas = set_(client, b"k", b"value", flags=3)
        ask(client, count(INCR, b"n", 1, 41))
        ask(client, count(INCR, b"n"))
    server.restart("kill9")
    with server.connect() as client:
        assert get(client, b"k") == (b"value", 3, cas)
        assert get(client, b"n")[0] == b"42"


def test_random_bytes_hurt_nobody(server):
    seed = int(os.environ.get("SEED", time.time()))
    print("SEED=%d" % seed)
    chance = random.Random(seed)
    requests = [store(SET, b"k", b"v"), packet(GET, b"k"), count(INCR, b"n"), packet(STAT),
                until(GAT, b"k", 5), packet(NOOP)]
    for _ in range(200):
        data = bytearray(b"".join(chance.choices(requests, k=5)))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(1, len(data))] = chance.randrange(256)
        with server.connect() as client:
            try:
                client.send(bytes(data))
                client.socket.shutdown(1)
                while client.fill():
                    pass
            except ConnectionError:
                pass
    with server.connect() as client:
        assert talk(client) == []
