"""Reading of Ultralytics' `.pt` files, pickled networks, without making any object that they name."""

import pickle
from pathlib import Path
from textwrap import shorten
from typing import Any, Self

import torch
from torch import Tensor

from lkd.models.class_names import written_names
from lkd.safe_load import load, only_tensors


class _Inert:
    """Stand-in for every class and function that a file names, which does nothing but keep its state."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def read(path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads the architecture and the float32 state of a `.pt` file; no code that the file names is run.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no checkpoint of Ultralytics.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"model={path!r}: no such file; give a local .pt (weights are never downloaded)."
        )
    why, network = "it holds no network", None
    try:
        with only_tensors():
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        checkpoint = load(path, [(_Inert, name) for name in named])
        network = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, EOFError, OSError) as error:
        why = "it is empty" if not Path(path).stat().st_size else shorten(str(error), 200)
    described = vars(network).get("yaml") if isinstance(network, _Inert) else None
    if not isinstance(described, dict):
        raise ValueError(
            f"model={path!r} is not a readable Ultralytics checkpoint ({why}); of another network give the module: build it, load "
            "its weights by load_state_dict and Teacher(module)."
        )
    return {**described, "class_names": written_names(network)}, _state(network, "")


def _state(module: Any, prefix: str) -> dict[str, Tensor]:
    """Returns what `module.float().state_dict()` of the pickled network would be."""
    parts, state = vars(module), {}
    kept = {**parts.get("_parameters", {}), **parts.get("_buffers", {})}
    for name, tensor in kept.items():
        if isinstance(tensor, Tensor) and name not in parts.get("_non_persistent_buffers_set", ()):
            state[prefix + name] = tensor.detach().float() if tensor.is_floating_point() else tensor
    for name, child in parts.get("_modules", {}).items():
        if isinstance(child, _Inert):
            state |= _state(child, f"{prefix}{name}.")
    return state
