"""What the classes of published weights are called."""

from typing import Any


def written_names(network: Any) -> list[str] | None:
    """The names that a file of Ultralytics gives its classes.

    Args:
        network: From such a file: `names` is a list, or a dict with numbers as keys.

    Returns:
        One name a class, or None where they are numbers (as of a network that nobody named), double or missing.

    Example:
        >>> from types import SimpleNamespace
        >>> written_names(SimpleNamespace(names={0: "person", 1: "bicycle"})), written_names(SimpleNamespace(names={0: "0"}))
        (['person', 'bicycle'], None)
    """
    names = getattr(network, "names", None) or []
    named = [str(name) for name in ([names[k] for k in sorted(names)] if isinstance(names, dict) else names)]
    known = len(set(named)) == len(named) and not all(name.isdigit() for name in named)
    return named if known else None
