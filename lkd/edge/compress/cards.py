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


def finish(files: Sequence[Path], folder: Path, said: Mapping[str, Any]) -> list[Path]:
    """Copies the files of the last stage that is kept, and says in their cards how they came about and whose terms they are under.

    Args:
        files: Of the stage.
        folder: Where to.
        said: What the cards say of this run, in place of what they said of an earlier one.

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
