"""Batches of one sample under a layer that normalizes over the batch, which is not defined for them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.description import LocalSettings

HELP = "choose a batch_size that leaves no batch of one, a network with GroupNorm, or drop_last in the data's loader."
FUNCTIONAL = "Expected more than 1 "
"""Beginning of torch's own error message, on values per channel or on spatial elements."""


class LoneSampleError(ValueError):
    """A batch of one sample would give a layer a single value, whose variance does not exist."""


def _unknown() -> None:
    """Stands for an unknown number of samples."""


@contextlib.contextmanager
def watching(
    module: nn.Module, told: str, lone: str | None = None, samples: Callable[[], int | None] = _unknown
) -> Iterator[None]:
    """Refuses, inside, single values in layers that normalize over them.

    A batch of one sample may still be fine: a feature map has many values, and a layer in eval mode
    normalizes by learned statistics. So the layers themselves are checked while they run.

    Args:
        module: The module that trains.
        told: Says who has the batch, for the message, such as
            `"client C1 has a training batch of one sample"`.
        lone: The same for another client that will have such a batch. It is refused as soon as a batch of
            many samples shows that a layer gets one value per sample.
        samples: Gives the number of samples of the present batch, or None where it is not known.

    Raises:
        LoneSampleError: If a layer gets a single value; the message names the layer.
    """

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = _values(layer, next(iter((*args, *kwargs.values())), None))
            if values == 1 or (lone is not None and values is not None and values == samples()):
                raise LoneSampleError(
                    f"{told if values == 1 else lone}, on which batch normalization is not defined ({name}, a "
                    f"{type(layer).__name__}, would get a single value a channel): {HELP}"
                )

        return hook

    layers = {n: m for n, m in module.named_modules() if isinstance(m, _BatchNorm | nn.GroupNorm)}
    handles = [m.register_forward_pre_hook(look(n), with_kwargs=True) for n, m in layers.items()]
    try:
        yield
    except ValueError as error:  # of a function in place of a layer, such as torch.nn.functional.batch_norm
        if not str(error).startswith(FUNCTIONAL) or samples() not in (1, None):
            raise
        raise LoneSampleError(
            f"{told}, on which batch normalization is not defined ({error}): {HELP}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def try_one(module: nn.Module, forward: Callable[[], Any], told: str) -> None:
    """Runs a module in train mode on one sample, to see whether it can; its buffers stay as they are.

    Args:
        module: The module.
        forward: Runs it.
        told: See `watching`.

    Raises:
        LoneSampleError: If a layer gets a single value.
    """
    training, before = module.training, [buffer.clone() for buffer in module.buffers()]
    module.train()
    try:
        with watching(module, told):
            forward()
    finally:
        module.train(training)
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)


def normalizes(module: nn.Module) -> bool:
    """Tells whether a module has a layer that may refuse a batch of one sample."""
    return any(isinstance(part, _BatchNorm | nn.GroupNorm) for part in module.modules())


def _values(layer: nn.Module, x: Any) -> int | None:
    """Returns how many values a layer normalizes by their own variance; None if it does not."""
    if not isinstance(x, Tensor) or x.dim() < 2:
        return None
    if isinstance(layer, nn.GroupNorm):
        return x.numel() // layer.num_groups
    learned = not layer.training and getattr(layer, "running_mean", None) is not None
    return None if learned else x.numel() // max(x.shape[1], 1)


def lone_clients(
    kinds: Iterable[int], kind_of: Callable[[int], int], clients: Sequence[ClientData], local: LocalSettings
) -> dict[tuple[str, int], str]:
    """Finds clients that will have a training batch of one sample, by verb and architecture.

    Args:
        kinds: Architectures for which such a batch matters.
        kind_of: Gives the architecture of a client by its id.
        clients: All clients. If they cannot tell their smallest batch, none is found.
        local: Settings of the local training, which say whether the end of an epoch is ever reached.

    Returns:
        A message on one client for each verb (`"train"`, `"gradient"`) and architecture concerned.
    """
    found: dict[tuple[str, int], str] = {}
    wanted = set(kinds)
    for number in range(len(clients)) if wanted else ():
        client: Any = clients[number]
        if not hasattr(client, "smallest_batch"):
            return {}
        kind = kind_of(client.id)
        if kind not in wanted or not client.probability:
            continue
        reached = local.by_epochs or local.most * local.accumulate >= client.num_batches()
        for verb, ordered in (("train", False), ("gradient", True)):
            if (ordered or reached) and client.smallest_batch(ordered) == 1:
                found.setdefault((verb, kind), f"client {client.name} has a training batch of one sample")
    return found
