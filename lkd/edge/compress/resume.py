"""Finished stages are not run again: each has its own folder, and a note in it that is written last."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lkd.edge.compress.reference import Measures
from lkd.edge.compress.step import Stage
from lkd.edge.described import difference, write_json
from lkd.edge.exported import sha256

NOTE, BOOK, BEGUN = "stage.json", "compress.json", "begun.json"


class Book:
    """What a folder holds of a compression.

    Args:
        folder: Where the stages are.
        what: All that they depend on: plain data.
        anew: Whether stages of another configuration are deleted, and these too.
        given: The checkpoint that all begins with, which is not deleted.

    Raises:
        ValueError: If the folder is of another configuration, or holds the checkpoint in a stage that would be deleted.
    """

    def __init__(
        self, folder: Path, what: Mapping[str, Any], anew: bool = False, given: Path | None = None
    ) -> None:
        self.folder, path = folder, folder / BOOK
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        here = json.loads(json.dumps(what))
        if known is not None and anew:
            stages = [s for s in folder.iterdir() if any((s / note).is_file() for note in (NOTE, BEGUN))]
            if given is not None and any(given.resolve().is_relative_to(s.resolve()) for s in stages):
                raise ValueError(
                    f"ckpt_path={str(given)!r} lies in a stage of folder={str(folder)!r}, which anew=true would delete: give "
                    "another folder."
                )
            for stage in stages:
                shutil.rmtree(stage)
        elif known is not None and known != here:
            raise ValueError(
                f"folder={str(folder)!r} holds stages of another configuration ({difference(known, here)}): give another folder, or "
                "anew=true, which deletes them."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, here)

    def place(self, name: str) -> Path:
        """The folder of a stage, which is made.

        Args:
            name: Such as `"1 prune"`.
        """
        place = self.folder / name.replace(" ", "_")
        place.mkdir(exist_ok=True)
        return place

    def finished(self, name: str, start: str) -> tuple[Stage, Measures] | None:
        """A stage that an earlier run finished; what it finished from another start is deleted.

        Args:
            name: Of the stage.
            start: `mark` of the stage that it starts from.
        """
        place = self.place(name)
        if not (place / NOTE).is_file():
            return None
        note = json.loads((place / NOTE).read_text(encoding="utf-8"))
        paths = {self.folder / path: digest for path, digest in note["digests"].items()}
        if note["start"] != start or any(not p.is_file() or sha256(p) != d for p, d in paths.items()):
            shutil.rmtree(place)
            return None
        checkpoint = None if note["checkpoint"] is None else self.folder / note["checkpoint"]
        stage = Stage(name, place, checkpoint, [self.folder / path for path in note["files"]])
        return stage, Measures(**note["measures"])

    def finish(self, stage: Stage, start: str, measures: Measures) -> None:
        """Notes that a stage is finished. A checkpoint outside of the folder is the one that all began with, and is not noted.

        Args:
            stage: It.
            start: As of `finished`.
            measures: Of its files.
        """
        given = stage.checkpoint
        own = [given] if given is not None and given.is_relative_to(self.folder) else []
        note = {
            "start": start,
            "checkpoint": self._inside(own[0]) if own else None,
            "files": [self._inside(path) for path in stage.files],
            "digests": {self._inside(path): sha256(path) for path in [*stage.files, *own]},
            "measures": asdict(measures),
        }
        write_json(stage.folder / NOTE, note)

    def _inside(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


def mark(stage: Stage) -> str:
    """Tells a stage from others, and from one of the same name that was made otherwise."""
    return " ".join([stage.name, *(sha256(path) for path in stage.files)])
