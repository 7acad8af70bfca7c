"""Check that a module's tensors can be copied, since clients work on copies."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def check_memory(module: nn.Module) -> None:
    """Refuses a module with tensors that are views of each other, since copies of them would not be.

    A parameter under two names is allowed: it is one tensor, and stays one.

    Args:
        module: The client's module.

    Raises:
        ValueError: If there are such tensors.
    """
    who = type(module).__name__
    tensors: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    by_memory: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer) and tensor.layout is torch.strided
        if plain and tensor.numel():
            by_memory.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    for names in by_memory.values():
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                if tensors[one] is not tensors[other] and _overlap(tensors[one], tensors[other]):
                    raise ValueError(
                        f"{who}.{one} and {who}.{other} are two tensors in the same memory, which copies for clients would part: "
                        "tie them by giving both the same Parameter, or compute one from the other in forward."
                    )


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Tells whether two tensors of one storage have a value in common."""
    (first, last), (low, high) = _reach(one), _reach(other)
    return max(first, low) <= min(last, high) and bool(_places(one).intersection(_places(other)))


def _reach(tensor: Tensor) -> tuple[int, int]:
    """Returns the first and the last byte of a tensor."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size() - 1


def _places(tensor: Tensor) -> set[int]:
    """Returns the addresses in memory at which its values begin."""
    offsets: Iterable[int] = [0]
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        offsets = [offset + k * stride for offset in offsets for k in range(size)]
    return {tensor.data_ptr() + offset * tensor.element_size() for offset in offsets}
