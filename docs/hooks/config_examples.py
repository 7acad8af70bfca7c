"""How a loss or an algorithm that no file of configs/ names gets into a config, by examples.yaml."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

EXAMPLES = Path(__file__).with_name("examples.yaml")


@cache
def examples() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the arguments of each name, by the config that it goes on top of."""
    return yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))


def example(name: str) -> tuple[str, dict[str, Any]] | None:
    """Returns a config of configs/ and what a second one says to have a loss or an algorithm; None if there is none."""
    for base, named in examples().items():
        if name in named:
            return base, overlay(base, {name: named[name]})
    return None


def overlay(base: str, named: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns a config that goes on top of another: of a federation with an algorithm, or else with terms."""
    classes = [{"class_path": name, **({"init_args": args} if args else {})} for name, args in named.items()]
    if base.startswith("federated/"):
        (algorithm,) = classes
        return {"model": {"init_args": {"algorithm": algorithm}}}
    labels = {"label_key": "targets"} if base.startswith("parking/") else {}
    return {"distillation": {"class_path": "Distillation", "init_args": {"terms": classes, **labels}}}
