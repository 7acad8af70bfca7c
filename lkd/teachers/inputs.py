"""Inputs of a teacher: any call, with the tensors of a batch anywhere in it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lkd.nested import children, leaves, on_tensors, tensors
from lkd.taps import Call

_PLAIN = (Tensor, bool, int, float, complex, str, bytes, torch.device, torch.dtype, type(None))


def as_call(inputs: Any) -> Call:
    """Returns a call as it is, and other inputs as a call with this only argument.

    Example:
        >>> as_call({"rgb": 1})
        Call(args=({'rgb': 1},), kwargs={})
    """
    return inputs if isinstance(inputs, Call) else Call((inputs,), {})


def device_of(call: Call) -> torch.device | None:
    """Finds the device of the inputs.

    It is the first device that is not the CPU (lengths stay there), else the CPU; None if no input tells.

    Example:
        >>> device_of(Call((None, {"x": torch.zeros(2)}), {})), device_of(Call((3,), {}))
        (device(type='cpu'), None)
    """
    found = [tensor.device for tensor in tensors(call)] or list(_devices(call))
    return next((device for device in found if device.type != "cpu"), found[0] if found else None)


def _devices(value: Any, depth: int = 4) -> Iterator[torch.device]:
    """Yields devices of objects such as graphs: their own, or those of the tensors inside."""
    for leaf in leaves(value):
        if isinstance(leaf, Tensor):
            yield leaf.device
        elif isinstance(device := getattr(leaf, "device", None), torch.device):
            yield device
        elif depth and hasattr(leaf, "__dict__") and not isinstance(leaf, type):
            yield from _devices(vars(leaf), depth - 1)


def moved(call: Call, device: torch.device) -> Call:
    """Moves every object of a call that has a method `to` and is no tensor, such as a graph."""

    def move(value: Any) -> Any:
        entries = children(value)
        if entries is None:
            return value.to(device) if hasattr(value, "to") and not isinstance(value, Tensor) else value
        return value

    return Call(tuple(move(value) for value in call.args), {k: move(v) for k, v in call.kwargs.items()})


def batch_length(call: Call) -> int | None:
    """Finds the number of samples: the length of the first tensor longer than 1; None if there is no tensor.

    Example:
        >>> batch_length(Call((torch.tensor(0.5), torch.zeros(1, 4)), {"x": torch.zeros(8, 4)}))
        8
    """
    lengths = [len(tensor) for tensor in tensors(call) if tensor.ndim]
    return next((length for length in lengths if length > 1), max(lengths, default=None))


def chunks(call: Call, size: int) -> list[tuple[Call, int]]:
    """Splits a call into parts of `size` samples; the last part may be smaller.

    Tensors of the batch's length are cut; everything else stays whole.

    Args:
        call: The call.
        size: Largest number of samples per part.

    Returns:
        Each part, and its number of samples.

    Raises:
        ValueError: If something else than a tensor would have to be cut.

    Example:
        >>> call = Call(({"rgb": torch.arange(3)},), {"scale": torch.tensor(2.0)})
        >>> [(part.args[0]["rgb"].tolist(), length) for part, length in chunks(call, 2)]
        [([0, 1], 2), ([2], 1)]
    """
    length = batch_length(call) or 1
    if length <= size:
        return [(call, length)]
    for whole in _uncut(call):
        raise ValueError(
            f"batch_size={size}: the teacher is given a {type(whole).__name__}, which cannot be cut into parts of {size} "
            "samples; leave batch_size out."
        )

    def part(start: int) -> Call:
        def cut(tensor: Tensor) -> Tensor:
            batched = tensor.ndim > 0 and len(tensor) == length
            return tensor[start : start + size] if batched else tensor

        cut_call: Call = on_tensors(cut, call)
        return cut_call

    return [(part(start), min(size, length - start)) for start in range(0, length, size)]


def _uncut(value: Any) -> Iterator[Any]:
    """Yields objects that seem to hold samples and are no tensors."""
    entries = None if isinstance(value, PackedSequence) else children(value)
    for entry in entries.values() if entries is not None else []:
        yield from _uncut(entry)
    if entries is None and not isinstance(value, _PLAIN):
        yield value


def shown(call: Call) -> str:
    """Describes shapes and types, for people.

    Example:
        >>> shown(Call((torch.zeros(2, 3), None), {"mask": {"a": torch.zeros(2)}, "scale": 2}))
        "(2, 3), None, mask={'a': (2,)}, scale=2"
    """
    named = [(f"{key}=", value) for key, value in call.kwargs.items()]
    return ", ".join(f"{name}{_shape(value)}" for name, value in [*(("", a) for a in call.args), *named])


def _shape(value: Any) -> Any:
    entries = children(value)
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if entries is None:
        return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__
    if isinstance(value, (list, tuple)):
        return [_shape(entry) for entry in entries.values()]
    return {key: _shape(entry) for key, entry in entries.items()}
