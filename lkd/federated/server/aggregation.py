"""Aggregation of the clients' replies of a round, by mean, sum or robust rule."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensor_names import SharedNames
from lkd.federated.protocol.tensors import Groups, Tensors, as_real, as_type, moved
from lkd.federated.server.ranks import Ranks
from lkd.federated.server.robust import Rule
from lkd.federated.server.weighted_sum import Averaged, RunningSum
from lkd.federated.server.weighting import Weighing


@dataclass
class ClientReply:
    """Knowledge and numbers that a client replied in a round, as every rank has them.

    Attributes:
        client: Id of the client.
        samples: Its number of training samples.
        knowledge: Its tensors, on the CPU.
        metrics: The numbers that it replied.
    """

    client: int
    samples: int
    knowledge: Tensors
    metrics: dict[str, float]


class Reduction:
    """The half of a round that joins replies; a mean of a tensor is over the clients that have it.

    Args:
        x: The server's weights.
        buffers: The server's buffers.
        layouts: Layout of every architecture.
        layout_of: Gives the architecture of a reply's sender.
        client: Gives the sender of a reply.
        weighing: Gives a client's weight in a mean.
        enough: Is told how many clients are in a result, and raises if they are too few.
        rule: A robust rule in place of the weighted mean.
        ranks: The processes.
        sums: Accumulators of earlier rounds, which are reused.
    """

    def __init__(
        self,
        x: Tensors,
        buffers: Tensors,
        layouts: Sequence[SharedNames],
        layout_of: Callable[[Reply], int],
        client: Callable[[Reply], ClientInfo],
        weighing: Weighing,
        enough: Callable[[int], None],
        rule: Rule | None = None,
        ranks: Ranks | None = None,
        sums: dict[str, RunningSum] | None = None,
    ) -> None:
        self.rule, self._x, self._buffers = rule, x, buffers
        self._layouts, self._layout_of = layouts, layout_of
        self._client, self._weighing, self._enough = client, weighing, enough
        self._ranks = ranks or Ranks()
        self._sums = {} if sums is None else sums
        self._blocks = _blocks(list(x), [layout.weights for layout in layouts], weighing)
        self._buffer_blocks = _blocks(list(buffers), [layout.buffers for layout in layouts], weighing)
        self._new_buffers = [
            self._sum(f"buffers {i}", {n: buffers[n] for n in block.names}, wide=True)
            for i, block in enumerate(self._buffer_blocks)
        ]
        self._ruled_buffers: Tensors = {}
        self.absent: set[str] = set()  # weights that no client had among those that replied

    def add_buffers(self, reply: Reply) -> None:
        """Adds the buffers of a trained client."""
        layout = self._layout_of(reply)
        ours = {at: reply.tensors["buffers"][own] for own, at in self._layouts[layout].buffers.items()}
        client = self._client(reply)
        for block, total in zip(self._buffer_blocks, self._new_buffers, strict=True):
            weight = self._weighing(client) * self._weighing.share(client, block.modality)
            if layout in block.owners and weight > 0:
                total.add({name: ours[name] for name in block.names}, weight)

    def mean_buffers(self) -> Tensors:
        """Joins the added buffers as the weights are joined; empty where there are none."""
        if not self._buffers:
            return {}
        if self.rule is not None:
            return self._ruled_buffers
        found: Tensors = {}
        for total in self._new_buffers:
            self._join(total)
            found |= total.mean() if total.count else {}
        return found

    def reduce(
        self,
        replies: Iterable[Reply],
        groups: Sequence[str],
        metrics: Sequence[str],
        weight: Callable[[Reply], float],
        result: Callable[[RunningSum], Tensors],
    ) -> Groups:
        """Computes the weighted mean or sum of groups of tensors; see `ServerRound.mean`.

        Args:
            replies: The replies.
            groups: Names of the groups.
            metrics: Names of the metrics.
            weight: Gives the weight of a reply.
            result: Takes the result out of a running sum: its mean or its sum.
        """
        kind = " ".join((*groups, *metrics))
        zeros = {f"metrics/{name}": torch.zeros((), dtype=torch.float64) for name in metrics}
        totals = []
        for i, block in enumerate(self._blocks):
            like = {f"{g}/{n}": self._x[n] for g in groups for n in block.names} | (zeros if i == 0 else {})
            totals.append(self._sum(f"{kind} {i}", like))
        updates: list[tuple[int, Tensor]] = []
        plans: dict[tuple[int, ...], list[_Terms]] = {}
        for reply in replies:
            alike = (self._layout_of(reply), *(group in reply.tensors for group in groups))
            if alike not in plans:
                plans[alike] = self._plan(reply, groups)
            self._add(reply, totals, plans[alike], metrics, weight(reply))
            if self.rule is not None:
                updates.append((reply.client, self._update(reply)))
        for total in totals:
            self._join(total)
        first = totals[0]  # the block of what all architectures have, so it counts every reply
        self._enough(first.count)
        flat: Tensors = {}
        for block, total in zip(self._blocks, totals, strict=True):
            # weights of which no client, or no sample of their modality, is in this round do not change
            nothing = {f"{g}/{n}": torch.zeros_like(self._x[n]) for g in groups for n in block.names}
            flat |= result(total) if total.count else nothing
            self.absent |= set() if total.count else set(block.names)
        found: Groups = Averaged({g: {n: flat[f"{g}/{n}"] for n in self._x} for g in groups})
        found["metrics"] = {name: flat[f"metrics/{name}"] for name in metrics}
        found["metrics"]["weight"] = torch.tensor(first.weight, dtype=torch.float64)
        if self.rule is not None:
            found["delta"], changes = self._by_rule(updates)
            self._ruled_buffers = {n: before + changes[n] for n, before in self._buffers.items()}
        return found

    def _add(
        self,
        reply: Reply,
        totals: Sequence[RunningSum],
        plan: list["_Terms"],
        metrics: Sequence[str],
        weight: float,
    ) -> None:
        given = reply.tensors
        for (modality, terms), total in zip(plan, totals, strict=True):
            share = self._weighing.share(self._client(reply), modality) if modality else 1.0
            if terms is None or (not share and modality):
                continue
            tensors = {name: given[group][own] for name, group, own in terms}
            if metrics and total is totals[0]:
                tensors |= {
                    f"metrics/{n}": torch.tensor(reply.metrics[n], dtype=torch.float64) for n in metrics
                }
            total.add(tensors, weight * share)

    def _plan(self, reply: Reply, groups: Sequence[str]) -> list["_Terms"]:
        """Lists what is added of the replies of an architecture."""
        for group in groups:
            if group not in reply.tensors:
                raise ValueError(
                    f"the replies have no group {group!r}, only {', '.join(map(repr, reply.tensors))}: `finish` has to "
                    "return it."
                )
        layout = self._layout_of(reply)
        theirs = {at: own for own, at in self._layouts[layout].weights.items()}
        plan: list[_Terms] = []
        for block in self._blocks:
            terms = [
                (f"{g}/{n}", g, theirs[n]) for g in groups for n in block.names if layout in block.owners
            ]
            plan.append(_Terms(block.modality, terms if layout in block.owners else None))
        return plan

    def gather(self, replies: Iterable[Reply]) -> list[ClientReply]:
        """Collects the clients' knowledge of all ranks on every rank, ordered by client."""
        told = [
            ClientReply(r.client, self._client(r).num_samples, moved(r.knowledge, "cpu"), r.metrics)
            for r in replies
        ]
        everyone = [t for part in self._ranks.gather_objects(told) for t in part]
        self._enough(len(everyone))
        return sorted(everyone, key=lambda t: t.client)

    def _join(self, total: RunningSum) -> None:
        if self._ranks.world_size > 1:
            total.gather(self._ranks.gather_tensors, self._ranks.device)

    def _sum(self, kind: str, like: Tensors, wide: bool = False) -> RunningSum:
        if kind not in self._sums:
            self._sums[kind] = RunningSum(like, wide)
        return self._sums[kind].reset()

    def _update(self, reply: Reply) -> Tensor:
        """Flattens a client's change of weights and buffers for the rule.

        The rule gets changes of statistics, not statistics, which clipping would shrink. Complex numbers
        count as two real coordinates, so that distances and norms are right.
        """
        buffers, delta = reply.tensors["buffers"], reply.tensors["delta"]
        theirs = {at: own for own, at in self._layouts[self._layout_of(reply)].weights.items()}
        changes = [buffers[n] - before for n, before in self._buffers.items()]
        # by name: the order of a reply's tensors is the client's
        return torch.cat([as_real(t).flatten() for t in (*(delta[theirs[n]] for n in self._x), *changes)])

    def _by_rule(self, updates: list[tuple[int, Tensor]]) -> tuple[Tensors, Tensors]:
        """Applies the rule to weights and buffers together; returns the change of each."""
        assert self.rule is not None
        everyone = sorted(
            (u for part in self._ranks.gather_objects(updates) for u in part), key=lambda update: update[0]
        )
        flat = self.rule(torch.stack([update.to(self._ranks.device) for _, update in everyone]))
        tensors = [*self._x.items(), *self._buffers.items()]
        parts = flat.split([as_real(tensor).numel() for _, tensor in tensors])
        joined = [
            (n, as_type(p.view_as(as_real(t)).to(t.device), t.dtype))
            for p, (n, t) in zip(parts, tensors, strict=True)
        ]
        return dict(joined[: len(self._x)]), dict(joined[len(self._x) :])


class _Terms(NamedTuple):
    """What of an architecture's replies is added in a block."""

    modality: str
    tensors: (
        list[tuple[str, str, str]] | None
    )  # names in the sum, groups and clients' names; None if it has none


class _Block(NamedTuple):
    """Tensors that the same clients have, with the same weighting."""

    owners: frozenset[int]  # architectures that have them
    modality: str  # samples with it weight the tensors; "" for all samples
    names: list[str]


def _blocks(names: Sequence[str], layouts: Sequence[dict[str, str]], weighing: Weighing) -> list[_Block]:
    """Groups names by clients that have them and by modality; the first block is that of all clients."""
    everyone = frozenset(range(len(layouts)))
    blocks = {(everyone, ""): _Block(everyone, "", [])}
    having = [set(layout.values()) for layout in layouts]
    for name in names:
        key = frozenset(i for i, has in enumerate(having) if name in has), weighing.modality_of(name)
        blocks.setdefault(key, _Block(*key, [])).names.append(name)
    return list(blocks.values())
