"""Natural order of names and times, in which numbers count as numbers; without torch."""

import re
from decimal import Decimal
from pathlib import PurePath

DECIMAL = r"(?<!\d)(?<!\d\.)\d+\.\d+(?!\.?\d)"
"""Pattern of a decimal number in a name; not of 12.30.05, whose parts are whole numbers."""


def natural_key(text: str) -> tuple[list[str | Decimal], str]:
    """Returns a sort key under which numbers inside a text count as numbers.

    One point between digits makes a decimal number, as in seconds: 1.25 is before 1.5. With more points, as in
    12.30.05, each part is a whole number. Texts whose numbers are equal, such as 1 and 01, are in text order.

    Example:
        >>> sorted(["cam10", "cam9"], key=natural_key)
        ['cam9', 'cam10']
        >>> sorted(["1.5", "1.75", "1.25", "12.9.1", "12.10.1"], key=natural_key)
        ['1.25', '1.5', '1.75', '12.9.1', '12.10.1']
    """
    parts = re.split(rf"({DECIMAL}|\d+)", text)
    # by place: of other characters that Python calls digits, such as ², no number can be made
    return [Decimal(part) if place % 2 else part for place, part in enumerate(parts)], text


def path_key(path: PurePath) -> list[tuple[list[str | Decimal], str]]:
    """Returns a sort key under which paths are in natural order, folder by folder.

    Example:
        >>> [path.as_posix() for path in sorted(map(PurePath, ["a/10.jpg", "a/9.jpg"]), key=path_key)]
        ['a/9.jpg', 'a/10.jpg']
    """
    return [natural_key(part) for part in path.parts]


def padded(text: str, width: int = 12) -> str:
    """Returns a text whose whole numbers have leading zeros.

    Plain text order is then the natural one, among names that are alike but for their numbers.

    Example:
        >>> padded("cam_7.25", width=3)
        'cam_007.25'
    """
    return re.sub(rf"({DECIMAL})|\d+", lambda found: _wide(found[0], width, bool(found[1])), text)


def _wide(number: str, width: int, decimal: bool) -> str:
    whole, point, rest = number.partition(".") if decimal else (number, "", "")
    return whole.zfill(width) + point + rest
