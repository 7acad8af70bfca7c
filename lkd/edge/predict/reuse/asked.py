"""The settings of `--reuse`."""

import difflib
import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from lkd.checks import expect


@dataclass(frozen=True)
class Reuse:
    """When an earlier answer is reused.

    Args:
        distance: Largest change of a cell of the grid, in levels of 255 of a color; see
            `lkd.edge.reuse.ResultCache`.
        ttl_s: Seconds for which an answer may be reused.
        cells: Number of cells of the grid along the longer side.
        where: Where cells are watched: in the whole "frame", or in the "slots" alone, so that cars passing
            elsewhere cost nothing; boxes outside of slots are then as old as the answer.
        step_s: Seconds between two pictures with consecutive numbers (`cam1_7.jpg`, `cam1_8.jpg`), as such
            names have no time. Default: names must have date and time.
        agree: Lowest agreement of a camera's audited answers with fresh ones, below which reuse stops for it.
        seed: Seed of the draw of audits.

    Raises:
        ValueError: For a value out of range.
    """

    distance: float = 16.0
    ttl_s: float = 60.0
    cells: int = 64
    where: Literal["frame", "slots"] = "frame"
    step_s: float | None = None
    agree: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        expect(where=self.where, among=("frame", "slots"))
        expect(
            step_s=self.step_s, gt=0, lt=math.inf, none="names that say date and time", why="it is in seconds"
        )
        expect(agree=self.agree, ge=0, le=1)
        expect(seed=self.seed, ge=0)


def read(text: str) -> Reuse:
    """Reads `{distance: 16, ttl_s: 60}`, with or without braces and quotes.

    Other settings have their defaults.

    Raises:
        ValueError: For an unknown name, or a value of another kind.

    Example:
        >>> read("{distance: 8, where: slots}")
        Reuse(distance=8.0, ttl_s=60.0, cells=64, where='slots', step_s=None, agree=0.9, seed=0)
    """
    kinds: dict[str, Any] = {"cells": int, "seed": int, "where": str}
    known = [field.name for field in fields(Reuse)]
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.strip().strip("{}").split(","))):
        name, colon, value = (word.strip(" \"'") for word in part.partition(":"))
        if not colon or name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"{part!r} is none of {', '.join(known)}, given as {{distance: 16, ttl_s: 60}}"
                + (f"; did you mean {near[0]}?" if near else ".")
            )
        if name in given:
            raise ValueError(f"{name} is given twice: {given[name]} and {value}.")
        try:
            given[name] = kinds.get(name, float)(value)
        except ValueError as error:
            raise ValueError(f"{name}={value} is no {'whole ' * (name in kinds)}number.") from error
    return Reuse(**given)
