"""The classes of a detector that are vehicles, by name."""

from collections.abc import Sequence

VEHICLES = ("car", "truck", "bus", "van", "vehicle", "pickup", "suv")
"""Names that count by default; plural and capitals make no difference."""


def vehicles(names: Sequence[str] | None, classes: Sequence[str] | None) -> list[int] | None:
    """Returns the numbers of the classes that count, or None if all do because their names are not known.

    Args:
        names: Names of a detector's classes, in order, or None.
        classes: Names of the classes that count. None: the `VEHICLES` among them, or the only class.

    Raises:
        ValueError: If the detector does not have such a class, or has none that is known to be a vehicle.

    Example:
        >>> vehicles(["person", "car", "Trucks"], None), vehicles(["person", "car"], ["person"]), vehicles(["thing"], None)
        ([1, 2], [0], [0])
    """
    if names is None:
        if classes is not None:
            raise ValueError(
                f"classes={list(classes)} cannot be found: nobody says what the detector's classes are called."
            )
        return None
    has = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    if classes is None:
        found = [number for number, name in enumerate(names) if name.casefold().removesuffix("s") in _plain()]
        if not found and len(names) > 1:
            raise ValueError(
                f"the detector's classes are {has}, and none is known as a vehicle: name those that fill a slot in classes."
            )
        return found or [0]
    if not classes or (unknown := sorted(set(classes) - set(names))):
        what = f"unknown: {', '.join(unknown)}" if classes else "empty"
        raise ValueError(f"classes={list(classes)} must be of the detector's classes ({has}); {what}.")
    return [number for number, name in enumerate(names) if name in classes]


def _plain() -> set[str]:
    return {name.removesuffix("s") for name in VEHICLES}
