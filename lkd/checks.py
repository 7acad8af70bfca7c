"""Ranges of arguments: one check, whose message names the argument, its value and what would be right."""

import math
from collections.abc import Collection, Sequence
from typing import Any


def expect(
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    among: Collection[Any] | None = None,
    none: str | None = None,
    why: str | None = None,
    **arguments: Any,
) -> None:
    """Raises ValueError for the first argument that is out of the range; NaN is out of every range.

    For one that cannot be compared, such as a list in place of a number, it raises TypeError.

    Args:
        ge: Each value must be this or more.
        gt: Each value must be above this.
        le: Each value must be this or less.
        lt: Each value must be below this; `math.inf` asks for finite ones.
        among: Each value must be one of these.
        none: Meaning of None, which is then allowed.
        why: End of the message: what the value is, or what it would do.
        **arguments: Values by their names.

    Example:
        >>> expect(temperature=4.0, tau=1.0, gt=0)
        >>> expect(momentum=1.0, ge=0, lt=1)
        Traceback (most recent call last):
        ...
        ValueError: momentum=1.0 must be in [0, 1).
        >>> expect(shape="round", among=("linear", "cosine", "constant"))
        Traceback (most recent call last):
        ...
        ValueError: shape='round' must be 'linear', 'cosine' or 'constant'.
        >>> expect(limit=0, ge=1, none="no limit")
        Traceback (most recent call last):
        ...
        ValueError: limit=0 must be 1 or more, or None for no limit.
    """
    for name, value in arguments.items():
        number = ""
        error: type[Exception] = ValueError
        try:
            allowed = (value is None and none is not None) or (
                (ge is None or value >= ge)
                and (gt is None or value > gt)
                and (le is None or value <= le)
                and (lt is None or value < lt)
                and (among is None or value in among)
            )
        except TypeError:
            allowed, number, error = False, "" if among is not None else "a number, ", TypeError
        if not allowed:
            right = _either([repr(one) for one in among]) if among is not None else _range(ge, gt, le, lt)
            shown = repr(value) if isinstance(value, str) else value
            end = (f", or None for {none}" if none else "") + (f": {why}" if why else "")
            raise error(f"{name}={shown} must be {number}{right}{end}.")


def _range(ge: float | None, gt: float | None, le: float | None, lt: float | None) -> str:
    low = f"{ge} or more" if ge is not None else f"above {gt}"
    if lt == math.inf:
        return f"{low} and finite"
    if le is None and lt is None:
        return low
    return f"in {f'({gt}' if ge is None else f'[{ge}'}, {f'{lt})' if le is None else f'{le}]'}"


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
