"""The optional libraries of the edge, each imported when it is first needed."""

import importlib
from typing import Any

EXTRAS = {
    "edge": ("onnx", "onnxscript", "onnxruntime", "torch_pruning"),
    "openvino": ("openvino",),
    "video": ("av", "trackers"),
}
"""Packages of each extra of lkd that are imported here."""


def optional(name: str) -> Any:
    """Imports a module of one of the `EXTRAS`.

    Args:
        name: Dotted name of the module, such as `"onnxruntime"`.

    Raises:
        ImportError: If it is not installed; the message gives the command that installs it.

    Example:
        >>> optional("json").dumps({})
        '{}'
    """
    root = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != root:
            raise  # the library is there, but lacks a module of its own
        extra = next((extra for extra, roots in EXTRAS.items() if root in roots), "edge")
        raise ImportError(
            f'{root} is not installed: pip install "lightning-kd[{extra}]" ({", ".join(EXTRAS[extra])}).'
        ) from error
