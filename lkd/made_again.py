"""Layers that a module makes whenever it is set up, which would lose what they have learned."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lkd.packages import overrides

HOOKS = ("setup", "configure_model")
"""Hooks in which a module may make layers; a Trainer calls them before each fit, test and so on."""
ADVICE = "make layers once: in __init__, or only where there are none yet (`if not hasattr(self, 'net'):`)."


@contextlib.contextmanager
def keeping(module: LightningModule, hook: str, trained: bool = True) -> Iterator[None]:
    """Calls a hook of a module inside the block.

    Layers that it makes anew get their former weights, with a warning.

    What a hook changes in place is left as it is, with a warning too, since it may load a better checkpoint.
    Buffers are only put back in layers that are made anew, because a module may reset one of its own on
    purpose.

    Args:
        module: The module.
        hook: The hook's name, for messages.
        trained: Whether the weights come from a run. Weights before the first run may be placeholders, and
            are not put back.

    Raises:
        ValueError: If a trained layer is made anew in another shape.

    Example:
        >>> class Anew(LightningModule):
        ...     def setup(self, stage):
        ...         self.layer = nn.Linear(2, 2)
        >>> net = Anew()
        >>> net.setup("fit")
        >>> before = net.layer.weight
        >>> with keeping(net, "setup"):
        ...     net.setup("test")
        >>> net.layer.weight is before, torch.equal(net.layer.weight, before)
        (False, True)
    """
    if not overrides(module, hook):
        yield
        return
    weights = {n: (p, p.detach().clone()) for n, p in module.named_parameters() if _plain(p)}
    buffers = {n: b for n, b in module.named_buffers() if _plain(b)}
    layers = dict(module.named_modules())
    yield
    now = dict(module.named_parameters(remove_duplicate=False))
    alive = {id(parameter) for parameter in now.values()}
    changed = [n for n, (p, value) in weights.items() if id(p) in alive and not _same(p, value)]
    gone = {n: value for n, (p, value) in weights.items() if id(p) not in alive}
    anew = {n: value for n, value in gone.items() if n in now and not _same(now[n], value)}
    who = f"{type(module).__name__}.{hook}"
    if not trained:
        if anew:
            rank_zero_warn(
                f"{who} makes {_few(anew)} anew: the weights that were there before are gone. To keep them, {ADVICE}"
            )
        return
    for name, value in anew.items():
        if now[name].shape != value.shape:
            raise ValueError(
                f"{who} makes {name} anew in the shape {tuple(now[name].shape)}, and the weights that were trained have "
                f"{tuple(value.shape)}: {ADVICE}"
            )
    replaced = {n for n, layer in module.named_modules() if layers.get(n) is not layer}
    for name, buffer in module.named_buffers():
        before = buffers.get(name)
        if name.rpartition(".")[0] in replaced and before is not None and before.shape == buffer.shape:
            buffer.copy_(before)
    with torch.no_grad():
        for name, value in anew.items():
            now[name].copy_(value)
    if anew:
        rank_zero_warn(f"{who} makes {_few(anew)} anew; the weights of before were put back: {ADVICE}")
    if changed := [*changed, *(n for n in gone if n not in now)]:
        rank_zero_warn(
            f"{who} changes or takes away {_few(changed)}, so that what was trained there is no longer in use; if that is not "
            f"meant, {ADVICE}"
        )


@contextlib.contextmanager
def kept(module: LightningModule) -> Iterator[None]:
    """Keeps, inside the block, the weights of what a Trainer sets up anew, see `keeping`.

    Args:
        module: The trained module.
    """

    def guarded(hook: str) -> Callable[..., None]:
        own = getattr(module, hook)

        def call(*args: Any, **kwargs: Any) -> None:
            with keeping(module, hook):
                own(*args, **kwargs)

        return call

    hooks = [hook for hook in HOOKS if overrides(module, hook)]
    for hook in hooks:
        setattr(module, hook, guarded(hook))
    try:
        yield
    finally:
        for hook in hooks:
            vars(module).pop(hook, None)


def _plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and not is_lazy(tensor) and not tensor.is_meta


def _same(now: Tensor, before: Tensor) -> bool:
    alike = now.shape == before.shape and now.dtype == before.dtype and not now.is_meta
    return alike and torch.allclose(now, before.to(now.device), rtol=0, atol=0, equal_nan=True)


def _few(names: Any) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
