"""Objects of users' own classes, whose attributes are looked into."""

import types
from typing import Any

from torch import Tensor, nn

LIBRARIES = frozenset(
    "builtins callbacks collections concurrent contextlib copy ctypes datamodules dataclasses datetime enum functools io itertools "
    "lightning lightning_fabric lightning_utilities lkd logging multiprocessing numpy os pathlib PIL pytorch_lightning queue random re "
    "scipy sklearn socket subprocess tempfile threading timm torch torchmetrics torchvision typing ultralytics wandb weakref".split()
)
"""Packages whose objects are left alone: they are large, or resources."""


def is_plain(value: Any) -> bool:
    """Returns whether a value is an object with attributes of its own, such as a helper that a module holds.

    Example:
        >>> is_plain(types.SimpleNamespace(steps=0)), is_plain(nn.Linear(1, 1)), is_plain([3])
        (True, False, False)
    """
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, nn.Module | Tensor | type | types.ModuleType | types.FunctionType)
        and type(value).__module__.partition(".")[0] not in LIBRARIES
    )
