"""A round for an algorithm's server half: verbs over the cohort, and means over the replies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from lkd.federated.protocol.cache_use import CacheUse
from lkd.federated.protocol.client_data import NO_PUBLIC, ClientInfo, Part, PublicSamples
from lkd.federated.protocol.messages import Config, Reply
from lkd.federated.protocol.runtime import Runtime
from lkd.federated.protocol.tensor_names import SharedNames
from lkd.federated.protocol.tensors import Groups, Tensors
from lkd.federated.server.aggregation import ClientReply, Reduction
from lkd.federated.server.architectures import Architectures
from lkd.federated.server.calls import Calls, Configs, Exchange, Knowledge, own_part
from lkd.federated.server.ranks import Ranks
from lkd.federated.server.records import Record, Records
from lkd.federated.server.records import TooFewClientsError as TooFewClientsError
from lkd.federated.server.robust import Rule
from lkd.federated.server.weighted_sum import RunningSum
from lkd.federated.server.weighting import Weighing, Weighting

T = TypeVar("T")


class ServerRound:
    """Verbs of a round. Every rank has one such object, with its share of the clients; sums join the ranks.

    Args:
        index: Number of the round, from 0.
        cohort: All clients that work in this round, over all ranks.
        population: Number of all registered clients.
        architectures: The architectures, with the server's weights and buffers.
        exchange: The engine's exchange.
        runtime: Device and precision for the server's own training.
        ranks: The processes.
        steps: Gives the optimizer steps that a client is to make in this round. Default: none.
        weighting: How much the clients' replies count in a mean.
        rule: A robust rule for the change of the weights in place of the weighted mean.
        min_clients: With fewer successful clients the run stops.
        sums: Accumulators of earlier rounds, which are reused.
        on_record: Is told of every client that is done, for progress.
        seed: Seed of the server's draws.
        outlier_factor: How far a reply may be from the others, see `Federation`. Default: any distance.
        public: The server's copy of the public data; None if there are none.
        undo: Restores what a client kept before an answer that is not accepted.
    """

    def __init__(
        self,
        index: int,
        cohort: Sequence[ClientInfo],
        population: int,
        architectures: Architectures,
        exchange: Exchange,
        runtime: Runtime,
        ranks: Ranks,
        steps: Callable[[ClientInfo], int] = lambda client: 0,
        weighting: Weighting = "samples",
        rule: Rule | None = None,
        min_clients: int = 1,
        sums: dict[str, RunningSum] | None = None,
        on_record: Callable[[Record], None] = lambda record: None,
        seed: int = 0,
        outlier_factor: float | None = None,
        public: PublicSamples | None = None,
        undo: Callable[[int], None] = lambda client: None,
    ) -> None:
        self.index, self.population, self.seed = index, population, seed
        self.cohort = {client.id: client for client in cohort}
        self.steps = {client.id: steps(client) for client in cohort}
        self.x, self.kind_of, self.runtime = architectures.x, architectures.kind_of, runtime
        self.models, self._public = architectures.models, public
        self._buffers, self._layouts = architectures.buffers, architectures.layouts
        self._plan = steps
        self._weighing = Weighing(weighting, cohort, self.models)
        self._ranks, self._min_clients = ranks, min_clients
        self.records = Records(index, ranks)
        fewest = 0 if rule is None else rule.min_clients
        self._calls = Calls(
            index, exchange, architectures, ranks, self.records, on_record, undo, outlier_factor, fewest
        )
        self._reduction = Reduction(
            self.x,
            self._buffers,
            self._layouts,
            lambda reply: self.kind_of(reply.client),
            self.client,
            self._weighing,
            self._enough,
            rule,
            ranks,
            sums,
        )
        self._joined_buffers: Tensors | None = None

    def train(
        self,
        send: Groups | None = None,
        config: Configs | None = None,
        knowledge: Knowledge | None = None,
    ) -> Iterator[Reply]:
        """Lets the clients train from x; yields the replies of this rank's clients that succeeded.

        Args:
            send: Groups of tensors, named like x, that clients are sent beside x.
            config: Plain values, for all clients or for each.
            knowledge: Tensors of any name, for all clients or for each.
        """
        planned = {i: {"steps": steps, **own_part(i, config)} for i, steps in self.steps.items()}
        groups = {"buffers": self._buffers, **(send or {})}
        for reply in self._calls("train", self.cohort.values(), groups, planned, knowledge):
            if self._buffers:
                self._reduction.add_buffers(reply)
            yield reply

    def train_pooled(self) -> Iterator[Reply]:
        """Lets the cohort's first client train on the data of the whole cohort."""
        if not self.cohort:
            return
        first, others = next(iter(self.cohort.values())), {"others": list(self.cohort)[1:]}
        self.cohort = {first.id: first}
        for reply in self._calls("count", [first], {"x": {}}, {first.id: others}):
            held = reply.metrics
            pooled = replace(
                first,
                name="pooled",
                num_samples=int(held["samples"]),
                num_batches=int(held["batches"]),
                share=held["share"],
                probability=1.0,
                population=1,
            )
            self.cohort, self.steps = {first.id: pooled}, {first.id: self._plan(pooled)}
        self._min_clients = 1
        yield from self.train(config=others)

    def gradient(self, at: Tensors | None = None) -> Iterator[Reply]:
        """Collects the clients' full gradients at x, or at another point, in the group `"gradient"`."""
        groups = {"buffers": self._buffers, "x": self.x if at is None else at}
        yield from self._calls("gradient", self.cohort.values(), groups, {})

    def call(
        self,
        method: str,
        knowledge: Knowledge | None = None,
        to: Iterable[int] | None = None,
        config: Configs | None = None,
        weights: bool = True,
    ) -> Iterator[Reply]:
        """Lets clients run a method of the algorithm's client half, such as `"predict"`.

        Args:
            method: Name of the method. It is called with the `ClientContext` and leaves its answer in
                `context.reply_tensors`. Its changes of the client's own layers and memory are kept if it sets
                `context.save_state`.
            knowledge: Tensors of any name, for all clients or for each.
            to: Ids of the clients to ask. Default: the cohort.
            config: Plain values, for all clients or for each.
            weights: Whether the clients need the server's weights and buffers for it.
        """
        wanted = self.cohort.keys() if to is None else set(to)
        chosen = [client for i, client in self.cohort.items() if i in wanted]
        given: dict[int, Config] = {client.id: own_part(client.id, config) for client in chosen}
        send: Groups = {"buffers": self._buffers} if weights else {"x": {}}
        yield from self._calls(method, chosen, send, given, knowledge)

    def evaluate(self, part: Part) -> None:
        """Lets the clients measure their models on their own data; `all_records` then has the metrics."""
        config = {i: {"part": part} for i in self.cohort}
        for _ in self._calls("evaluate", self.cohort.values(), {"buffers": self._buffers}, config):
            pass

    @property
    def public(self) -> PublicSamples:
        """The server's copy of the public data.

        Raises:
            ValueError: If there are none.
        """
        if not self.cohort:
            self._enough(0)
        if self._public is None or not len(self._public):
            raise ValueError(NO_PUBLIC)
        return self._public

    def client(self, reply: Reply) -> ClientInfo:
        """Returns the client that sent a reply."""
        return self.cohort[reply.client]

    def weight(self, reply: Reply) -> float:
        """Returns a reply's weight in a mean: its client's samples, or 1."""
        return self._weighing(self.client(reply))

    def mean(
        self,
        replies: Iterable[Reply],
        *groups: str,
        metrics: Sequence[str] = (),
        weight: Callable[[Reply], float] | None = None,
    ) -> Groups:
        """Averages the replies of all ranks with weights, one after the other, so memory is O(model).

        A robust rule decides on the group `"delta"` together with the change of the buffers, whatever the
        weights. It protects nothing else, so nothing else may be averaged then.

        Args:
            replies: The replies.
            *groups: Names of the groups of tensors, which are named like x. Default `"delta"`.
            metrics: Names of metrics; the result has them in the group `"metrics"`, with the sum of all
                weights, `"weight"`.
            weight: Gives the weight of a reply. Default: `ServerRound.weight`.

        Raises:
            TooFewClientsError: If fewer than `min_clients` replied.
            ValueError: If there is a robust rule, and something else is to be averaged.
        """
        rule = self._reduction.rule
        if rule is not None and (groups not in ((), ("delta",)) or metrics):
            raise ValueError(
                f"aggregator={type(rule).__name__} protects the change of the weights alone, but this algorithm also averages "
                f"{', '.join(repr(g) for g in (*groups, *metrics) if g != 'delta')} of the clients; use FedAvg or FedProx with it."
            )
        return self._reduction.reduce(
            replies, groups or ("delta",), metrics, weight or self.weight, RunningSum.mean
        )

    def sum(self, replies: Iterable[Reply], *groups: str, weight: Callable[[Reply], float]) -> Groups:
        """Sums the replies with weights, otherwise like `mean`; not possible with a robust rule.

        Args:
            replies: The replies.
            *groups: Names of the groups of tensors. Default `"delta"`.
            weight: Gives the weight of a reply.

        Raises:
            ValueError: If there is a robust rule.
        """
        if self._reduction.rule is not None:
            raise ValueError(
                f"aggregator={type(self._reduction.rule).__name__} takes the place of a mean, but this algorithm needs a sum whose "
                "weights do not add up to one; use FedAvg or FedProx with it."
            )
        return self._reduction.reduce(replies, groups or ("delta",), (), weight, RunningSum.sum)

    def gather(self, replies: Iterable[Reply]) -> list[ClientReply]:
        """Collects the clients' `context.reply_tensors`, all of them on every rank, in the order of ids.

        Raises:
            TooFewClientsError: If fewer than `min_clients` replied.
        """
        return self._reduction.gather(replies)

    @property
    def rule(self) -> Rule | None:
        """The robust rule that replaces the mean of the weights, if any."""
        return self._reduction.rule

    @property
    def absent(self) -> set[str]:
        """Names of the weights that no client has whose reply was joined."""
        return self._reduction.absent

    def gather_objects(self, value: T) -> list[T]:
        """Gathers the objects of all ranks, in rank order."""
        return self._ranks.gather_objects(value)

    def owns(self, client: int) -> bool:
        """Tells whether a client works in this process."""
        return self._ranks.owns(client)

    def layout(self, kind: int) -> SharedNames:
        """Returns the names of the server's tensors that an architecture has."""
        return self._layouts[kind]

    def mean_buffers(self) -> Tensors:
        """Joins the buffers of the trained clients as the weights are joined; empty where there are none."""
        if self._joined_buffers is None:
            self._joined_buffers = self._reduction.mean_buffers()
        return self._joined_buffers

    def set_buffers(self, buffers: Tensors) -> None:
        """Replaces buffers by those that the server has made itself."""
        self._joined_buffers = {**self.mean_buffers(), **buffers}

    def used_cache(self, client: int, use: CacheUse) -> None:
        """Records, for reports, how a client in this process used the algorithm's cache."""
        self.records[client].cache = use

    def all_records(self) -> list[Record]:
        """Gathers the records of all ranks, ordered by client."""
        return self.records.everyone()

    def _enough(self, succeeded: int) -> None:
        self.records.require(self._min_clients, succeeded, len(self.cohort))
