"""Encoders of single modalities: checked, made from the user's arguments, and measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkd.modalities import check_names
from lkd.models.timm_names import timm_network


def check_encoders(encoders: Mapping[str, nn.Module | str], example: Mapping[str, Sequence[int]]) -> None:
    """Refuses encoders that cannot be children of a network.

    Args:
        encoders: A module or timm name for each modality.
        example: Shape of an input of each modality, without the batch.

    Raises:
        ValueError: For invalid names, a module that is given twice, or a missing shape.
    """
    if not encoders:
        raise ValueError("encoders={} names no modality; give at least one.")
    check_names(encoders, "encoders")
    for m in encoders:
        if hasattr(nn.ModuleDict, m):
            raise ValueError(
                f"encoders: {m!r} is a method of modules and cannot name a modality; call it {m}_1."
            )
    owners: dict[int, str] = {}
    for m, encoder in encoders.items():
        if isinstance(encoder, nn.Module) and owners.setdefault(id(encoder), m) != m:
            raise ValueError(
                f"encoders: {owners[id(encoder)]!r} and {m!r} are the same module; give one of them a copy of its own."
            )
    if missing := [m for m in encoders if m not in example]:
        raise ValueError(
            f"example has no shape of {', '.join(missing)}: give that of an input without the batch, such as [3, 100]."
        )


def make_encoder(modality: str, encoder: nn.Module | str, shape: Sequence[int]) -> nn.Module:
    """Returns the module itself, or the timm model of that name without its head, with random weights.

    Args:
        modality: Name of the modality, for the error message.
        encoder: A module or a timm name.
        shape: Shape of an input without the batch; a timm model gets as many channels.

    Raises:
        ValueError: For an unknown name; similar names are suggested.
    """
    if isinstance(encoder, nn.Module):
        return encoder
    return timm_network(f"encoders: {modality}", encoder, num_classes=0, in_chans=shape[0])


@torch.no_grad()
def feature_width(modality: str, encoder: nn.Module, shape: Sequence[int]) -> int:
    """Returns the number of features, found with an input of zeros in eval mode, so that nothing changes.

    Args:
        modality: Name of the modality, for the error message.
        encoder: The module.
        shape: Shape of an input without the batch.

    Raises:
        ValueError: If it does not take the input, or gives no features.

    Example:
        >>> feature_width("acc", nn.Conv1d(3, 8, 5), [3, 100])
        8
    """
    training = encoder.training
    try:
        found: Any = encoder.eval()(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise ValueError(
            f"the encoder of {modality!r} does not take an input of shape {list(shape)}, its example: {error}"
        ) from error
    encoder.train(training)
    if not isinstance(found, Tensor) or found.dim() < 2:
        raise ValueError(
            f"the encoder of {modality!r}, {type(encoder).__name__}, must give features (B, F) or (B, F, ...), not "
            f"{tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}."
        )
    return found.shape[1]


def pooled(features: Tensor) -> Tensor:
    """Averages features `(B, F, ...)` over all further dimensions, to `(B, F)`.

    Example:
        >>> pooled(torch.tensor([[[1.0, 3.0]]]))
        tensor([[2.]])
    """
    return features.flatten(2).mean(2) if features.dim() > 2 else features


class PresentLinear(nn.Linear):
    """Linear layer for the samples of a batch that have an input; the others get zeros without a gradient.

    Example:
        >>> layer = PresentLinear(2, 1)
        >>> layer(torch.ones(1, 2), torch.tensor([False, True, False])).shape
        torch.Size([3, 1])
    """

    def forward(self, values: Tensor, present: Tensor) -> Tensor:  # type: ignore[override]
        """Maps values `(n, in_features)` of the n samples that are present `(B,)` to `(B, out_features)`."""
        if not len(values):  # no sample has it: its weights get no gradient instead of a zero one
            return values.new_zeros(len(present), self.out_features)
        found = super().forward(values)
        if len(values) == len(present):
            return found
        rows = present.nonzero().squeeze(1)
        return found.new_zeros(len(present), self.out_features).index_copy(0, rows, found)
