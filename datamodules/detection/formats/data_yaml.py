"""The `data.yaml` that comes with YOLO data: names of the classes, and which pictures are in which part."""

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from lkd.datamodules.io.files import PARTS, is_image, list_images, part_of
from lkd.datamodules.io.left_out import LeftOut
from lkd.picture_files import IMAGES, is_hidden
from lkd.text_files import read_text
from lkd.unique_keys import load_yaml

YAML = (".yaml", ".yml")
FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


class DataYaml(NamedTuple):
    """Contents of a `data.yaml`: names of classes, keypoints and parts."""

    file: Path | None  # None if there is no file
    names: list[str]  # names of the classes; empty if the file has none
    keypoints: int  # numbers that follow every box, in a file of poses
    parts: dict[
        str, dict[Path, PurePath]
    ]  # part -> pictures, each with its path below the folder of pictures


def find_data_yaml(root: Path, left_out: LeftOut) -> Path | None:
    """Returns the file itself if `root` is one, or the file of a usual name in `root`.

    Args:
        root: folder or file.
        left_out: counter of files with other names that look like one.

    Raises:
        FileNotFoundError: if `root` has the name of such a file and does not exist.
    """
    if root.suffix in YAML:
        if root.is_file():
            return root
        if not root.is_dir():
            there = sorted(path.name for path in root.parent.glob("*.y*ml"))
            raise FileNotFoundError(
                f"there is no file {root} ({root.parent} has {', '.join(there) or 'no YAML file'}): set root to the data.yaml, or "
                "to the folder of images/ and labels/."
            )
    if found := next((root / name for name in FILES if (root / name).is_file()), None):
        return found
    for path in sorted(root.glob("*.y*ml")):
        if not is_hidden(path) and re.search(rb"^(names|nc)\s*:", path.read_bytes(), re.MULTILINE):
            left_out.add("files like a data.yaml of another name, which root could name", path)
    return None


def read_data_yaml(file: Path | None, left_out: LeftOut) -> DataYaml:
    """Reads `names` (list or dict), `nc`, `kpt_shape`, `path`, `train`, `val`, `test`, as Ultralytics does.

    A part is a folder, a `.txt` that lists pictures, or several of them. Paths are relative to `path`, or
    else to the file. A path that begins with `../` and leads nowhere is tried without it, as files of
    Roboflow need.

    Args:
        file: the file; `None` gives empty contents.
        left_out: counter of files in picture folders that are no pictures, and of pictures in folders such as
            `test/` that are beside the named folders.

    Raises:
        FileNotFoundError: for a part or a listed picture that does not exist.
        ValueError: if the file is damaged or contradicts itself; the message names it.
    """
    if file is None:
        return DataYaml(None, [], 0, {})
    try:
        said = load_yaml(read_text(file)) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is damaged: {' '.join(str(error).split())}.") from error
    if not isinstance(said, dict):
        raise ValueError(f"{file} must be a mapping such as `names: [car, bus]`.")
    try:
        names, (points, each) = _names(said), said.get("kpt_shape") or (0, 0)
        keypoints = int(points) * int(each)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: names, nc or kpt_shape is wrong: {error}.") from error
    bases = [*([file.parent / str(said["path"])] if said.get("path") else []), file.parent]
    parts: dict[str, dict[Path, PurePath]] = {}
    places: list[Path] = []
    for key, part in PARTS.items():
        if said.get(key):
            if part in parts:
                raise ValueError(f"{file} names the part {part} twice, as {key}, too.")
            entries = said[key] if isinstance(said[key], list) else [said[key]]
            parts[part] = {}
            for entry in entries:
                places.append(_resolve(file, bases, key, entry))
                parts[part] |= _pictures(places[-1], bases, left_out)
            if not parts[part]:
                raise FileNotFoundError(f"{file}: {key}={said[key]} holds no picture ({', '.join(IMAGES)}).")
    _count_unnamed(places, parts, left_out)
    return DataYaml(file, names, keypoints, parts)


