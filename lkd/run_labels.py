"""Names of a run among others: its method, its partition and its seed, read from its configuration."""

import inspect
from collections.abc import Mapping
from pydoc import locate
from typing import Any

LONGEST = 64
"""Most characters of a tag in W&B."""


def labels(config: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Returns the group of a run, which is the same for all seeds, and its tags.

    Args:
        config: Configuration of `fit`: nested mappings with `class_path` and `init_args`.

    Returns:
        Group, such as `FedProx, Dirichlet(alpha=0.3)`, and tags, such as `["FedProx", "Dirichlet(alpha=0.3)",
        "seed 0"]`.

    Example:
        >>> proximal = {"class_path": "lkd.federated.FedProx", "init_args": {"mu": 0.1}}
        >>> labels({"model": {"class_path": "lkd.federated.Federation", "init_args": {"algorithm": proximal}},
        ...         "data": {"class_path": "Digits"}, "seed_everything": 0})
        ('FedProx, Digits', ['FedProx', 'Digits', 'seed 0'])
    """
    model, data = config.get("model") or {}, config.get("data") or {}
    if _name(model) == "Federation":
        method = _name(_arguments(model).get("algorithm") or {"class_path": "FedAvg"})
    else:
        method = _name(model)
    partition = _arguments(data).get("partition")
    words = [method, _name(config.get("distillation")), _call(partition) if partition else _name(data)]
    found = [word for word in words if word]
    seed = config.get("seed_everything")
    return ", ".join(found), [*found, *([] if seed is None or isinstance(seed, bool) else [f"seed {seed}"])]


def _name(entry: Any) -> str:
    return str((entry or {}).get("class_path", "")).rpartition(".")[2]


def _arguments(entry: Any) -> Mapping[str, Any]:
    return (entry or {}).get("init_args") or {}


def _call(entry: Any) -> str:
    """Returns a class with those of its arguments that are numbers or words, and not the default."""
    made = locate(entry["class_path"])
    usual = inspect.signature(made).parameters if callable(made) else {}
    plain = {k: v for k, v in _arguments(entry).items() if isinstance(v, str | int | float)}
    said = [f"{key}={value}" for key, value in plain.items() if key in usual and value != usual[key].default]
    return (f"{_name(entry)}({', '.join(said)})" if said else _name(entry))[:LONGEST]
