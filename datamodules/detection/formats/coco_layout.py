"""Where a data set in COCO's format has its JSON files, and which camera and time its pictures come from."""

import filecmp
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.datamodules.detection.formats.coco_file import CocoFile, Listed
from lkd.datamodules.detection.frames import CameraFrame
from lkd.datamodules.io.files import list_images, part_of
from lkd.datamodules.io.left_out import LeftOut
from lkd.datamodules.io.path_pattern import PathPattern


class Located(NamedTuple):
    """Picture with its part ("" where there are none), the file that lists it, and its entry there."""

    part: str
    file: CocoFile
    picture: Listed


def json_files(root: Path, patterns: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Returns the JSON files of every part, each with the part's name; skips hidden ones, such as `._a.json`.

    Args:
        root: folder of the data set.
        patterns: pattern of the files below the root, for each part.

    Raises:
        FileNotFoundError: if a part has no file.
        ValueError: if two parts have the same file, or a pattern leads out of the folder.
    """
    found: dict[Path, str] = {}
    for part, pattern in patterns.items():
        if Path(pattern).is_absolute():
            raise ValueError(f"annotations={pattern!r} must be a path or pattern below root={str(root)!r}.")
        paths = [
            path
            for path in sorted(root.glob(pattern))
            if path.is_file() and not any(one.startswith(".") for one in path.relative_to(root).parts)
        ]
        if not paths:
            raise FileNotFoundError(
                f"{root} holds no file {pattern}; say by annotations where the JSON files are."
            )
        for path in paths:
            if path in found:
                raise ValueError(f"{path} is in two parts, {found[path]!r} and {part!r}, of annotations.")
            found[path] = part
    return [(part, path) for path, part in found.items()]


def found_files(root: Path) -> list[tuple[str, Path]]:
    """Returns all JSON files below a folder, each with its part.

    The name of a folder or of the file says the part, as in Roboflow's exports. If none is called `train`,
    there are no parts.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if some files are in parts and some are not.
    """
    files = [(_part(path.relative_to(root)), path) for _, path in json_files(root, {"": "**/*.json"})]
    parts = [part for part, _ in files]
    if "train" not in parts:
        return [("", path) for _, path in files]
    if "" in parts:
        raise ValueError(
            f"{files[parts.index('')][1]} is in no part, while {files[parts.index('train')][1]} is in train: say by annotations "
            "which files are of which part, or, by one pattern such as '**/*.json', that all are split by time."
        )
    return files


def _part(path: Path) -> str:
    return next(filter(None, map(part_of, (*path.parts[:-1], path.stem))), "")


def locate(
    files: Sequence[tuple[str, CocoFile]], root: Path, images: str | None, left_out: LeftOut
) -> dict[Path, Located]:
    """Returns every listed picture that exists.

    Args:
        files: the files with their parts.
        root: folder of the data set.
        images: folder below the root that names count from, with places `{part}` and `{file}`; `None` for the
            file's own.
        left_out: counter of listed pictures that do not exist, and of pictures beside them that are not
            listed.

    Raises:
        FileNotFoundError: if none exists.
        ValueError: if a picture is listed twice.
    """
    found: dict[Path, Located] = {}
    missing: list[tuple[Path, str]] = []
    for part, file in files:
        folder = file.path.parent if images is None else root / images.format(part=part, file=file.path.stem)
        for picture in file.pictures:
            path = Path(os.path.normpath(folder / picture.name))
            if not path.is_file():
                missing.append((path, picture.place))
            elif path in found:
                raise ValueError(
                    f"{path} is listed twice: by {found[path].picture.place}, and by {picture.place}."
                )
            else:
                found[path] = Located(part, file, picture)
    if not found:
        where = f"{missing[0][1]} is not at {missing[0][0]}" if missing else "`images` is empty"
        raise FileNotFoundError(
            f"none of {len(missing)} listed pictures is there: {where}; say by images where."
        )
    for path, _ in missing:
        left_out.add("listed pictures that are not there", path)
    for folder in sorted({path.parent for path in found}):
        for path in list_images(folder):
            if path not in found:
                left_out.add("pictures that no file lists", path)
    return found


def frame_of(
    path: Path, root: Path, picture: Listed, name: PathPattern, camera: str, time: str
) -> CameraFrame:
    """Makes the frame of a picture; camera and time come from its path and the fields of its entry.

    Raises:
        ValueError: if the path does not match the pattern, or a field is missing; the message names file and
            entry.
    """
    parts = Path(os.path.relpath(path, root)).parts
    tail = "/".join(parts[-1 - name.text.count("/") :])
    places = name.match(tail)
    if places is None:
        raise ValueError(
            f"{picture.place}: {tail!r} is not of the pattern name={name.text!r}; say by it how the pictures are "
            "called, such as name='{frame}.{type}' with camera='yard' where there is one camera."
        )
    known = {**picture.entry, **dict(places)}
    try:
        return CameraFrame(path, camera.format(**known), time.format(**known))
    except KeyError as error:
        raise ValueError(
            f"{picture.place}: camera={camera!r} and time={time!r} have the place {error}, which is neither in name={name.text!r} "
            f"nor a field of this image; there are {', '.join(sorted(known))}."
        ) from error
    except (IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{picture.place}: camera={camera!r} and time={time!r} must be made of {sorted(known)} ({error!r})."
        ) from error


def drop_copies(frames: Iterable[CameraFrame], left_out: LeftOut) -> list[CameraFrame]:
    """Leaves out (and counts) exact copies of an earlier picture of the same camera and time.

    Exports hold some pictures twice. They would count twice, and might be in both training and test. Other
    pictures of one camera and time are kept, with one warning.
    """
    kept: dict[tuple[str, str], list[CameraFrame]] = {}
    shared: list[tuple[Path, Path]] = []
    for frame in frames:
        before = kept.setdefault((frame.camera, frame.time), [])
        if any(filecmp.cmp(frame.path, other.path, shallow=False) for other in before):
            left_out.add("pictures that are copies of others", frame.path)
            continue
        shared += [(before[0].path, frame.path)] if before else []
        before.append(frame)
    if shared:
        rank_zero_warn(
            f"{len(shared)} pictures have the camera and time of another, such as {shared[0][0]} and {shared[0][1]}: if they "
            "are of different moments, let name and time tell them apart."
        )
    return [frame for same in kept.values() for frame in same]
