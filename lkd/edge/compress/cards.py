"""Cards of files that were not made by export, and of the file that is kept in the end."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lkd.edge.compress.reference import Measures
from lkd.edge.export.card import write_card
from lkd.edge.exported import Exported

_OF_BYTES = ("version", "file", "sha256", "size")


def card_of(path: Path, start: Path, measures: Measures, part: str) -> None:
    """Writes the card of a file that was made from another file.

    Args:
        path: The file.
        start: The other file, whose card says where both come from. Its comparison with the network is left
            out.
        measures: Measurements of the stage.
        part: Name of the file's part.
    """
    card = Exported(start).card
    content = {name: value for name, value in card.items() if name not in (*_OF_BYTES, "parity")}
    content["metrics"] = {**content["metrics"], "file": measures.metrics[part]}
    content["latency"] = measures.latency[part]
    write_card(path, content, card["size"]["parameters"])


def finish(files: Sequence[Path], folder: Path, said: Mapping[str, Any]) -> list[Path]:
    """Copies the files of the last kept stage; their cards say how they were made and under which terms.

    Args:
        files: Files of the stage.
        folder: Folder to copy into.
        said: Entries of the cards about this run, in place of those of an earlier one.

    Returns:
        The copies.
    """
    ends = []
    for path in files:
        card, end = Exported(path).card, folder / path.name
        shutil.copyfile(path, end)
        content = {name: value for name, value in card.items() if name not in _OF_BYTES}
        write_card(end, {**content, **said}, card["size"]["parameters"])
        ends.append(end)
    return ends
