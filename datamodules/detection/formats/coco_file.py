"""Files of labels in COCO's format: what pictures, objects and classes a JSON file lists, checked."""

import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lkd.datamodules.io.left_out import LeftOut

Entry = dict[str, Any]  # one entry of a list in the file


@dataclass
class Listed:
    """One entry of `images`, with the annotations that belong to it."""

    file: Path  # the JSON file
    name: str  # its `file_name`, with slashes
    entry: Entry
    objects: list[Entry] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Where the entry is, for messages."""
        return f"{self.file}, image {self.entry.get('id')!r} ({self.name})"


@dataclass
class CocoFile:
    """Pictures, categories and annotations that a file lists."""

    path: Path
    pictures: list[Listed]
    categories: dict[Hashable, Entry]  # by id, in order of the ids
    annotations: int | None  # their number, for all pictures; `None` if the file has no list of them

    def unused(self) -> set[str]:
        """Returns the names of the categories without any object."""
        used = {key_of(one.get("category_id")) for picture in self.pictures for one in picture.objects}
        return {entry["name"] for key, entry in self.categories.items() if key not in used}


def key_of(number: Any) -> Hashable:
    """Returns an id as a key: 7, 7.0 and "7" are the same, since tools write all three.

    Example:
        >>> key_of("7") == key_of(7.0) == key_of(7)
        True
    """
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return int(number) if isinstance(number, str) and number.isdecimal() else number


def read_coco(path: Path, left_out: LeftOut) -> CocoFile:
    """Reads a JSON file in COCO's format: `images`, `annotations` and `categories`.

    All else in it is ignored.

    Objects are only assigned to their pictures and checked later. UTF-8, -16 and -32 are read, with a
    byte-order mark or without.

    Args:
        path: the file.
        left_out: counter of annotations of pictures that the file does not list.

    Raises:
        ValueError: if it is damaged or of another format, if an id or a category's name comes twice, or if
            none of the annotations belongs to a listed picture; the message names file and entry.
    """
    content = _load(path)
    pictures: dict[Hashable, Listed] = {}
    for one in _entries(content, "images", path):
        name, key = one.get("file_name"), key_of(one.get("id"))
        if not isinstance(name, str) or not name or "id" not in one:
            raise ValueError(f"{path}: the image {_short(one)} has no `id` and `file_name`.")
        if key in pictures:
            raise ValueError(
                f"{path}: the images {pictures[key].name!r} and {name!r} have the same id {key!r}."
            )
        pictures[key] = Listed(path, name.replace("\\", "/"), one)
    categories = _categories(content.get("categories") or [], path)
    given = content.get("annotations") is not None
    annotations = _entries(content, "annotations", path) if given else []
    for one in annotations:
        if owner := pictures.get(key_of(one.get("image_id"))):
            owner.objects.append(one)
        else:
            left_out.add("annotations of pictures that their file does not list", f"{path}, {_short(one)}")
    if annotations and not any(picture.objects for picture in pictures.values()):
        raise ValueError(
            f"{path}: none of the {len(annotations)} annotations is of a listed picture; the first has image_id "
            f"{annotations[0].get('image_id')!r}, and the ids of `images` are like {next(iter(pictures), None)!r}."
        )
    return CocoFile(path, list(pictures.values()), categories, len(annotations) if given else None)


def class_names(files: Sequence[CocoFile]) -> list[str]:
    """Returns the names of several files' classes, in order of their ids in the first file that has them.

    Names that only group other classes are left out: the supercategory of another category, if no file has an
    object of it, such as category 0 in Roboflow's exports.

    Example:
        >>> objects = [Listed(Path("a.json"), "1.jpg", {}, [{"category_id": 1}])]
        >>> kinds = {0: {"name": "cars", "supercategory": "none"}, 1: {"name": "car", "supercategory": "cars"}}
        >>> class_names([CocoFile(Path("a.json"), objects, kinds, 1)])
        ['car']
    """
    kinds = [entry for file in files for entry in file.categories.values()]
    above = {entry.get("supercategory") for entry in kinds if entry.get("supercategory") != entry["name"]}
    unused = set.intersection(*(file.unused() | _foreign(file, kinds) for file in files)) if files else set()
    return [name for name in dict.fromkeys(entry["name"] for entry in kinds) if name not in above & unused]


def _foreign(file: CocoFile, kinds: Iterable[Entry]) -> set[str]:
    """Returns names of categories that a file lists but does not use as classes."""
    return {entry["name"] for entry in kinds} - {entry["name"] for entry in file.categories.values()}


def _load(path: Path) -> Entry:
    try:
        content = json.loads(path.read_bytes())  # finds UTF-8, -16 and -32 by itself
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason}); save it so.") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: is no JSON ({error.msg}).") from error
    if isinstance(content, list):
        raise ValueError(f"{path} is a list, as COCO's files of results are, and has no `images`.")
    if not isinstance(content, dict) or "images" not in content:
        raise ValueError(f"{path} is not in COCO's format: it has no `images`.")
    return content


def _entries(content: Entry, name: str, path: Path) -> list[Entry]:
    entries = content[name]
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ValueError(f"{path}: `{name}` must be a list of objects.")
    return entries


def _categories(entries: Any, path: Path) -> dict[Hashable, Entry]:
    """Returns categories by id, in order of the ids; numbers come first."""
    found: dict[Hashable, Entry] = {}
    for one in _entries({"categories": entries}, "categories", path):
        key = key_of(one.get("id"))
        if "id" not in one or not isinstance(one.get("name"), str):
            raise ValueError(f"{path}: the category {_short(one)} has no `id` and `name`.")
        if key in found or any(one["name"] == other["name"] for other in found.values()):
            raise ValueError(f"{path}: two categories have the id {key!r} or the name {one['name']!r}.")
        found[key] = one
    return dict(sorted(found.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _short(entry: Entry) -> str:
    """Returns an entry as a short text."""
    text = json.dumps(entry)
    return text if len(text) <= 80 else f"{text[:77]}..."
