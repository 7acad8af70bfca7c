"""A cohort's training, stacked where that is possible, and client by client where it is not."""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lkd.federated.client.batches import passes
from lkd.federated.client.checks import check_lists
from lkd.federated.client.context import SCRATCH, ClientContext
from lkd.federated.client.host import Host
from lkd.federated.client.single_samples import normalizes
from lkd.federated.client.stacked.reasons import why_not
from lkd.federated.client.stacked.training import StackedLoop
from lkd.federated.client.traces import switches
from lkd.federated.client.verbs import ATTRIBUTES, MEMORY, OWN, SCHEDULE
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Groups, Lists, Tensors, is_inexact


@dataclass
class _Member:
    """A client of a stack."""

    data: ClientData
    message: Message
    kept: Groups
    seed: int

    @property
    def state(self) -> Groups:
        return {k: g for k, g in self.kept.items() if k not in (OWN, MEMORY, SCHEDULE, ATTRIBUTES)}


class StackedCohort:
    """Answers for the clients of a process, training those that are alike together.

    Alike are clients of one architecture that make the same number of steps and keep the same groups of
    tensors. The first client of an architecture trains by itself: it shows whether the module keeps numbers
    or notes of its own, which a stack could not. So do clients whose stack fails.

    Args:
        host: The client side of the federation.
        most: Most clients of one stack.
    """

    def __init__(self, host: Host, most: int) -> None:
        self.host, self.most = host, most
        self.not_stacked: dict[int, str] = {}  # why, by architecture
        self._shown: set[int] = set()  # architectures of which a client has trained by itself
        self._normalizes: list[bool] = []  # whether a batch of one sample may be too few

    def prepare(self) -> None:
        """Learns which architectures can be stacked.

        Raises:
            ValueError: If none can.
        """
        self._shown.clear()
        self._normalizes = [normalizes(slot.module) for slot in self.host.slots]
        found = {kind: why_not(slot, self.host.algorithm) for kind, slot in enumerate(self.host.slots)}
        self.not_stacked = {kind: why for kind, why in found.items() if why is not None}
        some = self.not_stacked if len(self.not_stacked) < len(found) else {}
        for kind, why in some.items():
            self._leave(kind, why)
        if len(self.not_stacked) == len(found):
            raise ValueError(
                f"engine=Stacked: {self.not_stacked[0]}; take engine=Loop(), which trains one client after the other."
            )

    def train(self, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        """Trains the clients, and yields their replies.

        Args:
            messages: Message to each client, by its id.
            timeout: Seconds that a client may take; a stack of K may take K times as long.
        """
        waiting = dict(messages)
        for client in list(waiting):
            kind = self.host.kind_of(client)
            if kind in self.not_stacked or kind not in self._shown:
                yield self._alone(client, waiting.pop(client), timeout)
        data: dict[int, ClientData] = {}
        for client, message in list(waiting.items()):
            try:
                data[client] = self.host.data(client, message)
            except Exception:  # the loop makes a reply of it
                yield self._alone(client, waiting.pop(client), timeout)
        for stack in self._stacks(waiting, data):
            alone = [m for m in stack if not self._fits(m)] if len(stack) > 1 else stack
            together = [m for m in stack if m not in alone]
            for member in alone:
                yield self._alone(member.data.id, member.message, timeout)
            yield from self._together(together, timeout)

    def _alone(self, client: int, message: Message, timeout: float | None) -> Reply:
        reply = self.host.answer("train", client, message, timeout)
        kind = self.host.kind_of(client)
        if kind not in self._shown and not reply.error and message.config.get("steps", 0):
            self._shown.add(kind)
            kept = self.host.store.get(client)
            moving = self.host.slots[kind].worker.moving_names
            beside = [*kept.get(ATTRIBUTES, {}), *kept.get(MEMORY, {})]
            beside += [name for name in kept.get(OWN, {}) if name not in moving]  # frozen, and yet changed
            changed = self.host.verbs.changed.get(kind, [])
            if changed:
                self._leave(kind, f"training changes {', '.join(changed[:3])}")
            elif beside:
                self._leave(kind, f"a client keeps {', '.join(beside[:3])} beside what it trains")
        return reply

    def _leave(self, kind: int, why: str) -> None:
        self.not_stacked[kind] = why
        name = type(self.host.slots[kind].module).__name__
        rank_zero_warn(f"engine=Stacked: clients of {name} are trained one after the other, since {why}.")

    def _stacks(
        self, messages: Mapping[int, Message], data: Mapping[int, ClientData]
    ) -> Iterator[list[_Member]]:
        alike: dict[Any, list[_Member]] = {}
        for client, message in messages.items():
            kind, steps = self.host.kind_of(client), message.config.get("steps", 0)
            member = _Member(
                data[client],
                message,
                self.host.store.get(client),
                derive(self.host.seed, message.config["round"], client),
            )
            key = (kind, steps, *map(str, (sorted(member.state), sorted(message.tensors), message.config)))
            alike.setdefault(key, []).append(member)
        for members in alike.values():
            for start in range(0, len(members), self.most):
                yield members[start : start + self.most]

    def _fits(self, member: _Member) -> bool:
        """Whether a client has nothing that a stack cannot have."""
        size = getattr(member.data, "smallest_batch", lambda ordered: 2)
        kind = self.host.kind_of(member.data.id)
        moving = self.host.slots[kind].worker.moving_names
        return (
            member.message.config.get("steps", 0) > 0
            and not member.kept.get(MEMORY)
            and not member.message.knowledge
            and not any(name not in moving for name in member.kept.get(OWN, {}))
            and not (self._normalizes[kind] and size(False) == 1)
        )

    def _together(self, members: Sequence[_Member], timeout: float | None) -> Iterator[Reply]:
        if not members:
            return
        kind = self.host.kind_of(members[0].data.id)
        started = time.perf_counter()
        try:
            with self.host.clock.running(None if timeout is None else timeout * len(members)):
                replies = self._train(members)
        except _ChangedError as error:  # what was computed may be of several clients: it is left
            self._leave(kind, str(error))
            for member in members:
                yield self._alone(member.data.id, member.message, timeout)
            return
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            replies = [self._alone(m.data.id, m.message, timeout) for m in members]
            if not any(reply.error for reply in replies):  # else one of them is at fault, and not the stack
                self._leave(kind, f"a stack of {len(members)} of them fails ({why})")
            yield from replies
            return
        seconds = (time.perf_counter() - started) / len(members)
        for member, reply in zip(members, replies, strict=True):
            reply.client, reply.round = member.data.id, member.message.config["round"]
            reply.seconds = seconds
            yield reply

    def _train(self, members: Sequence[_Member]) -> list[Reply]:
        slot = self.host.slots[self.host.kind_of(members[0].data.id)]
        algorithm, first = self.host.algorithm, members[0]
        round, steps = first.message.config["round"], first.message.config["steps"]
        with switches(), self.host.verbs.apart(slot.module) as traces:
            before = traces.contents(private=True)
            slot.worker.load(first.message.tensors["x"], first.message.tensors.get("buffers", {}), None)
            seed_everything(derive(self.host.seed, round, first.data.id, len(members)), slot.module.device)
            slot.worker.seed(derive(self.host.seed, round, first.data.id))
            slot.local_optimizer.enter(round, steps, {})
            slot.local_optimizer.begin_client()
            tensors = self._tensors(slot.worker, members)
            ordered = [functools.partial(m.data.ordered_batches, "train") for m in members]
            loop = StackedLoop(slot, tensors, ordered)
            x = self._lists([m.message.tensors["x"] for m in members], slot.worker, loop)
            received = {
                key: self._lists([m.message.tensors[key] for m in members], slot.worker, loop)
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
                    raise _ChangedError(f"training changes {', '.join(changed[:3])}")
                delta = [p - start for p, start in zip(context.params, context.x, strict=True)]
            return self._replies(members, slot.worker, loop, context, {"delta": delta, **extra})

    def _tensors(self, worker: Any, members: Sequence[_Member]) -> Tensors:
        """All trainable weights and buffers, those of each client stacked."""
        found: Tensors = {}
        for name in worker.moving_names:
            values = [self._value(worker, member, name) for member in members]
            found[name] = _joined(values, worker.tensors[name])
        return found

    @staticmethod
    def _value(worker: Any, member: _Member, name: str) -> Tensor:
        sent = member.message.tensors
        for group in (member.kept.get(OWN, {}), sent.get("buffers", {}), sent["x"]):
            if name in group:
                return group[name]
        value: Tensor = worker.tensors[name].detach()
        return value

    @staticmethod
    def _lists(groups: Sequence[Tensors], worker: Any, loop: StackedLoop) -> list[Tensor]:
        """A group of each client as a list in the order of the shared weights; a tensor that all have is not repeated."""
        found = []
        for name in worker.shared:
            like = worker.tensors[name].detach()
            values = [group.get(name, like) for group in groups]
            same = all(value is values[0] for value in values)
            found.append(values[0].to(like) if same else torch.stack([value.to(like) for value in values]))
        return found

    def _replies(
        self,
        members: Sequence[_Member],
        worker: Any,
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
        owned = {name: {**loop.leaves, **loop.buffers}[name].unbind() for name in worker.own}
        for k, member in enumerate(members):
            self.host.remember(member.data.id)
            if not finite[k]:
                error = "FloatingPointError: the local model is not finite (NaN or infinite)"
                replies.append(Reply(error=error, cause=FloatingPointError(error.partition(": ")[2])))
                continue
            state: Groups = {
                key: {name: rows[k] for name, rows in zip(names, tensors, strict=True)}
                for key, tensors in kept.items()
            }
            self.host.store.put(
                member.data.id, {**state, OWN: {name: rows[k] for name, rows in owned.items()}}
            )
            tensors = {
                key: {name: rows[k] for name, rows in zip(names, lists, strict=True)}
                for key, lists in sent.items()
            }
            tensors["buffers"] = {name: rows[k] for name, rows in buffers.items()}
            replies.append(Reply(tensors=tensors, metrics=dict(metrics), logs=logs[k]))
        return replies


class _ChangedError(Exception):
    """A module that keeps something of a step, which then belongs to several clients."""


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
