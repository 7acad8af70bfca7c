"""What a device has to do to a picture or a signal before the file takes it, as far as the data say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.edge.export.kind import ExportPart
from lkd.edge.exported import PRESENT


def described_inputs(
    part: ExportPart,
    kind: str,
    data: LightningDataModule,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> list[dict[str, Any]]:
    """Describes the inputs of a file: name, shape, dtype, layout, normalization and resizing of pictures.

    A value v of a pixel or a sensor becomes `(v / scale - mean) / std`, with a number for each channel. The
    data give `mean` and `std` (None where nothing is done), `scale` (255 for pictures), or `moments` by
    modality; `mean` and `std` given here have precedence. If they are not known, `normalization` is null,
    with a warning.

    Args:
        part: The part of the student.
        kind: Kind of the student.
        data: Data module that it was tested on.
        mean: Mean of every channel.
        std: Deviation of every channel.

    Raises:
        ValueError: For numbers that do not fit the channels.
    """
    source = getattr(data, "data", data)  # a federation's data wrap others
    entries: list[dict[str, Any]] = []
    for name, tensor in part.inputs.items():
        shape = list(tensor.shape[1:])
        entry: dict[str, Any] = {"name": name, "shape": ["batch", *shape]}
        entry["dtype"] = str(tensor.dtype).removeprefix("torch.")
        if name != PRESENT:
            entry["layout"] = _layout(shape)
            entry["normalization"] = _normalization(name, shape, source, mean, std)
            if "pixels" in entry["layout"]:
                entry["resize"] = _resize(kind, source, shape)
        else:
            entry["layout"] = f"which sample has {', '.join(list(part.inputs)[:-1])}"
        entries.append(entry)
    if unknown := [e["name"] for e in entries if e.get("normalization", 0) is None]:
        pictures = any("resize" in e for e in entries if e["name"] in unknown)
        what = f"pixels / {getattr(source, 'scale', 255):g} are taken" if pictures else "values are taken"
        rank_zero_warn(
            f"{type(source).__name__} does not say how {', '.join(unknown)} is normalized (it has no mean and std), so the file's "
            f"metadata do not either: give mean=[...] and std=[...], [0] and [1] where {what} as they are."
        )
    return entries


def _layout(shape: Sequence[int]) -> str:
    if len(shape) == 3 and shape[0] in (1, 3):
        return f"NCHW, pixels, {'RGB' if shape[0] == 3 else 'gray'}"
    return {3: "NCHW", 2: "NCT", 1: "NF"}.get(len(shape), "N...")


def _normalization(
    name: str, shape: Sequence[int], source: Any, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, Any] | None:
    picture = "pixels" in _layout(shape)
    scale = float(getattr(source, "scale", 255.0)) if picture else 1.0
    moments = (getattr(source, "moments", None) or {}).get(name)
    if mean is None and moments is not None:
        return {"scale": scale, "mean": moments.mean.tolist(), "std": moments.std.tolist()}
    if mean is None and not hasattr(source, "mean"):
        return None
    means = _numbers(source.mean if mean is None else mean, 0.0)
    stds = _numbers(std if mean is not None else getattr(source, "std", None), 1.0)
    fits = all(len(numbers) in (1, shape[0]) for numbers in (means, stds)) and min(stds) > 0
    if not fits and mean is not None:
        raise ValueError(
            f"mean={means} and std={stds} must be one number or one for each of the {shape[0]} channels of {name!r}, std above 0."
        )
    return {"scale": scale, "mean": means, "std": stds} if fits else None


def _numbers(given: Any, otherwise: float) -> list[float]:
    """Returns the numbers of a sequence, an array, a tensor or one number.

    Users' own data have any of these.
    """
    found: list[float] = np.ravel([] if given is None else np.asarray(given, np.float64)).tolist()
    return found or [otherwise]


def _resize(kind: str, source: Any, shape: Sequence[int]) -> dict[str, Any]:
    if kind == "boxes":
        views = getattr(source, "eval_views", None)
        side = getattr(views, "image_size", max(shape[1:]))
        return {"how": "longer side, then pad", "longer_side": side, "filter": "bilinear, antialias",
                "pad": "bottom and right", "pad_value": 114}  # fmt: skip
    return {"how": "stretch", "filter": "bilinear, antialias"}


def class_names(given: Sequence[str] | None, data: LightningDataModule, count: int) -> list[str]:
    """Returns the names of the classes: those given, those of the data, or numbers.

    Args:
        given: Names given by the user, or None.
        data: Data module that may name its classes.
        count: Number of classes.

    Raises:
        ValueError: If the number of given names is not the number of classes.
    """
    if given is not None:
        if len(given) != count:
            raise ValueError(
                f"classes={list(given)} are {len(given)} names, but the student has {count} classes."
            )
        return list(given)
    source = getattr(data, "data", data)
    found = said_names(source)
    if found and len(found) != count:
        rank_zero_warn(
            f"{type(source).__name__} has {len(found)} classes and the student {count}, so they are numbers in the file: give "
            "classes=[...]."
        )
    return [str(name) for name in found] if len(found) == count else [str(k) for k in range(count)]


def said_names(source: Any) -> list[str]:
    """Returns the names of the classes in the data's order, or an empty list.

    A class that joins several classes of the files is named by its number.
    """
    known, names = getattr(source, "classes", None), list(getattr(source, "names", None) or [])
    if isinstance(known, Mapping):  # name -> class
        pairs = list(known.items())
    elif known:
        return list(known)
    elif mapped := getattr(source, "class_map", None):  # class in the files -> class
        pairs = [(names[there], here) for there, here in mapped.items()] if names else []
    else:
        return names
    called: dict[int, list[str]] = {}
    for name, here in pairs:
        called.setdefault(here, []).append(name)
    together = [called.get(k, []) for k in range(max(called, default=-1) + 1)]
    return [each[0] if len(each) == 1 else str(k) for k, each in enumerate(together)]
