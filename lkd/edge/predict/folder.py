"""Where the results of a prediction go: never over those of another."""

from pathlib import Path


def fresh(given: Path | None, default: Path) -> Path:
    """A folder without results.

    Args:
        given: By the user, or None.
        default: Else this one, or with a number behind it: `predict_2`.

    Raises:
        ValueError: If the user's has results already, or is a file.

    Example:
        >>> fresh(None, Path("runs/nothing_there/predict")).as_posix()
        'runs/nothing_there/predict'
    """
    if given is not None:
        if given.exists() and (not given.is_dir() or any(given.iterdir())):
            what = "holds files already" if given.is_dir() else "is a file"
            raise ValueError(f"folder={str(given)!r} {what}: name another, so that nothing is written over.")
        return given
    folder, number = default, 1
    while folder.exists() and any(folder.iterdir()):
        number += 1
        folder = default.with_name(f"{default.name}_{number}")
    return folder
