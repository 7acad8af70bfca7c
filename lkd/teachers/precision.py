"""The precision that a teacher runs in."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lkd.nested import on_tensors, tensors

Precision = Literal["32", "bf16", "int8"]


def dtypes_of(model: nn.Module) -> list[torch.dtype]:
    """Lists the float types of a model's weights (of its buffers if it has none), in their order.

    Example:
        >>> dtypes_of(nn.Sequential(nn.Linear(1, 1).half(), nn.Linear(1, 1))), dtypes_of(nn.ReLU())
        ([torch.float16, torch.float32], [])
    """
    for values in (model.parameters(), model.buffers()):
        found = list(dict.fromkeys(value.dtype for value in values if value.is_floating_point()))
        if found:
            return found
    return []


def check_precision(precision: Any) -> None:
    """Raises ValueError for an unknown precision.

    Example:
        >>> check_precision("16-true")
        Traceback (most recent call last):
        ...
        ValueError: precision='16-true' of the teacher must be '32', 'bf16', 'int8' or None; weights of another type run in it.
    """
    if precision not in (None, *get_args(Precision)):
        raise ValueError(
            f"precision={precision!r} of the teacher must be '32', 'bf16', 'int8' or None; weights of another type run in it."
        )


def set_precision(model: nn.Module, precision: Precision | None) -> None:
    """Sets a model's precision, in place.

    Raises:
        ValueError: If `"32"` or `"bf16"` is asked for weights of another type, or `"int8"` for a model
            without linear layers.
        ModuleNotFoundError: If torchao is not installed.
    """
    allowed = {
        "32": {torch.float32},
        "bf16": {torch.float32, torch.bfloat16},
        "int8": {torch.float32, torch.bfloat16, torch.float16},
    }
    other = [dtype for dtype in dtypes_of(model) if precision and dtype not in allowed[precision]]
    if other:
        raise ValueError(
            f"precision={precision!r}, but the teacher {type(model).__name__} has weights in {other[0]}; give model.float(), or "
            "leave precision out: then it runs in its own."
        )
    if precision == "int8":
        _quantize_linear(model)


@contextlib.contextmanager
def running(dtypes: Sequence[torch.dtype], precision: Precision | None, kind: str) -> Iterator[None]:
    """Sets autocast, and the type of the tensors that a model creates, while it runs.

    Weights in float32 follow the autocast around them, unless a precision is given; other weights run in
    their own type without autocast. Under `precision="64-true"` a Trainer makes float64 the type of new
    tensors; a teacher in float32 still creates them in float32.

    Args:
        dtypes: Float types of the teacher's weights, of `dtypes_of`.
        precision: The teacher's precision, see `Teacher`.
        kind: Type of the device.
    """
    default = torch.get_default_dtype()
    enabled, lower = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    if precision in ("32", "bf16"):
        enabled, lower = precision == "bf16", torch.bfloat16
    elif dtypes and set(dtypes) != {torch.float32}:
        enabled = False
    theirs = (torch.float64 if set(dtypes) == {torch.float64} else torch.float32) if dtypes else default
    if theirs == default and not enabled and not torch.is_autocast_enabled(kind):
        yield  # all is as it should be, and switching takes as long as a small teacher
        return
    torch.set_default_dtype(theirs)
    try:
        with torch.autocast(kind, lower, enabled=enabled):
            yield
    finally:
        torch.set_default_dtype(default)


def to_own(dtypes: Sequence[torch.dtype], inputs: Any) -> Any:
    """Converts float inputs to the type of a model's first weights; other inputs are passed through.

    Example:
        >>> to_own(dtypes_of(nn.Linear(1, 1).double()), (torch.zeros(1), torch.arange(1)))
        (tensor([0.], dtype=torch.float64), tensor([0]))
    """
    dtype = dtypes[0] if dtypes else None
    if dtype is None or all(t.dtype == dtype for t in tensors(inputs) if t.is_floating_point()):
        return inputs

    def change(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return on_tensors(change, inputs)


def _quantize_linear(model: nn.Module) -> None:
    """Stores the weights of all linear layers in 8 bits, in place."""
    if not any(isinstance(m, nn.Linear) for m in model.modules()):
        raise ValueError(
            f'precision="int8" stores linear layers in 8 bits, and {type(model).__name__} has none; use "bf16".'
        )
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ModuleNotFoundError(
            'precision="int8" needs torchao: pip install "lightning-kd[int8]".'
        ) from error
    quantize_(model, Int8WeightOnlyConfig())