def _count_unnamed(places: list[Path], parts: Collection[str], left_out: LeftOut) -> None:
    """Counts pictures in folders that look like a part but are not named, such as `test/` beside `train/`."""
    beside: set[Path] = set()
    for place in places:
        at = max((k for k, name in enumerate(place.parts) if part_of(name)), default=-1)
        if at >= 0:
            above = Path(*place.parts[:at])
            there = sorted(folder.name for folder in above.iterdir()) if above.is_dir() else []
            names = [name for name in there if (part := part_of(name)) and part not in parts]
            beside |= {Path(*place.parts[:at], name, *place.parts[at + 1 :]) for name in names}
    for folder in sorted(beside):
        for path in list_images(folder, deep=True) if folder.is_dir() else ():
            left_out.add("pictures in folders of parts that data.yaml does not name", path)


def below_images(path: PurePath) -> PurePath:
    """Returns the part of a path below its last folder `images`, or the path if there is none.

    Example:
        >>> below_images(PurePath("train/images/cam/a.jpg")).as_posix()
        'cam/a.jpg'
    """
    parts = path.parts[:-1]
    return PurePath(*path.parts[len(parts) - parts[::-1].index("images") :]) if "images" in parts else path


def _names(said: dict[str, Any]) -> list[str]:
    """Returns the names of the classes 0, 1, 2, ...; a class without a name is called by its number."""
    names, count = said.get("names"), said.get("nc")
    if isinstance(names, dict):
        numbered = {int(number): name for number, name in names.items()}
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError(f"names must number the classes 0, 1, 2, ..., not {sorted(numbered)}")
        names = [numbered[number] for number in range(len(numbered))]
    if names is None:
        names = list(range(int(count or 0)))
    if not isinstance(names, list):
        raise ValueError(f"names={names!r} must be a list of names, or a dict of numbers and names")
    if count is not None and int(count) != len(names):
        raise ValueError(f"nc={count}, but there are {len(names)} names")
    return check_names(names)


def check_names(names: list[Any]) -> list[str]:
    """Returns the names of classes as texts.

    Raises:
        ValueError: if two are the same, or one is no name: empty, or what YAML makes of an unquoted `yes` or
            `null`.

    Example:
        >>> check_names(["car", 5])
        ['car', '5']
    """
    for number, name in enumerate(names):
        if not isinstance(name, str | int | float) or isinstance(name, bool) or not str(name).strip():
            raise ValueError(f"the name of class {number} is {name!r}; write its name, in quotes")
    texts = [str(name) for name in names]
    if twice := next((name for name in texts if texts.count(name) > 1), None):
        places = ", ".join(str(number) for number, name in enumerate(texts) if name == twice)
        raise ValueError(
            f"the classes {places} are all called {twice!r}; name them apart, or merge them by class_map"
        )
    return texts


def _resolve(file: Path, bases: list[Path], key: str, entry: Any) -> Path:
    """Returns the folder or list that an entry means."""
    for text in (str(entry), str(entry).removeprefix("../")):
        for folder in bases:
            if (folder / text).exists():
                return Path(os.path.normpath(folder / text))
    raise FileNotFoundError(
        f"{file}: {key}={entry} is not there; it must be a folder or .txt below {' or '.join(map(str, bases))}."
    )


def _pictures(place: Path, bases: list[Path], left_out: LeftOut) -> dict[Path, PurePath]:
    """Returns the pictures of a folder or list, each with its path below `images` or the listed folder."""
    if place.is_dir():
        found = {path: path.relative_to(place) for path in list_images(place, left_out, deep=True)}
        return {path: below_images(below) for path, below in found.items()}
    if place.suffix != ".txt":
        raise ValueError(f"{place} must be a folder of pictures, or a .txt that lists them.")
    listed: dict[Path, PurePath] = {}
    for number, line in enumerate(read_text(place).splitlines(), 1):
        if not (line := line.strip()) or not is_image(Path(line), left_out):
            continue
        tried = [Path(os.path.normpath(folder / line)) for folder in (place.parent, *bases)]
        path = next((path for path in tried if path.is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{place}, line {number}: the picture {line} is missing.")
        if path in listed:
            left_out.add("repeated lines of lists of pictures", f"{place}, line {number}")
        below = below_images(path)
        listed[path] = PurePath(path.name) if below == path else below
    return listed
