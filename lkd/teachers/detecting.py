"""A teacher with a copy for each camera is asked camera by camera; detections come in parts of a batch."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lkd.models.per_camera import PerCamera, merged
from lkd.nested import on_tensors
from lkd.taps import Call

Detections = list[dict[str, Tensor]]


def by_camera(
    ask: Callable[[Callable[..., Any], Tensor, str], Detections],
    detect: Callable[[Tensor, list[str]], Any],
    images: Tensor,
    cameras: Sequence[str],
) -> Detections:
    """Detects objects in images of known cameras, camera by camera.

    In eval mode an answer does not depend on the other images of its batch.

    Args:
        ask: Calls a function on images of a camera, in parts of a batch or as a whole.
        detect: The teacher's detection, given images and the camera of each.
        images: `(B, 3, H, W)`.
        cameras: Camera of each image.

    Returns:
        The detections, in the order of the images.

    Example:
        >>> import torch
        >>> tell = lambda images, cameras: [{"labels": torch.tensor([int(camera[1:])])} for camera in cameras]
        >>> found = by_camera(lambda detect, images, _: detect(images), tell, torch.zeros(3, 1), ["C1", "C2", "C1"])
        >>> [int(one["labels"]) for one in found]
        [1, 2, 1]
    """
    found: Detections = [{}] * len(images)
    for camera in dict.fromkeys(cameras):
        rows = [row for row, each in enumerate(cameras) if each == camera]

        def of_one(part: Tensor, camera: str = camera) -> Any:
            return detect(part, [camera] * len(part))

        for row, one in zip(rows, ask(of_one, images[rows], camera), strict=True):
            found[row] = one
    return found


def by_copy(model: nn.Module, call: Call, ask: Callable[[Call], dict[str, Any]]) -> dict[str, Any]:
    """Asks a model for the outputs of its layers; one that has a copy for each camera, camera by camera.

    A name for each image could be neither cut nor told apart, as tensors can.

    Args:
        model: The model; it has copies if its `network` is a `PerCamera` and its forward takes `cameras`.
        call: Its arguments.
        ask: Calls it.

    Returns:
        The outputs by layer, in the order of the images.
    """
    given = _bound(model, call) if isinstance(getattr(model, "network", None), PerCamera) else None
    cameras = None if given is None else given.arguments.get("cameras")
    if given is None or cameras is None or isinstance(cameras, str):
        return ask(call)
    found, order = [], list[int]()
    for camera in dict.fromkeys(cameras):
        rows = [row for row, each in enumerate(cameras) if each == camera]

        def of_one(tensor: Tensor, rows: list[int] = rows) -> Tensor:
            return tensor[rows] if tensor.ndim and len(tensor) == len(cameras) else tensor

        given.arguments["cameras"] = camera
        one = Call(given.args, given.kwargs)
        found.append(ask(one if len(rows) == len(cameras) else on_tensors(of_one, one)))
        order += rows
    if len(found) == 1:
        return found[0]
    return {
        layer: merged([each[layer] for each in found], torch.tensor(order).argsort()) for layer in found[0]
    }


def _bound(model: nn.Module, call: Call) -> inspect.BoundArguments | None:
    try:
        return inspect.signature(model.forward).bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):
        return None  # asking says why


def joined(name: str, parts: list[Any], sizes: list[int]) -> Detections:
    """Joins the detections of the parts of a batch.

    Args:
        name: Name of the teacher.
        parts: Its output for each part.
        sizes: Number of images in each part.

    Raises:
        TypeError: If the output is not one dict per image.

    Example:
        >>> joined("Net", [[{"boxes": 1}], [{"boxes": 2}]], [1, 1])
        [{'boxes': 1}, {'boxes': 2}]
    """
    found = [sample for part in parts if isinstance(part, list) for sample in part]
    if len(found) != sum(sizes) or not all(isinstance(one, dict) and "boxes" in one for one in found):
        raise TypeError(
            f"the teacher {name} gives no detections; it needs a method detect(images) or must return a list with "
            "one dict of boxes, scores and labels for each image."
        )
    return found
