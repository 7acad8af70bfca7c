"""Outputs of the parts of a batch, joined to those of the whole batch."""

from typing import Any

import torch
from torch import Tensor

from lkd.nested import children, rebuild


def join(parts: list[Any], sizes: list[int], layer: str = "") -> Any:
    """Joins a model's outputs for the parts of a batch, also inside collections.

    Tensors with one row per sample are joined. What is the same for every part (anchors, a flag) is taken
    once. Lists with one entry per sample (detections) are put one after the other.

    Args:
        parts: The outputs.
        sizes: Number of samples in each part.
        layer: The layer's address, for the error message.

    Raises:
        ValueError: If an output is none of these: a mean over the batch, a cache of a language model.

    Example:
        >>> join([{"logits": torch.zeros(2, 3)}, {"logits": torch.ones(1, 3)}], [2, 1])["logits"].shape
        torch.Size([3, 3])
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        if all(p.ndim and len(p) == n for p, n in zip(parts, sizes, strict=True)):
            return torch.cat(parts)
        if all(p.shape == first.shape and torch.equal(p, first) for p in parts):
            return first
        raise _unlike(f"a tensor {tuple(first.shape)}", layer)
    entries = [children(part) for part in parts]
    if entries[0] is None:
        if any(part is not first and not _equal(part, first) for part in parts):
            raise _unlike(f"a {type(first).__name__}", layer)
        return first
    if isinstance(first, list) and _one_a_sample(parts, sizes):
        return type(first)(sample for part in parts for sample in part)
    if any(entry is None or entry.keys() != entries[0].keys() for entry in entries):
        raise _unlike(f"a {type(first).__name__}", layer)
    return rebuild(
        first, {k: join([e[k] for e in entries if e is not None], sizes, layer) for k in entries[0]}
    )


def _one_a_sample(parts: list[Any], sizes: list[int]) -> bool:
    """Tells lists of samples from lists of levels.

    Lists of dicts (detections), and lists whose length follows the batch, are lists of samples.
    """
    if any(len(part) != size for part, size in zip(parts, sizes, strict=True)):
        return False
    return all(isinstance(entry, dict) for part in parts for entry in part) or len(set(sizes)) > 1


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and isinstance(one, (bool, int, float, str)) and one == other


def _unlike(what: str, layer: str) -> ValueError:
    return ValueError(
        f"batch_size: {what} of the teacher's output teacher_layer={layer!r} differs from part to part and has no row a "
        "sample, so it cannot be joined; name what to take, as in teacher_layer=':logits', or leave batch_size out."
    )
