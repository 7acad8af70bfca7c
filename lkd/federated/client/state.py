"""What clients keep between rounds, such as control variates and personal layers."""

import torch
from torch import Tensor

from lkd.federated.protocol.tensors import Groups, Tensors, moved


class ClientStore:
    """Store of the clients' states, on the CPU; a client without a state costs nothing.

    Attributes:
        mark: Number of the answer that is made next, where the server gives it one. Default 0.

    Example:
        >>> store = ClientStore()
        >>> store.put(3, {"c": {"w": torch.ones(2)}})
        >>> store.get(3)["c"]["w"], store.get(4)
        (tensor([1., 1.]), {})
    """

    def __init__(self) -> None:
        self._states: dict[int, Groups] = {}
        self._before: dict[int, tuple[int, Groups]] = {}
        self.mark = 0

    def remember(self, client: int) -> None:
        """Notes what a client keeps, before an answer that may be undone, under the `mark` of the answer."""
        self._before[client] = self.mark, self.get(client)

    def settle(self) -> None:
        """Accepts all answers so far, so that none of them can be undone."""
        self._before.clear()

    def undo(self, client: int, mark: int | None = None) -> None:
        """Restores what a client kept before its last answer, if that can be undone.

        Args:
            client: Id of the client.
            mark: Mark of the answer; if the last one has another, nothing is done. Default: any.
        """
        if client in self._before and mark in (None, self._before[client][0]):
            self.put(client, self._before.pop(client)[1])

    def get(self, client: int) -> Groups:
        """Returns a client's groups of tensors; empty for a client without a state."""
        return self._states.get(client, {})

    def put(self, client: int, groups: Groups) -> None:
        """Stores copies of a client's groups, in place of its former state."""
        kept = {name: moved(group, "cpu") for name, group in groups.items() if group}
        if kept:
            self._states[client] = kept
        else:
            self._states.pop(client, None)

    def keep(self, group: str) -> None:
        """Forgets all groups but this one, of all clients."""
        kept = {client: {group: s[group]} for client, s in self._states.items() if group in s}
        self._states = kept

    def __len__(self) -> int:
        return len(self._states)

    def state_dict(self) -> dict[int, Groups]:
        """Returns all states by client."""
        return dict(self._states)

    def load_state_dict(self, states: dict[int, Groups]) -> None:
        """Replaces all states by these."""
        self._states = dict(states)


def as_lists(
    groups: Groups, names: list[str], device: torch.device, copy: bool = False
) -> dict[str, list[Tensor]]:
    """Turns groups into lists in the order of `names`; copied, if they may be edited."""
    return {key: [group[name].to(device, copy=copy) for name in names] for key, group in groups.items()}


def as_tensors(lists: dict[str, list[Tensor]], names: list[str]) -> dict[str, Tensors]:
    """Turns lists in the order of `names` back into groups by name."""
    return {key: dict(zip(names, tensors, strict=True)) for key, tensors in lists.items()}
