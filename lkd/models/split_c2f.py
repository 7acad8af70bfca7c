"""Ultralytics' C2f blocks in a form from which channels can be removed."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

PLACE = ("f", "i", "type", "np")
"""Attributes by which Ultralytics notes a layer's place in the network."""


class SplitC2f(nn.Module):
    """A C2f block (such as C3k2) with two first convolutions, one for each half that C2f cuts.

    It computes the same, bit for bit. A pruned C2f could not cut the channels of its first convolution in two
    equal halves.

    Args:
        block: The block; its parts that are not cut are taken over as they are.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.first, self.second = _half(block.cv1, 0), _half(block.cv1, 1)
        self.m, self.cv2 = block.m, block.cv2
        for name in PLACE:
            if hasattr(block, name):
                setattr(self, name, getattr(block, name))
        self.train(block.training)

    def forward(self, x: Tensor) -> Tensor:
        """Computes what the original C2f block computes."""
        parts = [self.first(x), self.second(x)]
        for layer in self.m:
            parts.append(layer(parts[-1]))
        found: Tensor = self.cv2(torch.cat(parts, 1))
        return found


def split(module: nn.Module) -> list[str]:
    """Splits all C2f blocks in a module, in place.

    Args:
        module: The module.

    Returns:
        The names of all split blocks, including those that were split before.
    """
    found = []
    for name, block in list(module.named_modules()):
        if isinstance(block, SplitC2f):
            found.append(name)
        elif name and _is_c2f(block):
            owner, _, key = name.rpartition(".")
            module.get_submodule(owner)._modules[key] = SplitC2f(block)
            found.append(name)
    return found


def _is_c2f(block: nn.Module) -> bool:
    """Returns whether a block's forward is that of Ultralytics' C2f.

    Subclasses with another one are left alone.
    """
    for kind in type(block).__mro__:
        if kind.__name__ == "C2f" and kind.__module__.startswith("ultralytics."):
            return type(block).forward is vars(kind).get("forward")
    return False


def _half(conv: Any, number: int) -> nn.Module:
    """Returns a module with half of the output channels of Ultralytics' Conv."""
    half: Any = copy.deepcopy(conv)
    size = conv.conv.out_channels // 2
    for layer in (half.conv, getattr(half, "bn", None)):
        if layer is None:
            continue
        for tensors in (layer._parameters, layer._buffers):
            for key, tensor in tensors.items():
                if tensor is not None and tensor.ndim:
                    part = tensor.detach().chunk(2)[number].clone()
                    tensors[key] = (
                        nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part
                    )
    half.conv.out_channels = size
    if hasattr(half, "bn"):
        half.bn.num_features = size
    return half
