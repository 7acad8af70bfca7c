"""One stack: the messages to several clients become one training, and that their replies."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lkd.federated.client.batches import passes
from lkd.federated.client.checks import check_lists
from lkd.federated.client.context import SCRATCH, ClientContext
from lkd.federated.client.host import Host, failed
from lkd.federated.client.stacked.training import StackedLoop
from lkd.federated.client.traces import switches
from lkd.federated.client.verbs import ATTRIBUTES, MEMORY, NOT_FINITE, OWN, SCHEDULE
from lkd.federated.client.worker import Worker
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Groups, Lists, Tensors, is_inexact


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
        """What the algorithm keeps of the client."""
        return {k: g for k, g in self.kept.items() if k not in (OWN, MEMORY, SCHEDULE, ATTRIBUTES)}


class ChangedError(Exception):
    """A module that keeps something of a step, which then belongs to several clients."""


def train_stack(host: Host, members: Sequence[Member]) -> list[Reply]:
    """Trains several clients together, and stores what each keeps.

    Args:
        host: The client side of the federation.
        members: The clients: of one architecture, with equal numbers of steps and equal groups of tensors.

    Raises:
        ChangedError: If the module keeps something of the training; nothing is stored then.
    """
    slot = host.slots[host.kind_of(members[0].data.id)]
    algorithm, first = host.algorithm, members[0]
    round, steps = first.message.config["round"], first.message.config["steps"]
    with switches(), host.verbs.apart(slot.module) as traces:
        before = traces.contents(private=True)
        slot.worker.load(first.message.tensors["x"], first.message.tensors.get("buffers", {}), None)
        seed_everything(derive(host.seed, round, first.data.id, len(members)), slot.module.device)
        slot.local_optimizer.enter(round, steps, {})
        slot.local_optimizer.begin_client()
        tensors = _tensors(slot.worker, members)
        ordered = [functools.partial(m.data.ordered_batches, "train") for m in members]
        loop = StackedLoop(slot, tensors, ordered)
        x = _lists([m.message.tensors["x"] for m in members], slot.worker)
        received = {
            key: _lists([m.message.tensors[key] for m in members], slot.worker)
            for key in first.message.tensors
            if key not in ("x", "buffers")
        }
        state = {
            key: [
                torch.stack([m.state[key][n] for m in members]).to(p)
                for n, p in zip(loop.worker.shared, loop.worker.parameters, strict=True)
            ]
            for key in first.state
        }
        context = ClientContext(loop, x, received, state, first.message.config, _Nobody(), -1)  # type: ignore[arg-type]
        vars(slot.module)[SCRATCH] = context.scratch
        algorithm.begin(context)
        loop.train([passes(m.data, m.seed) for m in members], context, algorithm.correction())
        with torch.no_grad():
            who = type(algorithm).__name__
            what = f"what {who}.finish returns"
            extra = check_lists(algorithm.finish(context), what, context.params, True)
            check_lists(context.state, f"context.state of {who}", context.params, False)
            _check_stacked(context, who, len(members))
            if changed := traces.changed(before, but=(SCRATCH,)):
                raise ChangedError(f"training changes {', '.join(changed[:3])}")
            delta = [p - start for p, start in zip(context.params, context.x, strict=True)]
        return _replies(host, members, slot.worker, loop, context, {"delta": delta, **extra})


def _tensors(worker: Worker, members: Sequence[Member]) -> Tensors:
    """All trainable weights and buffers, those of each client stacked."""
    found: Tensors = {}
    for name in worker.moving_names:
        values = [_value(worker, member, name) for member in members]
        found[name] = _joined(values, worker.tensors[name])
    return found


def _value(worker: Worker, member: Member, name: str) -> Tensor:
    sent = member.message.tensors
    for group in (member.kept.get(OWN, {}), sent.get("buffers", {}), sent["x"]):
        if name in group:
            return group[name]
    value: Tensor = worker.tensors[name].detach()
    return value


def _lists(groups: Sequence[Tensors], worker: Worker) -> list[Tensor]:
    """A group of each client as a list in the order of the shared weights; a common tensor is not repeated."""
    found = []
    for name in worker.shared:
        like = worker.tensors[name].detach()
        values = [group.get(name, like) for group in groups]
        same = all(value is values[0] for value in values)
        found.append(values[0].to(like) if same else torch.stack([value.to(like) for value in values]))
    return found


def _replies(
    host: Host,
    members: Sequence[Member],
    worker: Worker,
    loop: StackedLoop,
    context: ClientContext,
    groups: Lists,
) -> list[Reply]:
    names, logs, replies = worker.shared, loop.log.compute(), []
    own = [name for name in worker.own if name in loop.leaves]
    checked = [
        *[t for ts in groups.values() for t in ts],
        *[t for ts in context.state.values() for t in ts],
    ]
    finite = _finite([*checked, *[loop.leaves[name] for name in own]], len(members))
    metrics = {"steps": float(context.steps), **context.reply_metrics}
    sent = {key: [t.unbind() for t in tensors] for key, tensors in groups.items()}
    kept = {key: [t.unbind() for t in tensors] for key, tensors in context.state.items()}
    buffers = {name: loop.buffers[name].unbind() for name in worker.buffers}
    everything = {**loop.leaves, **loop.buffers}
    owned = {name: everything[name].unbind() for name in worker.own}
    for k, member in enumerate(members):
        host.remember(member.data.id)
        error = loop.looks.errors.get(k) or (None if finite[k] else FloatingPointError(NOT_FINITE))
        if error is not None:
            replies.append(failed(error))
            continue
        state: Groups = {
            key: {name: rows[k] for name, rows in zip(names, tensors, strict=True)}
            for key, tensors in kept.items()
        }
        host.store.put(member.data.id, {**state, OWN: {name: rows[k] for name, rows in owned.items()}})
        tensors = {
            key: {name: rows[k] for name, rows in zip(names, lists, strict=True)}
            for key, lists in sent.items()
        }
        tensors["buffers"] = {name: rows[k] for name, rows in buffers.items()}
        replies.append(Reply(tensors=tensors, metrics=dict(metrics), logs=logs[k]))
    return replies


class _Nobody:
    """Stands where an algorithm looks for its one client."""

    def ordered_batches(self, part: str) -> tuple[()]:
        """Gives nothing: `StackedLoop.full_gradient` asks the clients themselves."""
        return ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"context.client.{name}: a stack has no single client")


def _check_stacked(context: ClientContext, who: str, clients: int) -> None:
    """Refuses what an algorithm tells or keeps in a form that cannot be dealt out to the clients."""
    if context.reply_tensors or context.memory:
        raise ValueError(f"{who} replies or keeps tensors of other shapes than the weights")
    for name, tensors in context.state.items():
        if any(tensor.shape[:1] != (clients,) for tensor in tensors):
            raise ValueError(
                f"context.state[{name!r}] of {who} has no leading dimension of {clients} clients"
            )


def _joined(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """K tensors as one `(K, ...)`, a copy."""
    if all(value is values[0] for value in values):
        return values[0].to(like).expand(len(values), *like.shape).clone()
    return torch.stack([value.to(like) for value in values])


def _finite(tensors: Sequence[Tensor], clients: int) -> list[bool]:
    """Whether all that belongs to each of K clients is finite."""
    found = torch.ones(clients, dtype=torch.bool)
    for tensor in tensors:
        if is_inexact(tensor) and tensor.numel():
            found &= tensor.reshape(clients, -1).isfinite().all(1).cpu()
    return found.tolist()
