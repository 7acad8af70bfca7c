"""What a stack has found, dealt out to its clients: what each replies, and what it keeps."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lkd.federated.client.host import Host, failed
from lkd.federated.client.stacked.context import StackedContext
from lkd.federated.client.stacked.member import Member
from lkd.federated.client.verbs import MEMORY, NOT_FINITE, OWN
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensors import Groups, Lists, NormedTensors, Tensors, as_real, is_inexact


@dataclass
class StackResult:
    """What the work of a stack gives.

    Attributes:
        groups: What the clients reply in the shapes of the shared weights, `(K, ...)`.
        metrics: Numbers of all their replies.
        keeps: Whether what the clients keep has changed.
        moves: Whether that is also their own layers and their memory, and not only the algorithm's state.
        trained: Whether they have trained: then they reply buffers and logs, and have to be finite.
    """

    groups: Lists
    metrics: dict[str, float]
    keeps: bool = False
    moves: bool = True
    trained: bool = False


def deal(host: Host, members: Sequence[Member], context: StackedContext, result: StackResult) -> list[Reply]:
    """Deals out what a stack has found, and stores what each client keeps.

    Args:
        host: The client side of the federation.
        members: The clients.
        context: Their context.
        result: What was found.

    Raises:
        ValueError: If the algorithm keeps what has no leading dimension of the clients; nothing is stored
            then.
    """
    loop, worker = context.loop, context.loop.slot.worker
    _check(context, type(host.algorithm).__name__)
    loop.looks.look()
    everything = {**loop.leaves, **loop.buffers}
    own = {name: everything[name] for name in worker.own if name in everything}
    frozen = {name: worker.tensors[name].detach() for name in worker.own if name not in everything}
    lengths = {key: _lengths(tensors, len(members)) for key, tensors in result.groups.items()}
    finite = [True] * len(members)
    if result.trained:
        trained = [tensor for name, tensor in own.items() if name in loop.leaves]
        kept_too = _lengths([*(t for group in context.state.values() for t in group), *trained], len(members))
        finite = [all(map(math.isfinite, each)) for each in zip(*lengths.values(), kept_too, strict=True)]
    sent, kept = _rows(result.groups, worker.shared), _rows(context.state, worker.shared)
    owned = _unbound(own)
    buffers = _unbound({name: loop.buffers[name] for name in worker.buffers}) if result.trained else {}
    logs = loop.log.compute() if result.trained else [{} for _ in members]
    replies = []
    for k, (member, view) in enumerate(zip(members, context.members, strict=True)):
        error = loop.looks.errors.get(k) or (None if finite[k] else FloatingPointError(NOT_FINITE))
        if error is not None:
            replies.append(failed(error))
            continue
        if result.keeps:
            others = {key: group for key, group in member.kept.items() if key not in member.state}
            if result.moves:
                mine = {**frozen, **{name: rows[k] for name, rows in owned.items()}}
                others |= {OWN: mine, MEMORY: view.memory}
            host.store.put(member.data.id, {**others, **_of(kept, k)})
        tensors: Groups = {key: NormedTensors(group, lengths[key][k]) for key, group in _of(sent, k).items()}
        if result.trained:
            tensors["buffers"] = {name: rows[k] for name, rows in buffers.items()}
        replies.append(
            Reply(tensors=tensors, metrics=dict(result.metrics), knowledge=view.reply_tensors, logs=logs[k])
        )
    return replies


Unbound = dict[str, tuple[Tensor, ...]]
"""Tensors of each client, by name."""


def _unbound(tensors: Tensors) -> Unbound:
    return {name: tensor.unbind() for name, tensor in tensors.items()}


def _rows(lists: Lists, names: Sequence[str]) -> dict[str, Unbound]:
    return {key: _unbound(dict(zip(names, tensors, strict=True))) for key, tensors in lists.items()}


def _of(groups: dict[str, Unbound], client: int) -> Groups:
    return {key: {name: rows[client] for name, rows in group.items()} for key, group in groups.items()}


def _check(context: StackedContext, who: str) -> None:
    """Refuses what an algorithm keeps in a form that cannot be dealt out to the clients."""
    clients = len(context.members)
    for name, tensors in context.state.items():
        if any(tensor.shape[:1] != (clients,) for tensor in tensors):
            raise ValueError(
                f"context.state[{name!r}] of {who} has no leading dimension of {clients} clients"
            )


def _lengths(tensors: Sequence[Tensor], clients: int) -> list[float]:
    """The norm of all that belongs to each of K clients, which is finite where all numbers are."""
    total = torch.zeros(clients, dtype=torch.float64)
    for tensor in tensors:
        if is_inexact(tensor) and tensor.numel():
            rows = as_real(tensor.detach()).reshape(clients, -1)
            found = torch.linalg.vector_norm(rows, dim=1).double()
            if not found.isfinite().all():  # squares may overflow, where numbers do not
                found = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
                found = found.nan_to_num(posinf=sys.float_info.max).where(rows.isfinite().all(1), torch.inf)
            total = total.hypot(found.cpu())
    return total.tolist()
