"""Modalities of a module, the samples that have them, and the layers that belong to each."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from lightning.pytorch import LightningModule
from torch import Tensor

NETWORK = "network"
"""Attribute of a module that takes the dict of modalities."""
PLACE = "{modality}"
"""Placeholder for the modality in a pattern of layers."""


def check_pattern(layer: str) -> None:
    """Refuses the name of a single layer where a pattern with one layer per modality is needed.

    Raises:
        ValueError: If the name has no placeholder.
    """
    if PLACE not in layer:
        raise ValueError(
            f"layer={layer!r} must name a layer for each modality, as 'network.projections.{PLACE}' does."
        )


def modal_layers(
    module: LightningModule, layer: str, modalities: Sequence[str] | None = None
) -> dict[str, str]:
    """Finds a module's layers by modality.

    Args:
        module: Module with a `network` that has `modalities` and `owned(x)`, such as
            `lkd.modules.MultimodalClient`.
        layer: Pattern of addresses, such as `"network.projections.{modality}"`.
        modalities: Modalities to take. Default: all.

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
    """Tells which samples `(B,)` have each modality of the module, from its network's input."""
    network = cast(Any, module.network)
    _, there = network.owned(x)
    return dict(zip(network.modalities, there.unbind(1), strict=True))


def owners(features: Tensor, there: Tensor, layer: str) -> Tensor:
    """Selects the features `(n, D)`, in float32, of the samples that have the modality.

    Args:
        features: `(B, ...)`.
        there: `(B,)`, which samples have it.
        layer: Layer that gave them, for the message.

    Raises:
        ValueError: If there are not as many features as samples.
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
        ValueError: If there is one.
    """
    known = list(dict.fromkeys(m for module in modules for m in modal_layers(module, PLACE)))
    unknown = [m for m in modalities or () if m not in known]
    if unknown:
        raise ValueError(
            f"modalities: no client has {unknown[0]!r}; the modules have encoders for {', '.join(known)}."
        )


def of_each(tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Selects the tensors of a message whose names begin with `what` and a slash, such as `"mean/acc"`.

    Example:
        >>> import torch
        >>> of_each({"mean/acc": torch.ones(1), "count/acc": torch.zeros(1)}, "mean")
        {'acc': tensor([1.])}
    """
    prefix = f"{what}/"
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
