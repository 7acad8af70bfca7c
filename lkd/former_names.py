"""Names that lkd had before 0.2: code that still says them goes on until 0.3, and is told the new name."""

import functools
import sys
import warnings
from collections.abc import Callable
from operator import attrgetter
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def tell(old: str, new: str) -> None:
    """Warns of a former name, at the nearest line outside of lkd: the one that says it.

    Args:
        old: The former name.
        new: What it is called now.
    """
    said = f"{old} is called {new} now; the former name goes with lkd 0.3."
    line: FrameType | None = sys._getframe(1)
    while line and line.f_back and _on_the_way(line):
        line = line.f_back
    assert line is not None
    registry = line.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(said, FutureWarning, line.f_code.co_filename, line.f_lineno, registry=registry)


def _on_the_way(frame: FrameType) -> bool:
    """Whether code is lkd's, or imports it, so that who says the name stands further up."""
    name = str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] in ("lkd", "importlib", "_frozen_importlib")


def former_arguments(**names: str) -> Callable[[T], T]:
    """Lets a class, and those made of it, take arguments by former names.

    Args:
        **names: The name of today for each former name.

    Returns:
        A decorator of classes.

    Raises:
        TypeError: When an object is made with both names of an argument.

    Example:
        >>> @former_arguments(colour="color")
        ... class Paint:
        ...     def __init__(self, color=0.0):
        ...         self.color = color
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     print(Paint(colour=0.5).color, said[0].message)
        0.5 Paint(colour=) is called color= now; the former name goes with lkd 0.3.
    """

    def decorate(made: T) -> T:
        init = made.__init__  # type: ignore[misc]

        @functools.wraps(init)  # keeps the signature, which the command line reads
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            for old in [name for name in kwargs if name in names]:
                if names[old] in kwargs:
                    raise TypeError(
                        f"{type(self).__name__} takes {names[old]}= alone, and was given {old}=, too."
                    )
                tell(f"{type(self).__name__}({old}=)", f"{names[old]}=")
                kwargs[names[old]] = kwargs.pop(old)
            init(self, *args, **kwargs)

        made.__init__ = __init__  # type: ignore[misc]
        return made

    return decorate


def former_attributes(**names: str) -> Callable[[T], T]:
    """Lets the objects of a class be asked for attributes by former names.

    Args:
        **names: The path of today for each former name, such as `"engine.host"`.

    Returns:
        A decorator of classes.

    Example:
        >>> @former_attributes(client="model")
        ... class Outer:
        ...     model = "a network"
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     print(Outer().client, "-", said[0].message)
        a network - Outer.client is called Outer.model now; the former name goes with lkd 0.3.
    """

    def decorate(made: T) -> T:
        for old, new in names.items():

            def get(self: Any, old: str = old, new: str = new) -> Any:
                own = vars(self)
                for held in (own, *(own.get(kind, {}) for kind in ("_modules", "_parameters", "_buffers"))):
                    if old in held:  # a class made of this one has a use of its own for the name
                        return held[old]
                tell(f"{made.__name__}.{old}", f"{made.__name__}.{new}")
                return attrgetter(new)(self)

            def keep(self: Any, value: Any, old: str = old) -> None:
                vars(self)[old] = value

            setattr(made, old, property(get, keep))
        return made

    return decorate


def former_classes(package: dict[str, Any], **names: str) -> Callable[[str], Any]:
    """Makes a package's `__getattr__`, which finds its classes by former names.

    Args:
        package: The package's `globals()`.
        **names: The name of today for each former name.
    """
    home = package["__name__"]

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {home!r} has no attribute {name!r}")
        tell(f"{home}.{name}", f"{home}.{names[name]}")
        return package[names[name]]

    return find
