"""Bytes of a stranger: whatever is done to a message on its way, it is read or refused, and nothing runs."""

import contextlib
import json
import pickle
import random
import re
import struct
import sys

import pytest
import torch

from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensor_names import SharedNames
from lkd.federated.protocol.wire import pack, unpack
from lkd.federated.server.reply_checks import Expected, fault
from lkd.frames import frame, unframe

X = {"w": torch.zeros(2, 3), "b": torch.zeros(3, dtype=torch.float64)}
EXPECTED = Expected.of(SharedNames({"w": "w", "b": "b"}, {}), X, {})
SENT = [
    frame({"do": "answer"}, pack(Message({"x": X}, {"round": 3, "steps": 2, "others": [1]}, {"rows": torch.arange(4)}))),
    frame({}, pack(Reply({"delta": X}, {"steps": 5.0}, {"logits": torch.ones(2, 2)}, 1, 3, logs={"loss": 0.5}))),
    frame({}, pack(Reply({"delta": {"w": torch.tensor([1 + 2j])}}, {}, {"h": torch.ones(3, dtype=torch.bfloat16)}))),
]  # fmt: skip
NUMBERS = (
    b"1" + b"0" * 400,
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'\\"a\\"',
    b"[" * 3000,
)
WORDS = (b"F8_E4M3", b"F8_E5M2", b"F16", b"I64", b"BOOL", b"F64", b"C64", b"U8", b"F4", b"__reduce__")
FORBIDDEN = (
    "exec",
    "compile",
    "import",
    "os.",
    "subprocess.",
    "socket.",
    "pickle.",
    "open",
    "ctypes.",
    "shutil.",
)
_seen: list[str] = []
_watching = False


def _hook(event, args):
    if _watching and event.startswith(FORBIDDEN):
        _seen.append(f"{event} {args[:1]}")


@contextlib.contextmanager
def watched():
    """Notes what Python runs, opens or loads inside; a hook cannot be taken away, only be silent."""
    global _watching
    sys.addaudithook(_hook)
    for data in (*SENT, SENT[0][:9], SENT[1][:-1]):  # what is loaded at the first use
        read_all(data)
    _seen[:], _watching = [], True
    try:
        yield _seen
    finally:
        _watching = False


def change(rng, data):
    """One to four changes: of bits, of lengths, of numbers and words in the text, cuts, repetitions, mixtures."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(9):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                del data[at : at + rng.randrange(1, 40)]
            case 3:
                data[at:at] = data[max(0, at - rng.randrange(40)) : at] * rng.randrange(1, 4)
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(16))
            case 5:
                data[at:] = rng.choice(SENT)[at:]
            case 6 if len(data) > 12:
                where, how = rng.choice([(0, "<I"), (4, "<Q"), (6, "<Q")])
                big = rng.choice([0, 1, 2**31, 2**32 - 1, rng.randrange(2000)])
                data[where : where + struct.calcsize(how)] = struct.pack(how, big)
            case 7:
                found = list(re.finditer(rb"\d+(\.\d+)?", data))
                if found:
                    one = rng.choice(found)
                    data[one.start() : one.end()] = rng.choice(NUMBERS)
                    mend(data)
            case 8:
                found = list(re.finditer(rb"F32|F64|BF16|I64", data))
                if found:
                    one = rng.choice(found)
                    data[one.start() : one.end()] = rng.choice(WORDS)
    return bytes(data)


def mend(data):
    """Puts the lengths right again, so that a changed text is read at all."""
    (head,) = struct.unpack("<I", data[:4])
    at = 4 + min(head, 200)
    end = data.rfind(b"}}")  # of the text, if no tensor looks like it
    if 12 < at + 8 < end:
        data[at : at + 8] = struct.pack("<Q", end + 2 - at - 8)


def read_all(data):
    """Reads bytes as both sides do; returns what was accepted."""
    try:
        head, body = unframe(data)
    except ValueError:
        return 0
    assert isinstance(head, dict)
    accepted = 0
    for kind in (Message, Reply):
        try:
            read = unpack(body, kind)
        except ValueError:
            continue
        accepted += 1
        assert read.nbytes >= 0
        if kind is Reply:
            assert isinstance(fault(read, EXPECTED), str)
        pack(read)
    return accepted


def test_what_is_sent_is_accepted():
    assert all(read_all(data) for data in SENT)


@pytest.mark.parametrize("number", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_changed_messages(number):
    rng, accepted = random.Random(number), 0
    with watched() as seen:
        for _ in range(number):
            accepted += read_all(change(rng, rng.choice(SENT)))
    assert seen == []
    assert number / 100 < accepted < number  # else the changes are too large, or too small, to find anything


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400], ids=["large", "small"])
@pytest.mark.parametrize("where", ["metrics", "logs", "seconds"])
def test_a_number_that_is_none_for_a_computer(number, where):
    data = pack(Reply(metrics={"steps": 7.5}, logs={"loss": 6.5}, seconds=5.5))
    was = {"metrics": b"7.5", "logs": b"6.5", "seconds": b"5.5"}[where]
    (length,) = struct.unpack("<Q", data[:8])
    text = data[8 : 8 + length].replace(was, number.encode())
    with pytest.raises(ValueError, match=f"no Reply: .*{where}"):
        unpack(struct.pack("<Q", len(text)) + text + data[8 + length :], Reply)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.uint16])
def test_tensors_of_any_type_are_judged(dtype):
    reply = unpack(pack(Reply(knowledge={"k": torch.zeros(3).to(dtype)})), Reply)
    assert fault(reply, EXPECTED) in ("", "its k is of torch.float8_e4m3fn, which lkd does not average or compare",
                                           "its k is of torch.float8_e5m2, which lkd does not average or compare")  # fmt: skip


@pytest.mark.parametrize(
    "data", [b"", b"\x00", frame({})[:5], b"\xff\xff\xff\xff{}", struct.pack("<I", 2) + b"[]"]
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(ValueError, match="no frame"):
        unframe(data)


def test_the_watch_sees_what_it_looks_for():
    with watched() as seen:
        pickle.loads(pickle.dumps(Message))
        eval("1")
    assert any("pickle.find_class" in event for event in seen) and any("exec" in event for event in seen)


def test_a_deep_text_is_refused():
    deep = json.dumps({"a": 0}).replace("0", "[" * 200_000)
    with pytest.raises(ValueError, match="no frame"):
        unframe(struct.pack("<I", len(deep)) + deep.encode())
