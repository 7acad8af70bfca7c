"""Which slot was busy when, from CNRPark-EXT's lists of labeled patches, read without torch."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from lkd.text_files import read_rows, read_text

_PATCH = re.compile(
    r"(SUNNY|OVERCAST|RAINY)/[\d-]+/camera\d+/[SOR]_(\d{4}-\d\d-\d\d)_(\d\d)\.?(\d\d)_C(\d+)_(\d+)\.\w+"
)


class Patch(NamedTuple):
    """One slot at one time in one camera."""

    path: str  # below PATCHES/
    camera: str
    time: str
    weather: str
    slot: int
    label: int  # 0 free, 1 busy


class Count(Protocol):
    """Counter of what a reader skips, as `lkd.datamodules.io.left_out.LeftOut`."""

    def add(self, what: str, example: object) -> None:
        """Counts one more of `what`, such as `example`."""
        ...


def read_patches(path: Path, left_out: Count | None = None) -> list[Patch]:
    """Reads a list of labeled patches: lines `<patch> <0 or 1>`, or the official CSV, also gzipped.

    1 is busy. Lists with inverted labels have been seen in public, and nothing in a list tells, so take the
    official ones. Rows of CNRPark A and B (other slots, other cameras) and repeated lines are skipped and
    counted.

    Raises:
        ValueError: for a line of another form, or two of one patch that differ; the message names file and
            line.
    """
    count = left_out.add if left_out is not None else lambda what, example: None
    patches: dict[str, Patch] = {}
    for place, name, state in _labeled(path):
        if (match := _PATCH.search(name)) and state in ("0", "1"):
            weather, day, hour, minute, camera, slot = match.groups()
            time = f"{day}T{hour}:{minute}"
            patch = Patch(match[0], f"C{int(camera)}", time, weather.lower(), int(slot), int(state))
            if patches.setdefault(patch.path, patch) is not patch:
                if patches[patch.path].label != patch.label:
                    raise ValueError(f"{place}: {patch.path} is both free and busy.")
                count("repeated lines", place)
        elif re.search(r"(^|/)[AB]/(free|busy)/", name):
            count("patches of CNRPark A and B, which are other slots", place)
        else:
            raise ValueError(
                f"{place}: '{name} {state}' is not `<WEATHER>/<DATE>/camera<N>/<patch>.jpg <0 or 1>`."
            )
    return list(patches.values())


def _labeled(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields for every patch of a list the file and line, its name, and its label as it is written."""
    text = read_text(path)
    if text.startswith("camera,"):
        for place, row in read_rows(path, ("image_url", "occupancy")):
            yield place, row["image_url"], row["occupancy"].strip()
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            name, *state = line.strip().rsplit(maxsplit=1)
            yield f"{path}, line {number}", name, " ".join(state)
