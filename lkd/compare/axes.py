"""What the axes of all pictures have in common."""

import re
from collections.abc import Sequence
from typing import Any


def scale(ax: Any, log: bool, unit: str) -> None:
    """A logarithmic axis if asked, with numbers at some ticks whatever it spans."""
    from matplotlib.ticker import EngFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

    if log and ax.has_data():
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        narrow = high < 50 * low  # so that there are ticks with numbers at all
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(
            EngFormatter(unit=unit) if unit else LogFormatterSciNotation(minor_thresholds=(9, 9))
        )


def same_limits(axes: Sequence[Any], which: str) -> None:
    """Panels are to be compared."""
    limits = [getattr(ax, f"get_{which}lim")() for ax in axes]
    for ax in axes:
        getattr(ax, f"set_{which}lim")(min(low for low, _ in limits), max(high for _, high in limits))


def legend(figure: Any, axes: Sequence[Any]) -> None:
    """One for all panels, below."""
    entries: dict[str, Any] = {}
    for ax in axes:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if entries:
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=4, fontsize=8)


def places(names: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Where settings stand on their axis: at their number, where all are the same words and a number; else in a row.

    Returns:
        The words, and the place of each.

    Example:
        >>> places(["missing 0.2", "missing .5"])
        ('missing', {'missing 0.2': 0.2, 'missing .5': 0.5})
        >>> places(["by day", "by camera"])
        ('', {'by day': 0.0, 'by camera': 1.0})
    """
    found = [re.fullmatch(r"(.*?)\s*(-?\d*\.?\d+)", name) for name in names]
    words = {match[1] for match in found if match}
    if all(found) and len(words) == 1:
        numbers = {name: float(match[2]) for name, match in zip(names, found, strict=True) if match}
        return words.pop(), numbers
    return "", {name: float(place) for place, name in enumerate(names)}
