"""Where the pictures and labels of YOLO data lie: the folders that Ultralytics, Roboflow and CVAT write."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

from lkd.datamodules.detection.formats.data_yaml import (
    below_images,
    check_names,
    find_data_yaml,
    read_data_yaml,
)
from lkd.datamodules.io.files import check_folder, list_images, part_of
from lkd.datamodules.io.left_out import LeftOut
from lkd.picture_files import is_hidden
from lkd.text_files import read_lines


class Picture(NamedTuple):
    """Picture that was found, with its label file and part."""

    path: Path
    label: Path  # its label file, which may not exist
    name: str  # its name with the folders above it: cam1/7.jpg is cam1_7
    part: str  # "train", "val", "test", or "" where nothing says so


class YoloLayout(NamedTuple):
    """Pictures, names and keypoints of a folder of YOLO data."""

    pictures: list[Picture]
    names: list[str]  # names of the classes, if a file has them
    keypoints: int  # numbers that follow every box


def read_layout(root: Path, left_out: LeftOut, parted: bool = True) -> YoloLayout:
    """Finds the pictures and their label files.

    Pictures lie where `data.yaml` says, else in `root/images/`, else in `root/train/images/`,
    `root/valid/images/` and `root/test/images/`, at any depth. Labels lie in `labels/` for `images/`, or
    beside pictures that are in no such folder; their suffix is `.txt` in any case. A folder `train`, `val`
    (`valid`, `validation`) or `test`, in any case, says the part.

    Args:
        root: the folder, or its `data.yaml`.
        left_out: counter of files that are no pictures, and of label files without one.
        parted: whether the part of a picture matters; if false, every `part` is "".

    Raises:
        FileNotFoundError: if there is no picture.
        ValueError: if a picture is in two parts, or in none while others are, or two share a label file.
    """
    said = read_data_yaml(find_data_yaml(root, left_out), left_out)
    folder = root.parent if root == said.file else root
    parts = said.parts or _folders(folder, left_out)
    pictures: dict[Path, Picture] = {}
    written: dict[Path, dict[str, str]] = {}
    for part, found in parts.items():
        for path, below in found.items():
            inner = next(filter(None, map(part_of, below.parts[:-1])), "")
            name = "_".join([*(name for name in below.parts[:-1] if not part_of(name)), path.stem])
            label = _as_written(_label(path, folder), written)
            picture = Picture(path, label, name, (part or inner) if parted else "")
            other = pictures.setdefault(path, picture)
            if other.part != picture.part:
                raise ValueError(
                    f"{path} is in both {other.part} and {picture.part}, so that figures would be of what was trained on: "
                    "change that, or set split=by_time."
                )
    _check(pictures.values(), root)
    _count_orphans(pictures.values(), left_out)
    return YoloLayout(sorted(pictures.values()), said.names or _listed_names(folder), said.keypoints)


def _folders(root: Path, left_out: LeftOut) -> dict[str, dict[Path, PurePath]]:
    """Returns the pictures of each part, found by the folders alone."""
    beside = sorted(folder for folder in root.iterdir() if part_of(folder.name)) if root.is_dir() else []
    places = [("", root / "images"), *((part_of(folder.name), folder / "images") for folder in beside)]
    if not any(place.is_dir() for _, place in places):
        what = "images/ with the pictures <camera>_<number>.jpg (or train/images/, ...), labels/ beside it, or a data.yaml"
        if beside := list_images(check_folder(root, what)):
            above = (
                f"set root to {root.parent}"
                if root.name == "images"
                else f"move the pictures to {root / 'images'}"
            )
            raise FileNotFoundError(
                f"{root} holds pictures such as {beside[0].name} itself, and not {what}: {above}."
            )
        raise FileNotFoundError(f"{root} holds no {what}: put it there, or set root to where it is.")
    parts: dict[str, dict[Path, PurePath]] = {}
    for part, place in places:
        if place.is_dir():
            found = {path: path.relative_to(place) for path in list_images(place, left_out, deep=True)}
            parts[part] = parts.get(part, {}) | {path: below_images(below) for path, below in found.items()}
    if not any(parts.values()):
        raise FileNotFoundError(f"{root / 'images'} holds no picture.")
    return parts


def _label(picture: Path, root: Path) -> Path:
    """Returns the label file: `labels/` in place of the last folder `images/`, or beside the picture."""
    inside = picture.is_relative_to(root)  # folders above root are the user's and stay as they are
    above = list((picture.relative_to(root) if inside else picture).with_suffix(".txt").parts)
    if "images" in above[:-1]:
        above[len(above) - 1 - above[::-1].index("images")] = "labels"
    return root.joinpath(*above) if inside else Path(*above)


def _as_written(label: Path, written: dict[Path, dict[str, str]]) -> Path:
    """Returns a label file as its folder has it, such as `a.TXT`; as it was given where there is none.

    Args:
        label: path of the file, with the suffix `.txt`.
        written: names of the label files of each folder, by those with this suffix; grows.
    """
    names = written.get(label.parent)
    if names is None:
        there = sorted(os.listdir(label.parent)) if label.parent.is_dir() else []
        found = (
            name for name in there if name.lower().endswith(".txt")
        )  # a.txt after a.TXT, so that it counts
        names = written[label.parent] = {PurePath(name).stem + ".txt": name for name in found}
    return label.with_name(names.get(label.name, label.name))


def _check(pictures: Iterable[Picture], root: Path) -> None:
    """Refuses pictures that share a label file, and pictures without a part if others have one."""
    labels: dict[Path, Path] = {}
    for picture in pictures:
        if (other := labels.setdefault(picture.label, picture.path)) != picture.path:
            raise ValueError(f"{other} and {picture.path} share the label file {picture.label}; keep one.")
    loose = [picture.path for picture in pictures if not picture.part]
    if loose and any(picture.part for picture in pictures):
        raise ValueError(
            f"{root}: some pictures are in train, val or test and {len(loose)} are not (such as {loose[0]}); move them all, "
            "or set split=by_time."
        )


def _count_orphans(pictures: Iterable[Picture], left_out: LeftOut) -> None:
    """Counts label files in folders of labels that have no picture."""
    folders = {(picture.label.parent, picture.path.parent) for picture in pictures}
    for labels, images in sorted(folders):
        if labels == images or not labels.is_dir():
            continue
        there = {PurePath(name).stem for name in os.listdir(images)}
        for name in map(PurePath, sorted(os.listdir(labels))):
            if name.suffix.lower() == ".txt" and name.stem not in there | {"classes"} and not is_hidden(name):
                left_out.add("label files without a picture", labels / name)


def _listed_names(root: Path) -> list[str]:
    """Reads the names of the classes in `classes.txt`, one a line, as LabelImg and Label Studio write.

    The list is empty without this file.
    """
    for path in (root / "classes.txt", root / "labels" / "classes.txt"):
        if path.is_file():
            try:
                return check_names(read_lines(path))
            except ValueError as error:
                raise ValueError(f"{path}: {error}.") from error
    return []
