"""What a sample says of itself: its label, its camera and other single values, in any usual form."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lkd.batches import LABELS

LABEL = "label"


def entries(sample: Any) -> dict[str, Any]:
    """Returns the single values of a sample by name: numbers, texts and tensors of one number.

    The second part of a pair (x, y) is "label", or has names of its own; names in nested dicts are joined by
    dots. A one-hot vector counts as the number of its class where it stands for a label.

    Args:
        sample: A pair, dict, named tuple, dataclass, or an object with attributes such as `y`.

    Example:
        >>> entries((None, 3)), entries({"x": [0.5, 0.1], "labels": 3, "meta": {"camera": "C1"}})
        ({'label': 3}, {'labels': 3, 'meta.camera': 'C1'})
    """
    return dict(_flat(_named(sample), ""))


def find_label(names: Sequence[str]) -> str | None:
    """Returns which of the names of a sample's values is its label.

    Example:
        >>> find_label(["index", "meta.label", "labels"])
        'labels'
    """
    labels = [name for name in names if name.rpartition(".")[2] in LABELS]
    return min(labels, key=lambda n: (n.count("."), LABELS.index(n.rpartition(".")[2])), default=None)


def _named(sample: Any) -> Mapping[str, Any]:
    """Returns the parts of a sample by name."""
    if isinstance(sample, Mapping):
        return sample
    if hasattr(sample, "_asdict"):
        return sample._asdict()
    if dataclasses.is_dataclass(sample):
        return {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}
    if isinstance(sample, list | tuple):
        if len(sample) != 2:
            return {}
        return _named(sample[1]) or {LABEL: sample[1]}
    if isinstance(sample, Tensor | np.ndarray | np.generic | str | int | float | None):
        return {}
    return {name: getattr(sample, name) for name in LABELS if hasattr(sample, name)}


def _flat(parts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    if "boxes" in parts:  # detections: a sample may have any number of labels
        return
    for key, value in parts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) or hasattr(value, "_asdict") or dataclasses.is_dataclass(value):
            yield from _flat(_named(value), f"{name}.")
        elif (single := _single(value, key in LABELS)) is not None:
            yield name, single


def _single(value: Any, label: bool) -> Any:
    """Returns a single value, or None where there are several."""
    if isinstance(value, str | bool | int | float):
        return value
    if not isinstance(value, Tensor | np.ndarray | np.generic | list):
        return None
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except ValueError:  # a list of unlike things
        return None
    if array.dtype.kind not in "biufU":
        return None
    if array.size == 1:
        return array.item()
    return class_of(array) if label and array.ndim == 1 else None


def class_of(vector: np.ndarray) -> int | None:
    """Returns the place of the 1 in a one-hot vector (classes,), or None for any other vector."""
    if vector.dtype.kind not in "biuf" or ((vector != 0) & (vector != 1)).any() or vector.sum() != 1:
        return None
    return int(vector.argmax())
