"""Server and client stand in two rooms: neither imports the other, and all that passes between them can be written down."""

import ast
from pathlib import Path

import pytest
import torch

from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.wire import pack, unpack

ROOT = Path(__file__).parents[2] / "lkd/federated"
FORBIDDEN = {
    "protocol": ("server", "client", "engines", "algorithms", "knowledge", "peers"),
    "server": ("client", "engines", "knowledge", "peers"),
    "client": ("server", "engines", "knowledge", "peers"),
    "algorithms": ("engines",),
    "knowledge": ("engines",),
    "peers": ("engines",),
}


def imports(path):
    """Modules that a file imports when it runs; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_who_imports_whom(room):
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / room).rglob("*.py")
        for name in imports(path)
        if any(name.startswith(f"lkd.federated.{other}.") for other in FORBIDDEN[room])
    ]
    assert not wrong, "\n".join(wrong)


TENSORS = {
    "x": {"w": torch.randn(2, 3), "b": torch.tensor(1.5)},
    "empty": {},
    "odd": {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "z": torch.tensor([1 + 2j]),
        "none": torch.zeros(0, 4),
    },
}
KNOWLEDGE = {
    "view": torch.arange(12.0).view(3, 4).T,
    "flags": torch.tensor([True, False]),
    "net.0.heads": torch.ones(1),
}


def same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name])


def test_a_message_survives_the_wire():
    sent = Message(
        TENSORS, {"round": 3, "second": True, "ids": [1, 2], "each": {"a": 0.1}, "none": None}, KNOWLEDGE
    )
    read = unpack(pack(sent), Message)
    assert read.config == sent.config and read.tensors.keys() == sent.tensors.keys()
    for group in sent.tensors:
        same(sent.tensors[group], read.tensors[group])
    same(sent.knowledge, read.knowledge)
    assert read.nbytes == sent.nbytes


def test_a_reply_survives_the_wire_but_for_its_exception():
    sent = Reply(
        TENSORS, {"steps": 5.0}, KNOWLEDGE, 4, 7, "late", True, ValueError("x"), 1.5, {"loss": float("inf")}
    )
    read = unpack(pack(sent), Reply)
    assert (read.metrics, read.client, read.error, read.refused, read.seconds, read.logs) == (
        {"steps": 5.0}, 4, "late", True, 1.5, {"loss": float("inf")},
    )  # fmt: skip
    assert read.cause is None


def test_two_names_of_one_tensor_are_two_on_the_other_side():
    one = torch.ones(4)
    read = unpack(pack(Message({"x": {"a": one, "b": one[:2]}})), Message)
    assert torch.equal(read.tensors["x"]["a"], one) and torch.equal(read.tensors["x"]["b"], one[:2])


def test_who_a_client_is_survives_as_plain_values():
    info = ClientInfo(1, "C2", 8, 2, 0.25, 0.5, 4, ("train", "val"), {"watch": 3}, 10)
    assert ClientInfo.of_dict(info.as_dict()) == info
    with pytest.raises(AttributeError):
        info.name = "C3"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: b"\xff" * len(data),
        lambda data: data.replace(b"refused", b"refuse?"),
        lambda data: data.replace(b'\\"seconds\\": 0.0', b'\\"seconds\\": \\"0\\"'),
        lambda data: data.replace(b'\\"steps\\": 5.0', b'\\"steps\\": null'),
        lambda data: data[:-3],
    ],
)
def test_bytes_of_a_stranger_are_refused(spoil):
    data = pack(Reply({"delta": {"w": torch.ones(3)}}, {"steps": 5.0}))
    assert spoil(data) != data
    with pytest.raises(ValueError, match="no Reply: "):
        unpack(spoil(data), Reply)
