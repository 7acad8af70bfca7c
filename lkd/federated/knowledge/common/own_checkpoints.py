"""Checkpoints of its own that a client keeps, so that it can say what it would have said in an earlier round."""

import torch

from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Tensors, moved


def keep(context: ClientContext, rounds: set[int]) -> None:
    """Keeps those of these rounds, the present one among them if it is named, and forgets all others.

    A round that is named but was never kept is one of which the client was not asked in time; it is left out.
    """
    held = {key: t for key, t in context.memory.items() if int(key.split("/", 1)[0]) in rounds}
    if context.round in rounds:
        held |= {f"{context.round}/{name}": t for name, t in moved(state(context), "cpu").items()}
    context.memory = held


@torch.no_grad()
def become(context: ClientContext, round: int, now: Tensors) -> bool:
    """The module has the weights of that round, or `now` if it is the present one; False if they are not there."""
    prefix = f"{round}/"
    saved = {key.removeprefix(prefix): t for key, t in context.memory.items() if key.startswith(prefix)}
    saved = now if round == context.round else saved
    for name, tensor in state(context).items():
        if name in saved:
            tensor.copy_(saved[name])
    return bool(saved)


def state(context: ClientContext) -> Tensors:
    """All parameters and buffers of the module, live."""
    return {**dict(context.module.named_parameters()), **dict(context.module.named_buffers())}
