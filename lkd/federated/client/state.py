"""What clients keep between rounds: control variates, personal layers."""

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Groups, Tensors, moved


class ClientStore:
    """State of those clients that have some, on the CPU; the others cost nothing.

    Example:
        >>> store = ClientStore()
        >>> store.put(3, {"c": {"w": torch.ones(2)}})
        >>> store.get(3)["c"]["w"], store.get(4)
        (tensor([1., 1.]), {})
    """

    def __init__(self) -> None:
        self._states: dict[int, Groups] = {}

    def get(self, client: int) -> Groups:
        """A client's groups of tensors; empty for one that has none yet."""
        return self._states.get(client, {})

    def put(self, client: int, groups: Groups) -> None:
        """Keeps copies, in place of what was there."""
        kept = {name: moved(group, "cpu") for name, group in groups.items() if group}
        if kept:
            self._states[client] = kept
        else:
            self._states.pop(client, None)

    def keep(self, group: str) -> None:
        """Forgets all groups of all clients but this one."""
        kept = {client: {group: s[group]} for client, s in self._states.items() if group in s}
        self._states = kept

    def __len__(self) -> int:
        return len(self._states)

    def state_dict(self) -> dict[int, Groups]:
        """All states by client."""
        return dict(self._states)

    def load_state_dict(self, states: dict[int, Groups]) -> None:
        """Takes these states, and forgets all others."""
        self._states = dict(states)


def as_lists(
    groups: Groups, names: list[str], device: torch.device, copy: bool = False
) -> dict[str, list[Tensor]]:
    """Groups as lists in the order of `names`; copies, if they may be edited."""
    return {key: [group[name].to(device, copy=copy) for name in names] for key, group in groups.items()}


def as_tensors(lists: dict[str, list[Tensor]], names: list[str]) -> dict[str, Tensors]:
    """The way back."""
    return {key: dict(zip(names, tensors, strict=True)) for key, tensors in lists.items()}
