"""The names of classes in published weights."""

from typing import Any


def written_names(network: Any) -> list[str] | None:
    """Returns the names that a file of Ultralytics gives its classes.

    Args:
        network: Network from such a file: `names` is a list, or a dict with numbers as keys.

    Returns:
        One name for each class, or None if they are numbers (as when nobody named them), repeated or missing.

    Example:
        >>> from types import SimpleNamespace
        >>> written_names(SimpleNamespace(names={0: "person", 1: "bicycle"})), written_names(SimpleNamespace(names={0: "0"}))
        (['person', 'bicycle'], None)
    """
    names = getattr(network, "names", None) or []
    named = [str(name) for name in ([names[k] for k in sorted(names)] if isinstance(names, dict) else names)]
    known = len(set(named)) == len(named) and not all(name.isdecimal() for name in named)
    return named if known else None
