"""Cards of files that were not made by export, and of the one that is kept in the end."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lkd.edge.compress.reference import Measures
from lkd.edge.export.card import write_card
from lkd.edge.exported import Exported

_OF_BYTES = ("version", "file", "sha256", "size")


def card_of(path: Path, start: Path, measures: Measures, part: str) -> None:
    """Writes the card of a file that was made of another file.

    Args:
        path: It.
        start: The other file, whose card says where both are from. Its comparison with the network is not this file's.
        measures: Of the stage.
        part: The name of the file's part.
    """
    card = Exported(start).card
    content = {name: value for name, value in card.items() if name not in (*_OF_BYTES, "parity")}
    content["metrics"] = {**content["metrics"], "file": measures.metrics[part]}
    content["latency"] = measures.latency[part]
    write_card(path, content, card["size"]["parameters"])


def finish(files: Sequence[Path], folder: Path, compression: Mapping[str, Any]) -> list[Path]:
    """Copies the files of the last stage that is kept, and adds to their cards how they came about.

    Args:
        files: Of the stage.
        folder: Where to.
        compression: What the cards say of it.

    Returns:
        The copies.
    """
    ends = []
    for path in files:
        card, end = Exported(path).card, folder / path.name
        shutil.copyfile(path, end)
        content = {name: value for name, value in card.items() if name not in _OF_BYTES}
        write_card(end, {**content, "compression": compression}, card["size"]["parameters"])
        ends.append(end)
    return ends
