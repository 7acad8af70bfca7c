"""What `lkd doctor` finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or doubtful.

    Attributes:
        sentence: What it is, and what mends it.
        stops: Whether lkd does not run with it, or must not; else it is a warning.
    """

    sentence: str
    stops: bool = False
