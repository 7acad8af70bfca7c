"""What the axes of all pictures share: scale, limits and legend."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

Curve = Sequence[tuple[float, float]]
FAR = 10.0  # where the dearest method costs this many times the cheapest, the axis of costs is logarithmic


def scale(ax: Any, unit: str, curves: Sequence[Curve]) -> None:
    """Sets the axis of costs: from zero on, or logarithmic where the methods' costs lie far apart.

    A logarithmic axis begins at a tenth of the cheapest method's cost. Only first measurements lie to the
    left of that, and they would take most of the room.

    Args:
        ax: Axes that hold the curves.
        unit: Unit of the costs, such as `"B"`; empty for plain numbers.
        curves: Points (cost, metric) of each method.
    """
    from matplotlib.ticker import EngFormatter, LogFormatterSciNotation, LogLocator, NullFormatter

    ends = [curve[-1][0] for curve in curves]
    if ends and min(ends) > 0 and max(ends) > FAR * min(ends):
        ax.set_xscale("log")
        first = min(x for curve in curves for x, _ in curve if x > 0)
        ax.set_xlim(left=max(0.9 * first, min(ends) / 10))
        low, high = ax.get_xlim()
        narrow = high < 50 * low  # so that there are ticks with numbers at all
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(
            EngFormatter(unit=unit) if unit else LogFormatterSciNotation(minor_thresholds=(9, 9))
        )
    elif ends:
        ax.set_xlim(left=0)
        if unit:
            ax.xaxis.set_major_formatter(EngFormatter(unit=unit))


def focus(ax: Any, curves: Sequence[Curve], lines: Sequence[float]) -> None:
    """Leaves the first measurements out of view where all later ones need less than half of the axis.

    Args:
        ax: Axes that hold the curves.
        curves: Points of each method.
        lines: Values that stay in view, such as baselines and a target.
    """
    every = [y for curve in curves for _, y in curve] + list(lines)
    later = [y for curve in curves for _, y in (curve[1:] or curve)] + list(lines)
    if every and max(later) - min(later) < (max(every) - min(every)) / 2:
        margin = 0.08 * (max(later) - min(later)) or 0.01
        ax.set_ylim(min(later) - margin, max(later) + margin)


def wrapped(text: str, width: int = 26) -> str:
    """Wraps a long name into several lines."""
    return "\n".join(textwrap.wrap(text, width)) or text


def same_limits(axes: Sequence[Any], which: str) -> None:
    """Gives all panels the same limits, so that they can be compared.

    Args:
        axes: The panels.
        which: `"x"` or `"y"`.
    """
    limits = [getattr(ax, f"get_{which}lim")() for ax in axes]
    for ax in axes:
        getattr(ax, f"set_{which}lim")(min(low for low, _ in limits), max(high for _, high in limits))


def legend(figure: Any, axes: Sequence[Any]) -> None:
    """Draws one legend for all panels, below them."""
    entries: dict[str, Any] = {}
    for ax in axes:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if entries:
        figure.legend(
            list(entries.values()), [wrapped(name) for name in entries], loc="outside lower center", ncols=2
        )


def places(names: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Places settings on their axis: by number where their names differ in a number only, else in a row.

    Returns:
        The words that all names share, and the place of each name.

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
