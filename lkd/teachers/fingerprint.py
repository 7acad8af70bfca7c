"""A teacher's fingerprint, which changes whenever its weights, code or settings do."""

import enum
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import xxhash
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.kept import version
from lkd.plain_objects import objects_in
from lkd.teachers.callables import Called
from lkd.teachers.contents import by_value, numbers, of_callable, of_class, plain

SHARE = 0.02
"""Share of the time for reading everything again, to find uncounted changes (through `.data`, in a list)."""
_SETTINGS = (bool, int, float, str, bytes, type(None), torch.dtype, frozenset, enum.Enum, np.generic)
_COMMON = {*vars(nn.Module()), *vars(LightningModule()), "_forward_hooks_with_kwargs"}


class Fingerprint:
    """Watch over one model, which gives its fingerprint.

    Changes that PyTorch counts, and other numbers and strings in modules, are seen at once; other changes
    when everything is read again.

    It covers parameters and buffers; the numbers, strings and tensors that modules hold (thresholds,
    statistics), also in objects of users' own classes such as a config; the code of all these classes, of
    functions in the same file that they call and of a callable; and PyTorch's version. It does not cover code
    in other files, objects without attributes (with `__slots__`, from extensions) and those of the libraries
    in `lkd.plain_objects`.

    Args:
        model: The teacher's model.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> watched = Fingerprint(net)
        >>> before = watched.now()
        >>> _ = net.weight.data.add_(1)
        >>> watched.forget()
        >>> watched.now() == before
        False
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.moving: set[str] = set()
        """Attributes that answering changes: counters, and what is kept from one call to the next."""
        self.reads = 0
        """Number of times that everything has been read."""
        self._known, self._next = "", 0.0
        self._marks: list[tuple[int, int]] = []
        self._settings: list[tuple[dict[str, Any], int, list[tuple[str, Any]]]] = []
        self._tensors: list[Tensor] = []  # kept, since walking through a deep model takes milliseconds

    def now(self) -> str:
        """Returns 32 hexadecimal digits; weights are read again only if something may have changed."""
        marks = [(tensor.data_ptr(), version(tensor)) for tensor in self._tensors]
        if not self._known or marks != self._marks or self._set_anew() or time.monotonic() > self._next:
            start = time.monotonic()
            self.reads += 1
            self._settings = [self._noted(path, holder) for path, holder in self._holders()]
            self._tensors = [t for _, t in self._weights() if type(t) in (Tensor, nn.Parameter)]
            self._marks = [(tensor.data_ptr(), version(tensor)) for tensor in self._tensors]
            self._known = self._read()
            self._next = time.monotonic() + (time.monotonic() - start) / SHARE
        return self._known

    def forget(self) -> None:
        """Makes the next call read everything again."""
        self._known = ""

    def attributes(self) -> dict[str, bytes]:
        """Describes what modules, and objects in them, hold beside weights, by address."""
        return {
            f"{path}.{name}": said
            for path, holder in self._holders()
            if not by_value(holder)  # which its own holder tells
            for name, value in _held(holder)
            if (said := plain(value)) is not None
        }

    def _holders(self) -> Iterator[tuple[str, Any]]:
        """Yields all modules, and the objects in each, unless they are part of what moves."""
        met: set[int] = set()
        for path, module in self.model.named_modules():
            yield path, module
            for name, value in _held(module):
                for inside, found in objects_in(value, f"{path}.{name}", met):
                    if not self._moves(inside):
                        yield inside, found

    def _moves(self, name: str) -> bool:
        """Tells whether answering changes an attribute, or what holds it."""
        return any(name == moving or name.startswith(f"{moving}.") for moving in self.moving)

    def _noted(self, path: str, holder: Any) -> tuple[dict[str, Any], int, list[tuple[str, Any]]]:
        settings = [
            (name, value)
            for name, value in _held(holder)
            if isinstance(value, _SETTINGS) and f"{path}.{name}" not in self.moving
        ]
        return vars(holder), len(vars(holder)), settings

    def _set_anew(self) -> bool:
        """Tells whether a module holds another number or string than when everything was read."""
        return any(
            len(held) != count or any(held.get(name) is not value for name, value in settings)
            for held, count, settings in self._settings
        )

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        return itertools.chain(self.model.named_parameters(), self.model.named_buffers())

    def _read(self) -> str:
        digest = xxhash.xxh3_128(torch.__version__.partition("+")[0].encode())
        for name, tensor in self._weights():
            digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
            digest.update(numbers(tensor).data)
        for name, said in sorted(self.attributes().items()):
            if name not in self.moving:
                digest.update(name.encode() + said)
        seen: set[int] = set()
        for _, holder in self._holders():
            for owner in type(holder).__mro__ if not by_value(holder) else ():
                for said in of_class(owner, seen):
                    digest.update(said)
            if isinstance(holder, torch.jit.ScriptModule):
                digest.update(str(holder.code).encode())
            if isinstance(holder, Called):
                for said in of_callable(holder.function, seen):
                    digest.update(said)
        return digest.hexdigest()


def _held(holder: Any) -> list[tuple[str, Any]]:
    """Lists the attributes of a module or object that may be settings."""
    return [(name, value) for name, value in vars(holder).items() if name not in _COMMON]
