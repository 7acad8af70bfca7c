"""Records of finished stages, which are not run again: each has a folder with a note, written last."""

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
    """The record of a compression in its folder.

    Args:
        folder: Folder of the stages.
        what: All that they depend on, as plain data.
        anew: Whether to delete stages of another configuration, and stages of this one.
        given: The first checkpoint, which is never deleted.

    Raises:
        ValueError: If the folder belongs to another configuration, or holds the first checkpoint in a stage
            to delete.
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
        """Makes the folder of a stage and returns it.

        Args:
            name: Name of the stage, such as `"1 prune"`.
        """
        place = self.folder / name.replace(" ", "_")
        place.mkdir(exist_ok=True)
        return place

    def finished(self, name: str, start: str) -> tuple[Stage, Measures] | None:
        """Returns a stage that an earlier run finished; deletes one that was made from another start.

        Args:
            name: Name of the stage.
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
        files = [self.folder / path for path in note["files"]]
        stage = Stage(name, place, checkpoint, files, note.get("note", ""))
        return stage, Measures(**note["measures"])

    def finish(self, stage: Stage, start: str, measures: Measures) -> None:
        """Records that a stage is finished.

        A checkpoint outside of the folder is the first one, and is not recorded.

        Args:
            stage: The stage.
            start: As in `finished`.
            measures: Measurements of its files.
        """
        given = stage.checkpoint
        own = [given] if given is not None and given.is_relative_to(self.folder) else []
        note = {
            "start": start,
            "checkpoint": self._inside(own[0]) if own else None,
            "files": [self._inside(path) for path in stage.files],
            "digests": {self._inside(path): sha256(path) for path in [*stage.files, *own]},
            "measures": asdict(measures),
            "note": stage.note,
        }
        write_json(stage.folder / NOTE, note)

    def _inside(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


def mark(stage: Stage) -> str:
    """Returns a text that tells a stage from others, also from one of the same name made differently."""
    return " ".join([stage.name, *(sha256(path) for path in stage.files)])
