"""Lightning under both of its names: modules of `pytorch_lightning` work like those of `lightning`."""

from typing import Any, TypeGuard

from lightning.pytorch import LightningDataModule, LightningModule
from lightning_utilities.core.overrides import is_overridden

CORES = (
    "lightning.pytorch.core",
    "pytorch_lightning.core",
    "lightning.pytorch.callbacks",
    "pytorch_lightning.callbacks",
)


def base_of(instance: Any) -> type | None:
    """Returns the class of Lightning that an object has, such as `LightningModule`, or None without one.

    Example:
        >>> from lightning.pytorch import LightningDataModule
        >>> class Data(LightningDataModule):
        ...     pass
        >>> base_of(Data()).__name__, base_of(3)
        ('LightningDataModule', None)
    """
    bases = (c for c in type(instance).__mro__ if c.__module__.startswith(CORES))
    return next((c for c in bases if c.__name__.startswith("Lightning") or c.__name__ == "Callback"), None)


def is_module(value: Any) -> TypeGuard[LightningModule]:
    """Returns whether a value is a LightningModule of either package.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> is_module(LightningModule()), is_module("resnet18")
        (True, False)
    """
    return getattr(base_of(value), "__name__", None) == "LightningModule"


def is_module_class(value: Any) -> bool:
    """Returns whether a value is a class of LightningModules of either package.

    Example:
        >>> is_module_class(LightningModule), is_module_class(LightningModule())
        (True, False)
    """
    bases = value.__mro__ if isinstance(value, type) else ()
    return any(base.__name__ == "LightningModule" and base.__module__.startswith(CORES) for base in bases)


def is_data_module(value: Any) -> TypeGuard[LightningDataModule]:
    """Returns whether a value is a LightningDataModule of either package.

    Example:
        >>> from lightning.pytorch import LightningDataModule
        >>> is_data_module(LightningDataModule()), is_data_module([1, 2])
        (True, False)
    """
    return getattr(base_of(value), "__name__", None) == "LightningDataModule"


def overrides(instance: Any, method: str) -> bool:
    """Returns whether an object has a method of its own, and not just the one of Lightning.

    Args:
        instance: A module, data module or callback of either package, or anything else.
        method: Name of the method.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> class Student(LightningModule):
        ...     def training_step(self, batch): ...
        >>> overrides(Student(), "training_step"), overrides(Student(), "setup")
        (True, False)
    """
    base = base_of(instance)
    if base is None or not hasattr(base, method):
        return hasattr(instance, method)
    return is_overridden(method, instance, base)
