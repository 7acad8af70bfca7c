"""One round as an algorithm's server half sees it: verbs over the cohort, and means over the replies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lkd.federated.client import Client, Part
from lkd.federated.mean import Averaged, RunningSum
from lkd.federated.messages import Message, Reply
from lkd.federated.ranks import Ranks
from lkd.federated.rules import Rule
from lkd.federated.tensors import Groups, Tensors, all_finite

Exchange = Callable[[str, dict[Client, Message]], Iterator[Reply]]


class TooFewClientsError(RuntimeError):
    """Fewer clients succeeded than a round needs."""


@dataclass
class Record:
    """A client's part in a round, for reports; `seconds` are this process's, bytes those of its messages."""

    client: int
    name: str
    samples: int
    steps: int = 0
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class Round:
    """The verbs of a round. Every rank has one, with its share of the clients; sums join the ranks.

    Args:
        index: Number of the round, from 0.
        cohort: All clients that work in this round, over all ranks, by id.
        population: Number of all registered clients.
        x: The server's shared weights.
        buffers: The server's shared buffers.
        exchange: The engine.
        steps: Optimizer steps that a client is to make in this round.
        uniform: Whether all clients weigh the same.
        rule: A robust rule for the change of the weights instead of the weighted mean.
        min_clients: Fewer successful clients than this stop the run.
        ranks: The processes.
        sums: Accumulators of earlier rounds, to be used again.
        on_record: Told of every client that is done, for progress.
    """

    def __init__(
        self,
        index: int,
        cohort: Sequence[Client],
        population: int,
        x: Tensors,
        buffers: Tensors,
        exchange: Exchange,
        steps: Callable[[Client], int],
        uniform: bool = False,
        rule: Rule | None = None,
        min_clients: int = 1,
        ranks: Ranks | None = None,
        sums: dict[str, RunningSum] | None = None,
        on_record: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.index, self.population, self.x = index, population, x
        self.cohort = {client.id: client for client in cohort}
        self._plan = steps
        self.steps = {client.id: steps(client) for client in cohort}
        self._buffers, self._exchange, self._uniform = buffers, exchange, uniform
        self._rule, self._min_clients, self._on_record = rule, min_clients, on_record
        self._ranks = ranks or Ranks()
        self.records: dict[int, Record] = {}
        self._cause: Exception | None = None
        self._sums = {} if sums is None else sums
        self._new_buffers = self._sum("buffers", buffers)
        self._ruled_buffers: Tensors = {}

    def train(self, send: Groups | None = None, numbers: dict[str, float] | None = None) -> Iterator[Reply]:
        """Lets the clients train from x; yields the replies of this rank's clients that succeeded.

        Args:
            send: Groups of tensors, named like x, that clients get beside x.
            numbers: Numbers that they get.
        """
        planned = {i: {"steps": float(steps), **(numbers or {})} for i, steps in self.steps.items()}
        for reply in self._call("train", {"buffers": self._buffers, **(send or {})}, planned):
            if self._buffers:
                self._new_buffers.add(reply.tensors["buffers"], self.weight(reply))
            yield reply

    def train_pooled(self) -> Iterator[Reply]:
        """Lets one client train that holds the data of the whole cohort; it goes by the first one's id."""
        if not self.cohort:
            return
        first, *others = self.cohort.values()
        pooled = first.pooled(others)
        self.cohort, self.steps = {pooled.id: pooled}, {pooled.id: self._plan(pooled)}
        self._min_clients = 1
        yield from self.train()

    def gradient(self, at: Tensors | None = None) -> Iterator[Reply]:
        """The clients' full gradients at x, or at another point; the group is `"gradient"`."""
        yield from self._call("gradient", {"buffers": self._buffers, "x": self.x if at is None else at}, {})

    def _call(self, verb: str, send: Groups, numbers: dict[int, dict[str, float]]) -> Iterator[Reply]:
        failed = {i for i, record in self.records.items() if record.error}
        messages = {
            client: Message({"x": self.x, **send}, {"round": float(self.index), **numbers.get(i, {})})
            for i, client in self.cohort.items()
            if i not in failed and self._ranks.owns(i)
        }
        for reply in self._exchange(verb, messages):
            client = self.cohort[reply.client]
            record = self.records.setdefault(client.id, Record(client.id, client.name, client.num_samples))
            record.error = reply.error or self._fault(reply)
            self._cause = self._cause or reply.cause
            record.seconds += reply.seconds
            record.bytes_down += messages[client].nbytes
            if not record.error:
                record.bytes_up += reply.nbytes
                record.steps += int(reply.numbers.get("steps", 0))
                record.metrics.update(reply.metrics)
            if verb == "train" or record.error:
                self._on_record(record)
            if not record.error:
                yield reply

    def _fault(self, reply: Reply) -> str:
        """What is wrong with a reply, in a sentence; a server believes nobody."""
        for group, tensors in reply.tensors.items():
            like = self._buffers if group == "buffers" else self.x
            if tensors.keys() != like.keys():
                return f"its {group} does not have the server's names"
            for name, tensor in tensors.items():
                want = like[name]
                if tensor.shape != want.shape or tensor.dtype != want.dtype:
                    return (
                        f"its {group} {name} is {tuple(tensor.shape)} of {tensor.dtype}, "
                        f"not {tuple(want.shape)} of {want.dtype}"
                    )
            if not all_finite(tensors.values()):
                return f"its {group} is not finite (NaN or infinite)"
        return ""

    def evaluate(self, part: Part) -> None:
        """Lets the clients measure their models on their own data; `all_records` then has the metrics."""
        numbers = {i: {"test": float(part == "test")} for i in self.cohort}
        for _ in self._call("evaluate", {"buffers": self._buffers}, numbers):
            pass

    def client(self, reply: Reply) -> Client:
        """Who replied."""
        return self.cohort[reply.client]

    def weight(self, reply: Reply) -> float:
        """A reply's weight in a mean: its client's samples, or 1."""
        return 1.0 if self._uniform else float(self.client(reply).num_samples)

    def mean(
        self,
        replies: Iterable[Reply],
        *groups: str,
        numbers: Sequence[str] = (),
        weight: Callable[[Reply], float] | None = None,
    ) -> Groups:
        """Weighted mean over the replies of all ranks; they stream, so memory is O(model).

        With a robust rule, the rule decides on the group `"delta"`, with the change of the buffers, whatever the
        weights; it protects nothing else, so nothing else may be averaged then.

        Args:
            replies: The replies.
            *groups: Which groups of tensors, named like x. Default `"delta"`.
            numbers: Which numbers; they are in the result's group `"numbers"`, with the sum of all weights, `"weight"`.
            weight: Weight of a reply; default `Round.weight`.

        Raises:
            TooFewClientsError: If fewer than `min_clients` replied.
            ValueError: If there is a robust rule, and more to average than it protects.
        """
        if self._rule is not None and (groups not in ((), ("delta",)) or numbers):
            raise ValueError(
                f"robust={type(self._rule).__name__} protects the change of the weights alone, but this algorithm also averages "
                f"{', '.join(repr(g) for g in (*groups, *numbers) if g != 'delta')} of the clients; use FedAvg or FedProx with it."
            )
        return self._reduce(replies, groups or ("delta",), numbers, weight or self.weight, RunningSum.mean)

    def sum(self, replies: Iterable[Reply], *groups: str, weight: Callable[[Reply], float]) -> Groups:
        """The weighted sum, otherwise as `mean`; it knows no robust rule."""
        if self._rule is not None:
            raise ValueError(
                f"robust={type(self._rule).__name__} takes the place of a mean, but this algorithm needs a sum whose "
                "weights do not add up to one; use FedAvg or FedProx with it."
            )
        return self._reduce(replies, groups or ("delta",), (), weight, RunningSum.sum)

    def _reduce(
        self,
        replies: Iterable[Reply],
        groups: Sequence[str],
        numbers: Sequence[str],
        weight: Callable[[Reply], float],
        result: Callable[[RunningSum], Tensors],
    ) -> Groups:
        zeros = {f"numbers/{name}": torch.zeros((), dtype=torch.float64) for name in numbers}
        kind = " ".join((*groups, *numbers))
        total = self._sum(kind, {f"{g}/{n}": t for g in groups for n, t in self.x.items()} | zeros)
        robust = self._rule is not None
        updates: list[tuple[int, Tensor]] = []
        for reply in replies:
            scalars = {
                f"numbers/{name}": torch.tensor(reply.numbers[name], dtype=torch.float64) for name in numbers
            }
            for group in groups:
                if group not in reply.tensors:
                    raise ValueError(
                        f"the replies have no group {group!r}, only {', '.join(map(repr, reply.tensors))}: `finish` has to return it."
                    )
            total.add(
                {f"{g}/{n}": reply.tensors[g][n] for g in groups for n in self.x} | scalars, weight(reply)
            )
            if robust:
                buffers = reply.tensors["buffers"]
                # the change of the buffers: a rule is made for changes, clipping would shrink the statistics themselves
                moved = {n: buffers[n] - before for n, before in self._buffers.items()}
                updates.append((reply.client, _flatten([*reply.tensors["delta"].values(), *moved.values()])))
        if self._ranks.world_size > 1:
            total.gather(self._ranks.gather_tensors, self._ranks.device)
        if total.count < max(1, self._min_clients):
            raise TooFewClientsError(self._too_few(total.count)) from self._cause
        flat = result(total)
        found: Groups = Averaged({g: {n: flat[f"{g}/{n}"] for n in self.x} for g in groups})
        found["numbers"] = {name: flat[f"numbers/{name}"] for name in numbers}
        found["numbers"]["weight"] = torch.tensor(total.weight, dtype=torch.float64)
        if robust:
            found["delta"], changes = self._by_rule(updates)
            self._ruled_buffers = {n: before + changes[n] for n, before in self._buffers.items()}
        return found

    def mean_buffers(self) -> Tensors:
        """The buffers that `train` brought back, joined in the same way; nothing where there are none."""
        if not self._buffers:
            return {}
        if self._rule is not None:
            return self._ruled_buffers
        if self._ranks.world_size > 1:
            self._new_buffers.gather(self._ranks.gather_tensors, self._ranks.device)
        return self._new_buffers.mean() if self._new_buffers.count else {}

    def _sum(self, kind: str, like: Tensors) -> RunningSum:
        if kind not in self._sums:
            self._sums[kind] = RunningSum(like)
        return self._sums[kind].reset()

    def _by_rule(self, updates: list[tuple[int, Tensor]]) -> tuple[Tensors, Tensors]:
        """The rule's change of weights and buffers, on which it decides together."""
        assert self._rule is not None
        everyone = sorted(
            (u for part in self._ranks.gather_objects(updates) for u in part), key=lambda update: update[0]
        )
        flat = self._rule(torch.stack([update.to(self._ranks.device) for _, update in everyone]))
        tensors = [*self.x.items(), *self._buffers.items()]
        parts = flat.split([tensor.numel() for _, tensor in tensors])
        joined = [(n, p.view_as(t).to(t)) for p, (n, t) in zip(parts, tensors, strict=True)]
        return dict(joined[: len(self.x)]), dict(joined[len(self.x) :])

    def all_records(self) -> list[Record]:
        """The records of all ranks, by client."""
        everyone = [r for part in self._ranks.gather_objects(list(self.records.values())) for r in part]
        return sorted(everyone, key=lambda record: record.client)

    def _too_few(self, count: int) -> str:
        errors = [f"client {r.name}: {r.error}" for r in self.all_records() if r.error]
        none = "no more could be reached" if self.cohort else "nobody was there"
        why = "; ".join(errors[:3]) + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")
        return (
            f"round {self.index}: {count} of {len(self.cohort)} clients succeeded, and min_clients={self._min_clients} are "
            f"needed ({why or none}); the last checkpoint is intact, and the run resumes from it."
        )


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
