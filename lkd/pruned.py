"""What pruning left of a network's layers, kept in a checkpoint and restored before the weights."""

import math
import types
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.models.split_c2f import SplitC2f, split

KEY = "pruning"
"""Key of a checkpoint, and attribute of a pruned module."""
VERSION = 1
NUMBERS = frozenset(
    {
        "in_channels", "out_channels", "groups", "in_features", "out_features", "num_features", "num_channels",
        "num_groups", "num_parameters", "num_heads", "attn_dim",
    }
)  # fmt: skip
"""Attributes that say how wide a layer is; nothing else of a module is ever set from a file."""

History = dict[str, Any]
"""Plain data: `version`, `split` (blocks), `tensors` (name: shape), `numbers` (layer: {attribute: number})."""


def describe(module: LightningModule, dense: nn.Module) -> History:
    """Describes how a pruned module differs from the dense one.

    Args:
        module: The pruned module.
        dense: The same module before, with the blocks split in both; its own pruning is part of the history.
    """
    before = {name: tuple(tensor.shape) for name, tensor in _tensors(dense)}
    wide = {name: numbers(layer) for name, layer in dense.named_modules()}
    changed_numbers = {
        name: changed
        for name, layer in module.named_modules()
        if (changed := {key: n for key, n in numbers(layer).items() if wide[name].get(key) != n})
    }
    earlier = getattr(dense, KEY, {"tensors": {}, "numbers": {}})
    return {
        "version": VERSION,
        "split": [name for name, block in module.named_modules() if isinstance(block, SplitC2f)],
        "tensors": earlier["tensors"] | {n: list(t.shape) for n, t in _tensors(module) if before[n] != tuple(t.shape)},
        "numbers": earlier["numbers"] | {n: earlier["numbers"].get(n, {}) | new for n, new in changed_numbers.items()},
    }  # fmt: skip


def replay(module: LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Makes a module as narrow as that of a pruned checkpoint, so that its weights fit.

    Other checkpoints change nothing.

    From then on the module records its pruning in every checkpoint of its own. A module that is that narrow
    already stays.

    Args:
        module: Dense module of the checkpoint's class.
        checkpoint: Contents of the checkpoint. The entry is plain data from a file: it is checked, and can
            only make existing layers narrower.

    Raises:
        ValueError: If the entry is of another version, is no such data, or does not fit the module.
    """
    history = checkpoint.get(KEY)
    if history is None:
        return
    _check_form(history)
    who = type(module).__name__
    if history["split"] and not set(history["split"]) <= set(split(module)):
        strange = sorted(set(history["split"]) - set(split(module)))[0]
        raise ValueError(
            f"the checkpoint is of a pruned network whose block {strange!r} was split, and {who} has no C2f block there: give the "
            "configuration that it was trained by, with the same version of Ultralytics."
        )
    tensors, layers = dict(_tensors(module)), dict(module.named_modules())
    for name, shape in history["tensors"].items():
        _check_shape(who, name, shape, tensors.get(name))
    for name, widths in history["numbers"].items():
        for key, number in widths.items():
            there = getattr(layers.get(name), key, None)
            if key not in NUMBERS or type(there) is not int or not 1 <= number <= there:
                raise ValueError(
                    f"the checkpoint's pruning sets {key} of {name!r} to {number}, which {who} does not allow (it is {there}): it was "
                    "made by another configuration, or is damaged."
                )
    for name, shape in history["tensors"].items():
        resize(module, name, tensors[name].detach().flatten()[: math.prod(shape)].reshape(shape).clone())
    for name, widths in history["numbers"].items():
        for key, number in widths.items():
            setattr(layers[name], key, number)
    remember(module, history)


def remember(module: LightningModule, history: History) -> None:
    """Makes a module write its pruning into every checkpoint, whoever saves it; its copies do, too.

    Args:
        module: The pruned module.
        history: Result of `describe`.
    """
    vars(module).setdefault("on_save_checkpoint", types.MethodType(_save, module))
    setattr(module, KEY, history)


def resize(module: nn.Module, name: str, values: Tensor) -> None:
    """Replaces a parameter or buffer by a narrower one.

    Args:
        module: The module.
        name: Name of the tensor.
        values: Values of its narrower successor.
    """
    owner, _, key = name.rpartition(".")
    layer = module.get_submodule(owner)
    if (before := layer._parameters.get(key)) is not None:
        layer._parameters[key] = nn.Parameter(values.to(before), before.requires_grad)
    else:
        layer._buffers[key] = values


def _save(self: Any, checkpoint: dict[str, Any]) -> None:
    type(self).on_save_checkpoint(self, checkpoint)
    checkpoint[KEY] = getattr(self, KEY)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def numbers(layer: nn.Module) -> dict[str, int]:
    """Returns the widths that a layer states, by attribute.

    Example:
        >>> numbers(nn.Linear(3, 2))
        {'in_features': 3, 'out_features': 2}
    """
    return {key: n for key, n in vars(layer).items() if key in NUMBERS and type(n) is int}


def _check_form(history: Any) -> None:
    version = history.get("version") if isinstance(history, dict) else None
    if version != VERSION:
        raise ValueError(
            f"the checkpoint is pruned in the form {version}, and this version of lkd reads form {VERSION}: prune again, or "
            "install the version that made it."
        )
    whole = (
        isinstance(history.get("split"), list)
        and all(isinstance(name, str) for name in history["split"])
        and isinstance(history.get("tensors"), dict)
        and all(
            isinstance(shape, list) and all(type(n) is int for n in shape)
            for shape in history["tensors"].values()
        )
        and isinstance(history.get("numbers"), dict)
        and all(
            isinstance(widths, dict) and all(type(n) is int for n in widths.values())
            for widths in history["numbers"].values()
        )
    )
    if not whole:
        raise ValueError(
            f"the checkpoint's entry {KEY!r} is damaged: it must hold split (names), tensors (shapes by name) and numbers (by layer)."
        )


def _check_shape(who: str, name: str, shape: list[int], tensor: Tensor | None) -> None:
    if tensor is None:
        raise ValueError(
            f"the checkpoint is of a pruned network with a tensor {name!r}, which {who} does not have: give the configuration that it "
            "was trained by; layers that a module makes in setup() cannot be pruned."
        )
    fits = len(shape) == tensor.ndim and all(
        1 <= n <= there for n, there in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"the checkpoint's pruning leaves {name!r} the shape {shape}, and that of {who} is {list(tensor.shape)}, of which nothing "
            "can be left like that: give the configuration that it was trained by, as it was before pruning."
        )
