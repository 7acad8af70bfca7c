"""Callables as teachers: their modules are found, to be frozen, moved and put into eval mode."""

import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_pre_hook


class Called(nn.Module):
    """Module around a callable, with the modules that it uses as its child `module`.

    Args:
        function: A bound method of a module, a `functools.partial`, a function or a callable object.

    Raises:
        TypeError: If it is a class, or a method of a scripted module, which does not tell its owner.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> Called(lambda x: net(x).softmax(-1)).module is net
        True
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        if isinstance(function, type):
            raise TypeError(
                f"model={function.__name__} is a class; give an instance of it: {function.__name__}(...)."
            )
        if isinstance(function, (torch._C.ScriptMethod, torch._C.ScriptFunction)):
            raise TypeError(
                f"model={function.name} is scripted and does not say which module it belongs to; give the scripted "
                f"module, or lambda x: module.{function.name}(x)."
            )
        self.function = function
        found = list(_modules(function, set()))
        inner = {id(child) for module in found for child in list(module.modules())[1:]}
        outer = [module for module in found if id(module) not in inner]
        self.module = outer[0] if len(outer) == 1 else nn.ModuleList(outer) if outer else None

    @property
    def name(self) -> str:
        """Name of the callable."""
        named = self.function
        while isinstance(named, functools.partial):
            named = named.func
        owner = getattr(named, "__self__", None)
        if isinstance(owner, nn.Module):
            whose = getattr(owner, "original_name", type(owner).__name__)
            return whose if named.__name__ == "_wrapped_call_impl" else f"{whose}.{named.__name__}"
        return getattr(named, "__qualname__", type(named).__name__)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the callable.

        Raises:
            ValueError: If a module runs that was not found and is not frozen, or not in eval mode.
        """
        known = set(self.modules())

        def check(module: nn.Module, _: Any) -> None:
            if module not in known and _may_change(module):
                raise ValueError(
                    f"model={self.name} runs a {type(module).__name__} that lkd cannot see, and which is not frozen or not "
                    "in eval mode: give the module itself or its bound method, as in Teacher(clip.encode_image); or, where the callable "
                    "keeps it deeper, name it too: Teacher(functools.partial(lambda net, x: model(x), model.engine.net)); or freeze it: "
                    "net.eval().requires_grad_(False)."
                )

        handle = register_module_forward_pre_hook(check)
        try:
            return self.function(*args, **kwargs)
        finally:
            handle.remove()


def _may_change(module: nn.Module) -> bool:
    """Tells whether a module needs gradients, or behaves differently in training; plain functions do not."""
    own = any(p.requires_grad for p in module.parameters(recurse=False))
    plain = type(module).__module__.startswith("torch.nn.") and not isinstance(
        module, (_DropoutNd, _NormBase)
    )
    return own or (module.training and not plain)


def _modules(value: Any, seen: set[int], inside: bool = True) -> Iterator[nn.Module]:
    """Yields the modules that a callable holds, is bound to, closes over or names.

    Args:
        value: The callable, or something that it holds.
        seen: Ids of the objects already searched.
        inside: Whether to search the attributes of an object; attributes of attributes are not searched.
    """
    if id(value) in seen or isinstance(value, (type, types.ModuleType)):
        return
    seen.add(id(value))
    held: list[Any] = []
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, functools.partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, types.MethodType):
        held = [value.__self__, value.__func__]
    elif isinstance(value, types.FunctionType):
        held = list(_used(value))
    elif isinstance(value, Mapping):
        held = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        held = list(value)
    elif inside and hasattr(value, "__dict__"):
        held, inside = [*vars(value).values(), vars(type(value)).get("__call__")], False
    for each in held:
        yield from _modules(each, seen, inside)


def _used(function: types.FunctionType) -> Iterator[Any]:
    """Yields what a function closes over, its defaults, and globals; functions of other files are skipped."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for name in global_names(function.__code__):
        value = function.__globals__.get(name)
        if not isinstance(value, types.FunctionType) or value.__globals__ is function.__globals__:
            yield value


@functools.cache  # code never changes, and reading it takes long
def global_names(code: types.CodeType) -> tuple[str, ...]:
    """Returns the names of globals that code reads, also in functions inside it."""
    names = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    inner = [
        name
        for constant in code.co_consts
        if isinstance(constant, types.CodeType)
        for name in global_names(constant)
    ]
    return (*names, *inner)
