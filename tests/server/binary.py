"""The binary protocol: packets out, packets in."""
import struct
from collections import namedtuple

(GET, SET, ADD, REPLACE, DELETE, INCR, DECR, QUIT, FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND,
 PREPEND, STAT, SETQ, ADDQ, REPLACEQ, DELETEQ, INCRQ, DECRQ, QUITQ, FLUSHQ, APPENDQ,
 PREPENDQ) = range(0x1B)
TOUCH, GAT, GATQ, GATK, GATKQ = 0x1C, 0x1D, 0x1E, 0x23, 0x24
SASL_LIST, SASL_AUTH, SASL_STEP = 0x20, 0x21, 0x22

OK, NOT_FOUND, EXISTS, TOO_LARGE, INVALID, NOT_STORED, NON_NUMERIC = range(7)
AUTH_ERROR, AUTH_CONTINUE, UNKNOWN = 0x20, 0x21, 0x81

TEXTS = {
    NOT_FOUND: b"Not found",
    EXISTS: b"Data exists for key.",
    TOO_LARGE: b"Too large.",
    INVALID: b"Invalid arguments",
    NOT_STORED: b"Not stored.",
    NON_NUMERIC: b"Non-numeric server-side value for incr or decr",
    AUTH_ERROR: b"Auth failure.",
    UNKNOWN: b"Unknown command",
}

HEADER = struct.Struct(">BBHBBHIIQ")
DO_NOT_CREATE = 0xFFFFFFFF

Answer = namedtuple("Answer", "opcode status extras key value cas opaque")


def packet(opcode, key=b"", extras=b"", value=b"", cas=0, opaque=0xDECAFBAD, key_len=None,
           extras_len=None, body_len=None):
    """A request; lengths that lie may be given."""
    return HEADER.pack(0x80, opcode, len(key) if key_len is None else key_len,
                       len(extras) if extras_len is None else extras_len, 0, 0,
                       len(extras) + len(key) + len(value) if body_len is None else body_len,
                       opaque, cas) + extras + key + value


def store(opcode, key, value, flags=0, exptime=0, cas=0, **more):
    return packet(opcode, key, struct.pack(">II", flags, exptime), value, cas, **more)


def count(opcode, key, delta=1, initial=0, exptime=0, cas=0, **more):
    return packet(opcode, key, struct.pack(">QQI", delta, initial, exptime), b"", cas, **more)


def until(opcode, key, exptime, **more):
    return packet(opcode, key, struct.pack(">I", exptime), **more)


def plain(user, password, opcode=SASL_AUTH):
    return packet(opcode, b"PLAIN", b"", b"\0" + user + b"\0" + password)


def receive(client):
    """The next answer."""
    (magic, opcode, key_len, extras_len, data_type, status, body_len, opaque,
     cas) = HEADER.unpack(client.read(HEADER.size))
    assert magic == 0x81 and data_type == 0 and extras_len + key_len <= body_len
    body = client.read(body_len)
    return Answer(opcode, status, body[:extras_len], body[extras_len : extras_len + key_len],
                  body[extras_len + key_len :], cas, opaque)


def ask(client, request):
    client.send(request)
    return receive(client)


def talk(client, *requests):
    """All answers to these, up to that of a noop after them."""
    client.send(b"".join(requests) + packet(NOOP, opaque=0x600DB1E5))
    answers = []
    while True:
        answer = receive(client)
        if answer.opaque == 0x600DB1E5:
            assert answer == Answer(NOOP, OK, b"", b"", b"", 0, 0x600DB1E5)
            return answers
        answers.append(answer)


def refused(opcode, status, key=b""):
    """The answer that says no."""
    return Answer(opcode, status, b"", key, b"" if key else TEXTS[status], 0, 0xDECAFBAD)


def statistics(client, group=b""):
    """{name: value}, or the status that says no."""
    client.send(packet(STAT, group))
    found = {}
    while True:
        answer = receive(client)
        if answer.status:
            return answer.status
        if not answer.key:
            assert answer == Answer(STAT, OK, b"", b"", b"", 0, 0xDECAFBAD)
            return found
        found[answer.key.decode()] = answer.value.decode()
