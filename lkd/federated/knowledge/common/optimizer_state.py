"""An optimizer's state as tensors by name, as a federation's checkpoint can hold it."""

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Tensors


def memory_of(optimizer: torch.optim.Optimizer) -> Tensors:
    """Returns an optimizer's state as tensors, named by the number of the parameter and the entry."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": torch.as_tensor(v) for i, each in state.items() for name, v in each.items()}


def remember(optimizer: torch.optim.Optimizer, memory: Tensors) -> None:
    """Restores an optimizer's state from such tensors; without any, the state is empty."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in memory.items():
        number, _, key = name.partition("/")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
