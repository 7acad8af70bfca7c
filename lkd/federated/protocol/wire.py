"""Messages and replies as bytes: tensors by safetensors, all else as JSON; reading them executes nothing."""

import json
import struct
from dataclasses import fields
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensors import Groups, as_real

M = TypeVar("M", Message, Reply)
GROUPS = "tensors"
KNOWLEDGE = "knowledge"
HERE = ("cause", "travelled")
"""Fields that have a meaning in one process alone."""
LARGEST_HEADER = 64 << 20
"""Largest number of bytes of names and plain values that is read."""


def pack(message: Message | Reply) -> bytes:
    """Writes a message or reply as bytes.

    Args:
        message: The message or reply; all but its tensors must be what JSON can hold.

    Raises:
        TypeError: If something else is in it.

    Example:
        >>> sent = Message({"x": {"w": torch.ones(2)}}, {"round": 3}, {"rows": torch.tensor([1])})
        >>> read = unpack(pack(sent), Message)
        >>> read.tensors, read.config, read.knowledge
        ({'x': {'w': tensor([1., 1.])}}, {'round': 3}, {'rows': tensor([1])})
    """
    flat: dict[str, Tensor] = {}
    complexes: list[str] = []
    seen: set[int] = set()

    def number(tensor: Tensor) -> str:
        name = str(len(flat))
        value = tensor.detach().cpu()
        if value.is_complex():
            complexes.append(name)
            value = as_real(value)
        value = value.contiguous()
        memory = value.untyped_storage()
        if memory.nbytes() != value.nbytes or memory.data_ptr() in seen:
            value = value.clone()  # the format has no views
        seen.add(value.untyped_storage().data_ptr())
        flat[name] = value
        return name

    plain = {
        field.name: getattr(message, field.name)
        for field in fields(message)
        if field.name not in (GROUPS, KNOWLEDGE, *HERE)
    }
    index = {
        GROUPS: {g: {n: number(t) for n, t in group.items()} for g, group in message.tensors.items()},
        KNOWLEDGE: {n: number(t) for n, t in message.knowledge.items()},
        "complex": complexes,
        "plain": plain,
    }
    return save(flat, {"message": json.dumps(index)})


def unpack(data: bytes, kind: type[M]) -> M:
    """Reads what `pack` wrote.

    Args:
        data: The bytes.
        kind: `Message` or `Reply`.

    Raises:
        ValueError: If the bytes are no such message or reply.
    """
    try:
        (length,) = struct.unpack("<Q", data[:8])
        if length > LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes, {LARGEST_HEADER} at most")
        index = json.loads(json.loads(data[8 : 8 + length].decode())["__metadata__"]["message"])
        flat = load(data)
        plain, complexes = dict(index["plain"]), set(index["complex"])
        tensors = {n: torch.view_as_complex(t.contiguous()) if n in complexes else t for n, t in flat.items()}
        groups: Groups = {g: {n: tensors[k] for n, k in of.items()} for g, of in index[GROUPS].items()}
        knowledge = {n: tensors[k] for n, k in index[KNOWLEDGE].items()}
        names = {field.name for field in fields(kind)} - {GROUPS, KNOWLEDGE, *HERE}
        if plain.keys() != names:
            raise ValueError(f"fields {sorted(plain)}, not {sorted(names)}")
        _check(plain)
        return kind(tensors=groups, knowledge=knowledge, **plain)
    except Exception as error:  # bytes from outside can lead to any error
        raise ValueError(f"no {kind.__name__}: {type(error).__name__}: {error}") from error


_KINDS: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "metrics": dict,
    "logs": dict,
    "client": int,
    "round": int,
    "error": str,
    "refused": bool,
    "seconds": (int, float),
}


def _check(plain: dict[str, Any]) -> None:
    for name, value in plain.items():
        if not isinstance(value, _KINDS[name]) or (isinstance(value, bool) and name != "refused"):
            raise ValueError(f"{name} is a {type(value).__name__}")
        if isinstance(value, int | float):
            _check_size(name, value)
    for name in ("metrics", "logs"):
        for key, value in plain.get(name, {}).items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name} {key} is a {type(value).__name__}, no number")
            _check_size(f"{name} {key}", value)


def _check_size(name: str, value: float) -> None:
    """Refuses whole numbers that no float holds: computing with them would raise an error later."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError(f"{name} is a whole number of {value.bit_length()} bits")
