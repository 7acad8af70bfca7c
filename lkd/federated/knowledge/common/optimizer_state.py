"""What an optimizer has gathered, as tensors by name: what a checkpoint of a federation can hold."""

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors


def memory_of(optimizer: torch.optim.Optimizer) -> Tensors:
    """An optimizer's state as tensors, by the number of the parameter and their names."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": torch.as_tensor(v) for i, each in state.items() for name, v in each.items()}


def remember(optimizer: torch.optim.Optimizer, memory: Tensors) -> None:
    """The way back; nothing if there is none."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in memory.items():
        number, _, key = name.partition("/")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
