"""A teacher's fingerprint: another one whenever its weights, its code or its settings are others."""

import functools
import itertools
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import xxhash
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lkd.kept import version
from lkd.teachers.callables import Called, global_names

SHARE = 0.02
"""Of the time may go into reading all weights again, for changes that PyTorch does not count (through `.data`)."""
_COMMON = {*vars(nn.Module()), *vars(LightningModule()), "_forward_hooks_with_kwargs"}
_OTHERS = ("torch", "lightning", "pytorch_lightning", "builtins", "abc", "typing")


class Fingerprint:
    """Watches one model.

    It covers parameters and buffers; the numbers, texts and tensors that modules hold (thresholds, statistics); the code of
    the modules' classes, of functions of the same file that they call and of a callable; and PyTorch's version. Not: what
    code of other files does, and objects that modules hold.

    Args:
        model: The teacher's.

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
        """Attributes that answering changes: counters, and what is remembered from one call to the next."""
        self._known, self._next = "", 0.0
        self._marks: list[tuple[int, int]] = []
        self._tensors: list[Tensor] = []  # found once: to walk through a deep model takes milliseconds

    def now(self) -> str:
        """32 hexadecimal digits; the weights are only read again where something may have changed."""
        marks = [(tensor.data_ptr(), version(tensor)) for tensor in self._tensors]
        if not self._known or marks != self._marks or time.monotonic() > self._next:
            start = time.monotonic()
            self._tensors = [t for _, t in self._weights() if type(t) in (Tensor, nn.Parameter)]
            self._marks = [(tensor.data_ptr(), version(tensor)) for tensor in self._tensors]
            self._known = self._read()
            self._next = time.monotonic() + (time.monotonic() - start) / SHARE
        return self._known

    def forget(self) -> None:
        """Has everything read again."""
        self._known = ""

    def attributes(self) -> dict[str, bytes]:
        """What modules hold beside weights, by address."""
        return {
            f"{path}.{name}": said
            for path, module in self.model.named_modules()
            for name, value in vars(module).items()
            if name not in _COMMON and (said := _plain(value)) is not None
        }

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        return itertools.chain(self.model.named_parameters(), self.model.named_buffers())

    def _read(self) -> str:
        digest = xxhash.xxh3_128(torch.__version__.partition("+")[0].encode())
        for name, tensor in self._weights():
            digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
            digest.update(_values(tensor))
        for name, said in sorted(self.attributes().items()):
            if name not in self.moving:
                digest.update(name.encode() + said)
        seen: set[int] = set()
        for module in self.model.modules():
            for owner in type(module).__mro__:
                for said in _class(owner, seen):
                    digest.update(said)
            if isinstance(module, torch.jit.ScriptModule):
                digest.update(str(module.code).encode())
            if isinstance(module, Called):
                for said in _callable(module.function, seen):
                    digest.update(said)
        return digest.hexdigest()


def _values(tensor: Tensor) -> bytes:
    if type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "dequantize"):
        tensor = tensor.dequantize()  # weights in 8 bits
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _plain(value: Any) -> bytes | None:
    """What can be told of a value; None of an object. A size is that of the last input, in all likelihood."""
    if isinstance(value, Tensor):
        return _values(value) if value.layout == torch.strided and not value.is_meta else None
    if isinstance(value, (bool, int, float, str, bytes, type(None), torch.dtype)):
        return repr(value).encode()
    if isinstance(value, types.FunctionType):
        return b"".join(_code(value.__code__))
    if isinstance(value, Mapping):
        said = {str(k): _plain(v) for k, v in value.items()}
        return repr({k: v for k, v in sorted(said.items()) if v is not None}).encode()
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return repr([_plain(v) for v in value]).encode()
    return None


def _class(owner: type, seen: set[int]) -> Iterator[bytes]:
    if owner.__module__.partition(".")[0] in _OTHERS or id(owner) in seen:
        return
    seen.add(id(owner))
    yield f"{owner.__module__}.{owner.__qualname__}".encode()
    for name, value in sorted(vars(owner).items()):
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(value, types.FunctionType):
            yield from _function(value, seen)
        elif not name.startswith("__") and (said := _plain(value)) is not None:
            yield name.encode() + said


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[bytes]:
    """A function's code, with the functions and numbers of its own file that it names."""
    if id(function) in seen:
        return
    seen.add(id(function))
    yield from _code(function.__code__)
    yield repr([_plain(v) for v in function.__defaults__ or ()]).encode()
    for name in global_names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.FunctionType):
            if value.__globals__ is function.__globals__:
                yield from _function(value, seen)
        elif isinstance(value, (bool, int, float, str)):
            yield f"{name}={value!r}".encode()


def _code(code: types.CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield " ".join(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()


def _callable(value: Any, seen: set[int]) -> Iterator[bytes]:
    """What a callable does and holds; modules in it are among the teacher's own."""
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.items()):
            yield from _callable(part, seen)
    elif isinstance(value, types.MethodType):
        yield value.__func__.__qualname__.encode()
        yield from _callable(value.__self__, seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
        for cell in value.__closure__ or ():
            yield from _callable(cell.cell_contents, seen)
    elif isinstance(value, nn.Module):
        return
    elif (said := _plain(value)) is not None:
        yield said
    else:
        yield from _class(type(value), seen)
        yield _plain(vars(value) if hasattr(value, "__dict__") else type(value).__qualname__) or b""
        if type(value).__module__ != "builtins":
            rank_zero_warn(
                f"cache: the teacher's callable holds a {type(value).__name__}, in which a change may go unseen; after one, "
                "give another folder as cache, or prune it."
            )
