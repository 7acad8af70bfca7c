"""The format of multimodal batches: a dict of tensors, and which samples have which modality.

x is `{"phone_acc": (B, 3, T), "watch_gyro": (B, 3, T), "present": {"phone_acc": (B,), ...}}`: every key
except `"present"` is a modality, and `"present"` says by a bool for each sample which ones it has. Without
it, every sample has every given modality. Where a sample lacks a modality its tensor holds zeros, and nothing
may depend on them.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

PRESENT = "present"
"""The only key of x that is no modality."""


def split(x: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits a batch into its modalities, and which samples have them.

    Args:
        x: Tensors `(B, ...)` by modality, with or without `"present"`, whose entries are bools `(B,)` by
            modality; a modality without an entry is there in every sample.

    Returns:
        Tensors and bools, both by modality in the order of x.

    Raises:
        ValueError: If x is no such dict.

    Example:
        >>> inputs, present = split({"rgb": torch.zeros(2, 3, 8, 8), "present": {}})
        >>> list(inputs), present["rgb"]
        (['rgb'], tensor([True, True]))
    """
    form = "a multimodal x is a dict of tensors (B, ...) by modality, with the key 'present' for masks (B,)"
    if not isinstance(x, dict):
        raise ValueError(f"{form}, not a {type(x).__name__}.")
    inputs = {name: value for name, value in x.items() if name != PRESENT}
    if not inputs:
        raise ValueError(f"{form}; this one holds no modality.")
    for name, value in inputs.items():
        if not isinstance(value, Tensor) or not value.dim():
            found = "a number" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ValueError(f"{form}; x[{name!r}] is {found}.")
    first, size = next((name, len(value)) for name, value in inputs.items())
    for name, value in inputs.items():
        if len(value) != size:
            raise ValueError(
                f"x[{name!r}] has {len(value)} samples and x[{first!r}] {size}: a sample that lacks a modality has zeros "
                "there, and False in x['present']."
            )
    return inputs, _masks(x.get(PRESENT), inputs, size)


def _masks(given: Any, inputs: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Checks the masks of x, and adds those that are left out."""
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ValueError(
            f"x['present'] must be a dict of bools (B,) by modality, not a {type(given).__name__}."
        )
    for name, mask in given.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (size,):
            found = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"x['present'][{name!r}] must be a bool tensor ({size},), not {found}.")
        if name not in inputs and mask.any():
            raise ValueError(f"x['present'] says that samples have {name!r}, of which x has no tensor.")
    everyone = next(iter(inputs.values())).new_ones(size, dtype=torch.bool)
    return {name: given.get(name, everyone) for name in inputs}


def drop(present: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
    """Removes modalities at random, each from each sample by itself, but never all that a sample has.

    If all would go, one of them stays, each with the same chance. So a sample with n modalities loses each of
    them with probability `rate - rate**n / n`.

    Args:
        present: Bools `(B,)` by modality.
        rate: Probability, in [0, 1]. Numbers are drawn from torch's global generator of the masks' device,
            one for each sample and modality, even at rate 0 (as `torch.nn.Dropout`, and unlike a data set, a
            training step has no seed of its own).

    Returns:
        Bools `(B,)`, in the same order.

    Example:
        >>> there = torch.tensor([True, True, False])
        >>> left = drop({"a": there, "b": ~there}, rate=1.0)
        >>> left["a"].tolist(), left["b"].tolist()
        ([True, True, False], [False, False, True])
    """
    there = torch.stack(list(present.values()), 1)
    luck = torch.rand(there.shape, device=there.device).masked_fill(~there, -1.0)
    # the modality with the highest draw stays at any rate
    kept = there & (luck >= luck.amax(1, keepdim=True).clamp(max=rate))
    return dict(zip(present, kept.unbind(1), strict=True))


def check_names(names: Iterable[str], argument: str) -> None:
    """Refuses names that cannot name a modality, since they become names of layers.

    Args:
        names: The names.
        argument: The name of the user's argument, for the error message.

    Raises:
        ValueError: For a name that is no letter followed by letters, digits and underscores, or `"present"`.

    Example:
        >>> check_names(["rgb", "watch_acc"], "encoders")
    """
    for name in names:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name == PRESENT:
            raise ValueError(
                f"{argument}: {name!r} cannot name a modality; use letters, digits and underscores, beginning with a "
                f"letter, and not {PRESENT!r}."
            )
