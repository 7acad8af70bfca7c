"""The card beside a file: what it is, how good, large and fast this file is, and where it comes from."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkd.edge.exported import VERSION, files, sha256


def write_card(path: Path, content: Mapping[str, Any], parameters: int) -> None:
    """Writes `<file>.json` beside a file.

    Args:
        path: The file.
        content: All entries except those of the file's bytes. Numbers that are not finite become null.
        parameters: Number of parameters of the network.
    """
    card = {
        "version": VERSION,
        "file": path.name,
        "sha256": sha256(path),
        "size": {"bytes": sum(part.stat().st_size for part in files(path)), "parameters": parameters},
        **content,
    }
    text = json.dumps(_plain(card), indent=2, allow_nan=False, ensure_ascii=False)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
