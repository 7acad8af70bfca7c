"""Licenses of a file: of the code, of the weights it started from, of its teacher and of its data."""

import functools
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

PARTS = ("code", "weights", "teacher", "data")
NOT_STATED = "not stated"


def licenses(
    module: LightningModule, config: Mapping[str, Any] | None, given: Mapping[str, str] | None
) -> dict[str, str]:
    """Returns the given licenses, and for other parts what packages declare.

    Unknown ones are marked, with a warning.

    Args:
        module: Module whose layers name the packages.
        config: Configuration of the run, for start weights and teacher; None if unknown.
        given: Licenses by part: `code`, `weights`, `teacher`, `data`.

    Raises:
        ValueError: For other parts.
    """
    if strange := sorted(set(given or {}) - set(PARTS)):
        raise ValueError(f"licenses: {', '.join(strange)} is no part; there are {', '.join(PARTS)}.")
    model = (config or {}).get("model")
    files, code = _files(model), _code(module)
    unknown = (
        config is None or files or _fetched(model) or NOT_STATED in code
    )  # code that is not lkd's may load weights itself
    teacher = (config or {}).get("distillation")
    found = {
        "code": code,
        "weights": NOT_STATED if unknown else "none: they started at random",
        "teacher": NOT_STATED if config is None or teacher else "none",
        "data": NOT_STATED,
        **(given or {}),
    }
    if missing := [part for part in PARTS if found[part] == NOT_STATED]:
        what = f" (weights of {', '.join(files)})" if files and "weights" in missing else ""
        rank_zero_warn(
            f"The card does not state the license of {', '.join(missing)}{what}: give licenses, such as "
            f"--licenses.{missing[0]}=CC-BY-4.0."
        )
    return found


def _code(module: LightningModule) -> str:
    packages = sorted(
        {type(layer).__module__.partition(".")[0] for layer in module.modules()} - {"torchmetrics"}
    )
    return "; ".join(f"{package}: {_license(package)}" for package in packages)


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Returns distributions by package, from all that is installed."""
    return packages_distributions()


def _license(package: str) -> str:
    if package == "lkd":
        return "Apache-2.0"
    try:
        said = metadata(package).json
    except PackageNotFoundError:  # its distribution has another name, or it is the user's own module
        owners = _distributions().get(package)
        if not owners:
            return NOT_STATED
        said = metadata(owners[0]).json
    named = [
        str(one).rpartition(" :: ")[2] for one in said.get("classifier", []) if str(one).startswith("License")
    ]
    text = said.get("license_expression") or next(iter(named), "") or said.get("license") or NOT_STATED
    return str(text).splitlines()[0]


def _files(value: Any) -> list[str]:
    """Returns files of weights that a configuration names."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [name for each in value for name in _files(each)]
    return (
        [value] if isinstance(value, str) and value.endswith((".pt", ".pth", ".ckpt", ".safetensors")) else []
    )


def _fetched(value: Any) -> bool:
    """Returns whether a configuration asks a library, such as timm, for its published weights."""
    if isinstance(value, Mapping):
        asked = (value.get(key) for key in ("pretrained", "weights", "weights_backbone"))
        return any(one is True or isinstance(one, str) for one in asked) or _fetched(list(value.values()))
    return isinstance(value, list | tuple) and any(map(_fetched, value))
