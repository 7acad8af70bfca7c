"""Which modalities a module has, which samples have them, and which of its layers say something of each."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from lightning.pytorch import LightningModule
from torch import Tensor

NETWORK = "network"
"""The part of a module that is given the dict of modalities."""
PLACE = "{modality}"
"""What a pattern of layers has in the place of the modality."""


def check_pattern(layer: str) -> None:
    """Refuses the name of one layer where there is to be one for each modality.

    Raises:
        ValueError: If it is.
    """
    if PLACE not in layer:
        raise ValueError(
            f"layer={layer!r} must name a layer for each modality, as 'network.projections.{PLACE}' does."
        )


def modal_layers(
    module: LightningModule, layer: str, modalities: Sequence[str] | None = None
) -> dict[str, str]:
    """A module's layers by modality.

    Args:
        module: It has a `network` with `modalities` and `owned(x)`, as `lkd.modules.MultimodalClient` has.
        layer: Pattern of addresses, such as `"network.projections.{modality}"`.
        modalities: Those that count. Default: all.

    Raises:
        ValueError: If the module does not say which modalities it has.

    Example:
        >>> from torch import nn
        >>> from lkd.modules import MultimodalClient
        >>> client = MultimodalClient({"acc": nn.Flatten()}, num_classes=5, example={"acc": [3, 8]})
        >>> modal_layers(client, "network.heads.{modality}")
        {'acc': 'network.heads.acc'}
    """
    network: Any = getattr(module, NETWORK, None)
    found = getattr(network, "modalities", None)
    if not found or not callable(getattr(network, "owned", None)):
        raise ValueError(
            f"{type(module).__name__} does not say which modalities it has: use a MultimodalClient, or a module whose "
            "`network` has `modalities`, their names, and `owned(x)`, which tells who of a batch has which."
        )
    return {m: layer.replace(PLACE, m) for m in found if modalities is None or m in modalities}


def present(module: LightningModule, x: Any) -> dict[str, Tensor]:
    """Which samples `(B,)` have each modality of the module, of what its network was given."""
    network = cast(Any, module.network)
    _, there = network.owned(x)
    return dict(zip(network.modalities, there.unbind(1), strict=True))


def owners(features: Tensor, there: Tensor, layer: str) -> Tensor:
    """Features `(n, D)`, in float32, of those samples that have the modality.

    Args:
        features: `(B, ...)`.
        there: `(B,)`.
        layer: Which gave them, for the message.

    Raises:
        ValueError: If they are of other samples than the mask is.
    """
    if len(features) != len(there):
        raise ValueError(
            f"layer={layer!r} gives {len(features)} rows for {len(there)} samples: take one that gives a row for every sample, "
            f"whether it has the modality or not, as 'network.projections.{PLACE}' does."
        )
    return features.float().flatten(1)[there]


def check_modalities(modalities: Sequence[str] | None, modules: Sequence[LightningModule]) -> None:
    """Refuses modalities that no module has.

    Raises:
        ValueError: If there are any.
    """
    known = list(dict.fromkeys(m for module in modules for m in modal_layers(module, PLACE)))
    unknown = [m for m in modalities or () if m not in known]
    if unknown:
        raise ValueError(
            f"modalities: no client has {unknown[0]!r}; the modules have encoders for {', '.join(known)}."
        )


def of_each(tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """What a message holds of each modality under names such as `"mean/acc"`.

    Example:
        >>> import torch
        >>> of_each({"mean/acc": torch.ones(1), "count/acc": torch.zeros(1)}, "mean")
        {'acc': tensor([1.])}
    """
    prefix = f"{what}/"
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
