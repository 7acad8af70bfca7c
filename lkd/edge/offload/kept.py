"""A folder of answers for one configuration: another configuration is refused, and never mixed in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkd.edge.described import difference, write_json

NOTE, ANSWERS = "offload.json", "answers"


def claim(folder: Path, what: Mapping[str, Any], anew: bool = False) -> Path:
    """Claims the folder in which answers of this configuration are kept.

    Args:
        folder: Folder of the run.
        what: All that answers depend on, as plain data.
        anew: Whether to delete answers of another configuration, and answers of this one.

    Returns:
        The folder of the answers.

    Raises:
        ValueError: If the folder holds answers of another configuration.
    """
    note, answers = folder / NOTE, folder / ANSWERS
    here = json.loads(json.dumps(what))
    there = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    if anew:
        for path in answers.glob("*.safetensors"):
            path.unlink()
    elif there is None and any(answers.glob("*.safetensors")):
        raise ValueError(
            f"folder={str(folder)!r} holds answers without {NOTE}, which says whose they are: give another folder, or anew=true, which "
            "deletes them."
        )
    elif there is not None and there != here:
        raise ValueError(
            f"folder={str(folder)!r} holds answers of another configuration ({difference(there, here)}): give another folder, or "
            "anew=true, which deletes them."
        )
    answers.mkdir(parents=True, exist_ok=True)
    write_json(note, here)
    return answers
