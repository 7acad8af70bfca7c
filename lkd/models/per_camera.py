"""One copy of a network for each camera."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkd.copies import copied

SHARED = ("anchors", "strides")  # entries of raw detector outputs that all images of a batch have in common


class PerCamera(nn.Module):
    """Copies of a network, one for each camera, with every image of a batch routed to its camera's copy.

    Training batches normally come from one camera and are then not split. Under DDP a step leaves the copies
    of the other cameras without gradients: use `Trainer(strategy="ddp_find_unused_parameters_true")`.

    Args:
        network: The network to copy. It returns a tensor, a dict or a list of tensors with the batch first.
        cameras: Names of the cameras, without dots (they become part of the names of the weights).

    Raises:
        ValueError: For names that are empty, repeated or not usable.

    Example:
        >>> network = PerCamera(nn.Linear(2, 1, bias=False), ["C1", "C2"])
        >>> _ = nn.init.constant_(network.copies["C1"].weight, 1.0)
        >>> _ = nn.init.constant_(network.copies["C2"].weight, 5.0)
        >>> network(torch.ones(3, 2), ["C1", "C2", "C1"]).squeeze(1).tolist()
        [2.0, 10.0, 2.0]
    """

    def __init__(self, network: nn.Module, cameras: Sequence[str]) -> None:
        super().__init__()
        if not cameras or len(set(cameras)) < len(cameras):
            raise ValueError(f"cameras={list(cameras)} must be one or more different names.")
        self.copies = nn.ModuleDict()
        for camera in cameras:
            if not camera or "." in camera or hasattr(nn.ModuleDict, camera):
                raise ValueError(
                    f"cameras: {camera!r} cannot name a module; use a name like 'C1', without dots."
                )
            self.copies[camera] = copied(network, "network")

    def forward(self, images: Tensor, cameras: Sequence[str] | str | None = None) -> Any:
        """Returns the network's outputs for images `(B, ...)` in their order.

        Args:
            images: The batch.
            cameras: The camera of each image, or one for all; may be left out when there is only one copy.

        Raises:
            ValueError: For an unknown camera, or not one name for each image.
        """
        if cameras is None and len(self.copies) == 1:
            cameras = next(iter(self.copies))
        if isinstance(cameras, str):
            cameras = [cameras] * len(images)
        if cameras is None or len(cameras) != len(images):
            raise ValueError(f"cameras={cameras} must name the camera of each of the {len(images)} images.")
        if unknown := sorted(set(cameras) - set(self.copies)):
            raise ValueError(
                f"cameras: no network for {', '.join(unknown)}; there are {', '.join(self.copies)}."
            )
        present = [camera for camera in self.copies if camera in cameras]
        if len(present) == 1:
            return self.copies[present[0]](images)
        rows = {name: [row for row, camera in enumerate(cameras) if camera == name] for name in present}
        parts = [self.copies[name](images[rows[name]]) for name in present]
        order = torch.tensor([row for name in present for row in rows[name]], device=images.device).argsort()
        return merged(parts, order)


def merged(parts: list[Any], order: Tensor) -> Any:
    """Concatenates equally nested outputs along the batch and puts them in `order`."""
    first = parts[0]
    if isinstance(first, dict):
        return {
            key: value if key in SHARED else merged([part[key] for part in parts], order)
            for key, value in first.items()
        }
    if isinstance(first, list | tuple):
        return [merged(list(each), order) for each in zip(*parts, strict=True)]
    return torch.cat(parts)[order]
