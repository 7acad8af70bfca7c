"""A client of a stack, and the tensors of several of them as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lkd.federated.client.context import ClientView
from lkd.federated.client.verbs import BESIDE, MEMORY, OWN
from lkd.federated.client.worker import Worker
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Message
from lkd.federated.protocol.tensors import Groups, Lists, Tensors


@dataclass
class Member:
    """A client of a stack.

    Attributes:
        data: The client's data.
        message: Message to the client.
        kept: What the client keeps from round to round.
        seed: Seed of the client's work in this round.
    """

    data: ClientData
    message: Message
    kept: Groups
    seed: int

    @property
    def state(self) -> Groups:
        """What the algorithm keeps of the client, in the shapes of the weights."""
        return {k: g for k, g in self.kept.items() if k not in BESIDE}

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The names of all that it was sent and keeps, which clients of a stack have in common."""
        message = self.message
        groups = (self.state, message.tensors, message.knowledge, self.kept.get(MEMORY, {}))
        return (*(tuple(sorted(group)) for group in groups), str(message.config))

    def view(self, device: torch.device) -> ClientView:
        """Returns what the client's algorithm sees of it alone."""
        sent, kept = self.message.knowledge, self.kept.get(MEMORY, {})
        return ClientView(
            self.message.config,
            self.data,
            self.seed,
            {name: tensor.to(device) for name, tensor in sent.items()},
            {name: tensor.to(device) for name, tensor in kept.items()},
        )


def tensors_of(members: Sequence[Member], worker: Worker) -> Tensors:
    """Joins all trainable weights and buffers, `(K, ...)`."""
    found: Tensors = {}
    for name in worker.moving_names:
        values, like = [_value(worker, member, name) for member in members], worker.tensors[name]
        if all(value is values[0] for value in values):
            found[name] = values[0].to(like).expand(len(values), *like.shape).clone()
        else:
            found[name] = torch.stack([value.to(like) for value in values])
    return found


def sent_to(members: Sequence[Member], worker: Worker) -> Lists:
    """Joins what the server sent, each group as a list in the order of the shared weights."""
    groups = [name for name in members[0].message.tensors if name != "buffers"]
    return {name: _list([m.message.tensors[name] for m in members], worker) for name in groups}


def states_of(members: Sequence[Member], worker: Worker) -> Lists:
    """Joins what the algorithm keeps of the clients, likewise, all `(K, ...)`."""
    return {
        name: [torch.stack([m.state[name][n] for m in members]).to(worker.tensors[n]) for n in worker.shared]
        for name in members[0].state
    }


def _value(worker: Worker, member: Member, name: str) -> Tensor:
    sent = member.message.tensors
    for group in (member.kept.get(OWN, {}), sent.get("buffers", {}), sent["x"]):
        if name in group:
            return group[name]
    value: Tensor = worker.tensors[name].detach()
    return value


def _list(groups: Sequence[Tensors], worker: Worker) -> list[Tensor]:
    """A group of each client as a list; a tensor that they have in common is not repeated."""
    found = []
    for name in worker.shared:
        like = worker.tensors[name].detach()
        values = [group.get(name, like) for group in groups]
        same = all(value is values[0] for value in values)
        found.append(values[0].to(like) if same else torch.stack([value.to(like) for value in values]))
    return found
