"""Hyperparameters of nested Lightning objects in a config: their own, not the outermost object's."""

import inspect
import sys
from contextvars import ContextVar
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.core.mixins import HyperparametersMixin
from lightning.pytorch.core.mixins.hparams_mixin import (
    _given_hyperparameters,
    _given_hyperparameters_context,
)
from lightning.pytorch.utilities.parsing import collect_init_args

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
"""How `load_from_checkpoint` makes a module of a config again; one of those that Lightning trusts."""


class _Made(NamedTuple):
    """Arguments that a parser has made into objects, for the class that is made next."""

    parser: ArgumentParser
    config: Namespace
    objects: Namespace


_latest: ContextVar[_Made | None] = ContextVar("_latest", default=None)


def note(parser: ArgumentParser, config: Namespace, objects: Namespace) -> None:
    """Records the objects that a parser has just made."""
    _latest.set(_Made(parser, config, objects))


def class_path(class_type: type) -> str:
    """Returns the shortest path that leads to a class: files may move, but public names stay.

    Example:
        >>> class_path(LightningModule)
        'lightning.LightningModule'
    """
    parts, name = class_type.__module__.split("."), class_type.__qualname__
    packages = [".".join(parts[: end + 1]) for end in range(len(parts))]
    here = (p for p in packages if getattr(sys.modules.get(p), name, None) is class_type)
    return f"{next(here, class_type.__module__)}.{name}"


def make(class_type: type, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any) -> Any:
    """Makes a Lightning object whose `save_hyperparameters` saves the arguments that the config gives it.

    LightningCLI lets every module and data module of a config, however deep, save the arguments of the
    outermost one. A nested object then lacks its own, or has the others' values under the same names. What is
    saved is plain data, as for the outermost: a class is its `class_path` and `init_args`; a default that is
    no data, such as a lambda, is left out.

    Args:
        class_type: Class of the object.
        *args: Arguments by position.
        applied_instantiation_links: Values that come from other objects.
        **kwargs: Arguments by name.
    """
    linked = [id(value) for value in applied_instantiation_links.values()]
    own = kwargs | _plain({key: value for key, value in kwargs.items() if id(value) not in linked})
    own = {key: value for key, value in own.items() if not _no_data(value)}
    with _given_hyperparameters_context(_Given({"_class_path": class_path(class_type), **own}), INSTANTIATOR):
        made = class_type(*args, **kwargs)
        inherited = _given_hyperparameters.get().inherited
    if inherited and "_hparams" in vars(made):  # a teacher has none, but the module that it loads has
        made._hparams = _Hparams(made._hparams, inherited)
    return made


class _Given(dict[str, Any]):
    """Arguments for `save_hyperparameters`: the config's, and others that the calling class takes.

    LightningCLI leaves the latter out, so that `save_hyperparameters` in a base class would not find the
    base's own arguments.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(given)
        self.inherited: dict[str, Any] = {}

    def copy(self) -> "_Given":
        return _Given(self)

    def items(self) -> Any:
        frame = inspect.currentframe()
        assert frame is not None
        found: dict[str, Any] = {}
        for arguments in collect_init_args(frame, [], classes=(HyperparametersMixin,)):  # from the base on
            found |= {key: value for key, value in arguments.items() if key not in self and is_plain(value)}
        self.inherited |= found
        return {**self, **found}.items()


class _Hparams(AttributeDict):
    """Hyperparameters, with inherited ones that can be read but are not saved."""

    def __init__(self, saved: dict[str, Any], inherited: dict[str, Any]) -> None:
        super().__init__({key: value for key, value in saved.items() if key not in inherited})
        object.__setattr__(self, "_inherited", {k: v for k, v in saved.items() if k in inherited})

    def __missing__(self, key: str) -> Any:
        return vars(self).get("_inherited", {})[key]  # a copy is asked before it has any

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in vars(self).get("_inherited", {})

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default


def is_plain(value: Any) -> bool:
    """Returns whether a value is plain data: numbers, strings and None, in lists and dicts.

    Example:
        >>> is_plain({"width": [1, 2]}), is_plain(print)
        (True, False)
    """
    if isinstance(value, dict):
        return all(type(key) in (str, int) and is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(each) for each in value)
    return value is None or type(value) in (bool, int, float, str)


def _plain(objects: dict[str, Any]) -> dict[str, Any]:
    """Returns objects as the config has them.

    Those not made by the latest parser, such as free `**kwargs`, are left out.
    """
    made = _latest.get()
    if made is None:
        return {}
    names = [key for key, value in objects.items() if key in made.objects and made.objects[key] is value]
    config = Namespace({key: made.config[key] for key in names})
    text = made.parser.dump(config, skip_none=False, skip_validation=True, format="yaml")
    return {key: value for key, value in yaml.safe_load(text).items() if key in names}


def _no_data(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("Unable to serialize instance ")


INSTANTIATORS = [(make, LightningModule, True), (make, LightningDataModule, True)]
"""Makers of objects, for a parser's `instantiate`."""
