"""The optional libraries of the edge, each imported when it is first needed."""

import importlib
from typing import Any


def optional(name: str) -> Any:
    """Imports a module of the extra `edge`.

    Args:
        name: Its dotted name, such as `"onnxruntime"`.

    Raises:
        ImportError: If it is not installed; the sentence says with what command it will be.

    Example:
        >>> optional("json").dumps({})
        '{}'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != name.split(".")[0]:
            raise  # it is there, and lacks something of its own
        raise ImportError(
            f'{name.split(".")[0]} is not installed: pip install "lightning-kd[edge]" (onnx, onnxscript, onnxruntime, torch-pruning).'
        ) from error
