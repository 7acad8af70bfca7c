"""Calls of a teacher, with errors explained in one sentence."""

import inspect
from collections.abc import Callable
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from lkd.packages import is_module, overrides
from lkd.taps import Call
from lkd.teachers.callables import Called
from lkd.teachers.inputs import shown
from lkd.teachers.precision import dtypes_of


def ask(function: Callable[..., Any], call: Call, name: str, model: nn.Module) -> Any:
    """Calls a teacher's function.

    Args:
        function: The model, or its method `detect`.
        call: The arguments.
        name: Name of the teacher, for error messages.
        model: The model.

    Raises:
        TypeError: If its signature does not accept these arguments.
        RuntimeError: If it fails on them, as torch does where shapes or types do not fit.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> ask(net, Call((torch.zeros(1, 2),), {}), "Linear", net).shape
        torch.Size([1, 3])
    """
    try:
        return function(*call.args, **call.kwargs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError, AttributeError, LookupError) as error:
        misfit = _misfit(function, call) if isinstance(error, TypeError) else None
        if misfit is not None:
            raise TypeError(
                f"the teacher {name} cannot be called with {shown(call)}, which is what the student's forward was given: "
                f"{misfit}; name what of the batch the teacher is given, input_key='...' (several are allowed)."
            ) from error
        types = dtypes_of(model)
        other = f" Its weights are {types}; see precision." if types not in ([], [torch.float32]) else ""
        late = [hook for hook in ("setup", "configure_model") if is_module(model) and overrides(model, hook)]
        if isinstance(error, AttributeError) and late:
            other = f" If its {late[0]}() makes its layers, call that first, and load its weights then."
        said = shorten(str(error).rpartition("RuntimeError: ")[2], 400).rstrip(
            "."
        )  # TorchScript puts its traceback before this
        raise RuntimeError(
            f"the teacher {name} failed on an input of shape {shown(call)}: {said}.{other} (It is given what enters the "
            "student's forward, or the layer that student_input names, or what input_key names.)"
        ) from error


def _misfit(function: Callable[..., Any], call: Call) -> str | None:
    """Explains why a function cannot take these arguments; None if it can, or does not tell."""
    called = function.function if isinstance(function, Called) else function
    called = called.forward if isinstance(called, nn.Module) else called
    try:
        inspect.signature(called).bind(*call.args, **call.kwargs)
    except TypeError as error:
        return str(error)
    except ValueError:
        return None
    return None
