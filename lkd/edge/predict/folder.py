"""The folder for the results of a prediction, which never overwrites another's."""

from pathlib import Path


def fresh(given: Path | None, default: Path) -> Path:
    """Returns a folder without results.

    Args:
        given: Folder given by the user, or None.
        default: Folder to use otherwise, or the same with a number behind it: `predict_2`.

    Raises:
        ValueError: If the user's folder has results already, or is a file.

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
