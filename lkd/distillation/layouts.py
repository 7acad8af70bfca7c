"""Which dimension of a layer's output holds the channels, and the form in which the losses take it."""

from typing import Any

from torch import Tensor, nn

from lkd.addresses import find_layer, parse

FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.MaxPool1d, nn.AvgPool1d)
MAPS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.MaxPool2d, nn.AvgPool2d)
WIDTHS = ("out_features", "out_channels", "num_features", "normalized_shape", "embedding_dim", "embed_dim")
"""Attributes by which layers with weights tell how many channels they give."""
ORDERED = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Layers of sequences that have the samples in their second dimension unless they are made with `batch_first`."""


def layout_of(model: nn.Module, address: str, value: Tensor, argument: str = "layer") -> str | None:
    """Returns the order of dimensions of a layer's output: NCHW, NHWC, NCL, NLC or LNC.

    It is None if the order is not known.

    What the address says after its `@` has precedence. Otherwise the layer's kind decides: torch's recurrent
    layers and transformers have the samples second unless they are `batch_first`; a convolution has its
    channels first. Then these decide, in this order: the widths of the layers with weights in it, timm's
    `output_fmt`, and that a block of nothing but convolutions and a square map have their channels first.

    Args:
        model: The model.
        address: The layer, as `lkd.addresses.parse` reads it.
        value: Its output `(B, C, H, W)`, `(B, H, W, C)`, `(B, N, C)` or `(B, C, T)`.
        argument: The name of the user's argument, for error messages.

    Raises:
        ValueError: If the address gives a layout with another number of dimensions.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU())
        >>> layout_of(net, "0", torch.zeros(2, 8, 50)), layout_of(net, "1", torch.zeros(2, 8, 50))
        ('NCL', None)
    """
    said = parse(address, argument).layout
    if said:
        if len(said) != value.dim():
            raise ValueError(
                f"{argument}={address!r}: {said} has {len(said)} dimensions, the output is {tuple(value.shape)}."
            )
        return said
    if value.dim() not in (3, 4):
        return None
    if value.dim() == 3 and _samples_second(model, address):
        return "LNC"
    layer = find_layer(model, address, argument)
    first, last = ("NCL", "NLC") if value.dim() == 3 else ("NCHW", "NHWC")
    if isinstance(layer, FIRST if value.dim() == 3 else MAPS):
        return first
    widths = _widths(layer)
    square = value.dim() == 4 and value.shape[2] == value.shape[3] != value.shape[1]
    for known in (set(widths), set(widths[-1:])):
        if value.shape[1] in known and value.shape[-1] not in known:
            return first
        if value.shape[-1] in known and value.shape[1] not in known and not square:
            return last
    if value.dim() == 4 and (told := _told(model, address)) is not None:
        return told
    if _all_of(layer, FIRST if value.dim() == 3 else MAPS):
        return first
    return "NCHW" if square else None


def canonical(value: Tensor, layout: str | None) -> Tensor:
    """Returns maps as `(B, C, H, W)` and sequences as `(B, N, C)`, which is how the losses take them.

    Example:
        >>> import torch
        >>> canonical(torch.zeros(2, 7, 5, 16), "NHWC").shape, canonical(torch.zeros(2, 8, 50), "NCL").shape
        (torch.Size([2, 16, 7, 5]), torch.Size([2, 50, 8]))
    """
    if layout == "NHWC":
        return value.permute(0, 3, 1, 2)
    if layout == "LNC":
        return value.transpose(0, 1)
    return value.transpose(1, 2) if layout == "NCL" else value


def _samples_second(model: nn.Module, address: str) -> bool:
    """Returns whether one of torch's sequence layers gives this (or holds the layer), with samples second."""
    name, keys, _ = parse(address)
    while True:
        layer = find_layer(model, name, "layer")
        inner = layer.layers[0] if isinstance(layer, nn.TransformerEncoder | nn.TransformerDecoder) else layer
        if isinstance(layer, nn.RNNBase | nn.MultiheadAttention) and keys[:1] == ("1",):
            return isinstance(layer, nn.RNNBase)  # states and attention maps do not follow batch_first
        if isinstance(inner, ORDERED):
            ordered: Any = getattr(inner, "self_attn", inner)
            return not ordered.batch_first
        if not name:
            return False
        name = name.rpartition(".")[0]


def _widths(layer: nn.Module) -> list[int]:
    """Returns the channels of the layers with weights inside, including the layer itself, in order."""
    widths: list[int] = []
    for inner in layer.modules():
        if isinstance(inner, nn.RNNBase):
            widths.append((inner.proj_size or inner.hidden_size) * (2 if inner.bidirectional else 1))
        elif next(inner.parameters(recurse=False), None) is not None:
            found: Any = next((getattr(inner, name) for name in WIDTHS if hasattr(inner, name)), None)
            found = found[-1] if isinstance(found, tuple | list) and found else found
            widths += [found] if isinstance(found, int) else []
    return widths


def _all_of(layer: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Returns whether there are layers with weights inside, and all of these kinds."""
    inner = [one for one in layer.modules() if next(one.parameters(recurse=False), None) is not None]
    return bool(inner) and all(isinstance(one, kinds) for one in inner)


def _told(model: nn.Module, address: str) -> str | None:
    """Returns timm's `output_fmt` of the layer or of the nearest module around it."""
    name = parse(address).module
    while True:
        told = getattr(find_layer(model, name, "layer"), "output_fmt", None)
        told = getattr(told, "value", told)
        if told in ("NCHW", "NHWC"):
            return str(told)
        if not name:
            return None
        name = name.rpartition(".")[0]
