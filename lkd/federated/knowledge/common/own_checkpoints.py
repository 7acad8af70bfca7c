"""Checkpoints that a client keeps of itself, so that it can answer as in an earlier round."""

import torch

from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Tensors, moved


def keep(context: ClientContext, rounds: set[int]) -> None:
    """Keeps the checkpoints of these rounds, and forgets all others.

    The present round's checkpoint is made if it is among them. An earlier round without a checkpoint is left
    out.
    """
    held = {key: t for key, t in context.memory.items() if int(key.split("/", 1)[0]) in rounds}
    if context.round in rounds:
        held |= {f"{context.round}/{name}": t for name, t in moved(state(context), "cpu").items()}
    context.memory = held


@torch.no_grad()
def become(context: ClientContext, round: int, now: Tensors) -> bool:
    """Loads the weights of a round, or `now` for the present one; returns False if there are none."""
    prefix = f"{round}/"
    saved = {key.removeprefix(prefix): t for key, t in context.memory.items() if key.startswith(prefix)}
    saved = now if round == context.round else saved
    for name, tensor in state(context).items():
        if name in saved:
            tensor.copy_(saved[name])
    return bool(saved)


def state(context: ClientContext) -> Tensors:
    """Returns all parameters and buffers of the module, live."""
    return {**dict(context.module.named_parameters()), **dict(context.module.named_buffers())}
