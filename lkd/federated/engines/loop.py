"""The in-process engine: clients work one after the other on this process's stations."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from lightning.pytorch import LightningModule

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.clock import Clock
from lkd.federated.client.context import ClientContext
from lkd.federated.client.model_slot import Station
from lkd.federated.client.single_samples import LoneSampleError, lone_clients, normalizes, watching
from lkd.federated.client.state import ClientStore, as_lists, as_tensors
from lkd.federated.client.traces import Traces, switches, warn_of
from lkd.federated.protocol.client_data import ClientData, Part
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Groups, Tensors, all_finite
from lkd.federated.server.checks import check_lists
from lkd.federated.server.local_work import LocalTraining, passes
from lkd.federated.server.reply_checks import RefusalError

OWN = "personal"
"""Group of a client's state that holds its personal layers; the others are its algorithm's."""
MEMORY = "memory"
"""Group that holds what the algorithm keeps there by names of its own."""
SCHEDULE = "schedule"
"""Group that holds what a scheduler that waits for the client's own metric has come to."""
ATTRIBUTES = "attributes"
"""Group that holds the numbers among its module's plain attributes, such as a counter."""
VERBS = ("train", "gradient", "evaluate")
"""What the engine does by itself; any other verb is a method of the algorithm."""


class LoopEngine:
    """Answers verbs for clients.

    Args:
        stations: Where clients work, one for each architecture.
        kind_of: Which of them a client has, by its id.
        algorithm: Its client half runs here.
        store: What clients keep.
        seed: With the round and the client, where all randomness of a client's work comes from.
        clock: How long a client may take for an answer. Default: any time.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        kind_of: Callable[[int], int],
        algorithm: Algorithm,
        store: ClientStore,
        seed: int,
        clock: Clock | None = None,
    ) -> None:
        self.stations, self.kind_of, self._clock = stations, kind_of, clock or Clock()
        for station in stations:
            station.loop.clock = self._clock
        self.algorithm, self.store, self.seed = algorithm, store, seed
        self._lone: dict[tuple[str, int], str] = {}
        self._looked: set[int] = set()  # architectures whose first training was looked at

    def expect(self, clients: Sequence[ClientData], work: LocalTraining) -> None:
        """Learns who of all clients will have a batch of one sample, to refuse it in the first round.

        Args:
            clients: All of them.
            work: What is asked of them.
        """
        kinds = [kind for kind, station in enumerate(self.stations) if normalizes(station.module)]
        self._lone = lone_clients(kinds, self.kind_of, clients, work)

    def exchange(self, verb: str, messages: Mapping[ClientData, Message]) -> Iterator[Reply]:
        """Sends every client its message and yields the replies in the order of the clients.

        A client that fails yields a reply with an `error`, never an exception.

        Args:
            verb: `"train"`, `"gradient"`, `"evaluate"`, or a method of the algorithm.
            messages: What each is sent. Numbers: `round`; for training also `steps`.
        """
        for client, message in messages.items():
            started, before = time.perf_counter(), self.store.get(client.id)
            try:
                with self._clock.running():
                    reply = self._answer(verb, client, message)
                reply.undo = functools.partial(self.store.put, client.id, before)
            except (RefusalError, LoneSampleError):  # of what was given: the run cannot go on
                raise
            except Exception as error:
                reply = Reply(error=f"{type(error).__name__}: {error}".splitlines()[0], cause=error)
            reply.client, reply.seconds = client.id, time.perf_counter() - started
            yield reply

    def _answer(self, verb: str, client: ClientData, message: Message) -> Reply:
        """Lets a client work, and takes back what it leaves behind, whether it succeeds or not."""
        kind = self.kind_of(client.id)
        module = self.stations[kind].module
        looks = verb == "train" and kind not in self._looked
        with switches(), self._apart(module) as traces:
            contents = traces.contents() if looks else {}
            reply = getattr(self, verb)(client, message) if verb in VERBS else self.ask(verb, client, message)
            if looks:
                self._looked.add(kind)
                warn_of(module, traces.others(contents))
        return reply

    @contextlib.contextmanager
    def _apart(self, module: LightningModule) -> Iterator[Traces]:
        self._traces = Traces(module)
        try:
            yield self._traces
        finally:
            self._traces.put_back()

    def _enter(self, client: ClientData, message: Message) -> tuple[Station, int]:
        """A station becomes this client; returns it with the seed of the client's work in this round."""
        station = self.stations[self.kind_of(client.id)]
        kept = self.store.get(client.id)
        station.worker.load(message.tensors["x"], message.tensors.get("buffers", {}), kept.get(OWN))
        self._traces.set_numbers(kept.get(ATTRIBUTES, {}))
        seed = derive(self.seed, message.config["round"], client.id)
        seed_everything(seed, station.module.device)
        station.worker.seed(seed)
        return station, seed

    def _run(self, client: ClientData, message: Message) -> tuple[Station, ClientContext]:
        """A client at work."""
        station, seed = self._enter(client, message)
        names, device = station.worker.shared, station.module.device
        state = self.store.get(client.id)
        kept = {k: g for k, g in state.items() if k not in (OWN, MEMORY, SCHEDULE, ATTRIBUTES)}
        rounds, steps = message.config["round"], message.config.get("steps", 0)
        station.local_optimizer.enter(rounds, steps, state.get(SCHEDULE, {}))
        sent = {k: g for k, g in message.tensors.items() if k not in ("x", "buffers")}
        return station, ClientContext(
            station.loop,
            [message.tensors["x"][name] for name in names],
            as_lists(sent, names, device),
            as_lists(kept, names, device, copy=True),
            message.config,
            client,
            seed,
            {name: tensor.to(device) for name, tensor in message.knowledge.items()},
            {name: tensor.to(device) for name, tensor in state.get(MEMORY, {}).items()},
        )

    @contextlib.contextmanager
    def _watching(self, verb: str, station: Station, client: ClientData) -> Iterator[None]:
        """Refuses batches of one sample, and those of others that are known of, where the module cannot take them."""
        whose = (verb, self.kind_of(client.id))
        lone = (
            self._lone.get(whose) if client.population > 1 else None
        )  # a pooled client has nobody beside it
        size = getattr(client, "smallest_batch", lambda ordered: 1)
        told = f"client {client.name} has a training batch of one sample"
        with contextlib.ExitStack() as stack:
            if lone is not None or 1 in (size(False), size(True)):
                stack.enter_context(watching(station.module, told, lone, station.loop.samples))
            yield
        self._lone.pop(whose, None)  # the module takes them

    def _keep(self, station: Station, context: ClientContext, schedule: Tensors | None = None) -> None:
        """What the client keeps for its next round; without a schedule that of before."""
        own = station.worker.take([*station.worker.own, *station.worker.moving()])
        if schedule is None:
            schedule = self.store.get(context.client.id).get(SCHEDULE, {})
        state: Groups = {**as_tensors(context.state, station.worker.shared), OWN: own, MEMORY: context.memory}
        numbers = self._traces.numbers()
        self.store.put(context.client.id, {**state, SCHEDULE: schedule, ATTRIBUTES: numbers})

    def _schedule(
        self, station: Station, client: ClientData, round: int, metrics: dict[str, float]
    ) -> Tensors:
        """Steps the plateau of a client that has one on what it logged, or on its own validation."""

        def measured() -> dict[str, float]:
            if not client.has("val"):
                return {}
            return station.loop.evaluate(client.ordered_batches("val"), "val")

        if station.local_optimizer.plateau is None:
            return {}
        who = f"{type(station.module).__name__} of client {client.name}"
        return station.local_optimizer.plateau.end(round, station.worker.log, metrics, measured, who)

    @contextlib.contextmanager
    def show(self, client: ClientData, x: Tensors, buffers: Tensors) -> Iterator[LightningModule]:
        """Within, the client's model."""
        station = self.stations[self.kind_of(client.id)]
        layout = station.layout
        kept = self.store.get(client.id)
        with self._apart(station.module) as traces:
            station.worker.load(layout.of_client(x), layout.of_client(buffers), kept.get(OWN))
            traces.set_numbers(kept.get(ATTRIBUTES, {}))
            yield station.module

    def train(self, client: ClientData, message: Message) -> Reply:
        """Local training; replies the change of the weights, the buffers, and what the algorithm adds."""
        station, context = self._run(client, message)
        names = station.worker.shared
        station.local_optimizer.begin_client()
        self.algorithm.begin(context)
        with self._watching("train", station, client):
            station.loop.train(passes(client, context.seed), context, self.algorithm.correction())
        with torch.no_grad():
            who = type(self.algorithm).__name__
            extra = check_lists(
                self.algorithm.finish(context), f"what {who}.finish returns", context.params, True
            )
            check_lists(context.state, f"context.state of {who}", context.params, False)
            delta = [p.detach() - x for p, x in zip(context.params, context.x, strict=True)]
        groups = {"delta": delta, **extra}
        own = set(station.worker.own)
        kept = [p.detach() for n, p in context.module.named_parameters() if n in own and p.requires_grad]
        everything = [*groups.values(), *context.state.values(), kept]
        if not all_finite([tensor for group in everything for tensor in group]):
            raise FloatingPointError("the local model is not finite (NaN or infinite)")
        logs = station.worker.log.compute()
        buffers = station.worker.take(station.worker.buffers)
        schedule = self._schedule(station, client, context.round, logs)
        self._keep(station, context, schedule)  # only once everything above went well
        return Reply(
            tensors={**as_tensors(groups, names), "buffers": buffers},
            metrics={"steps": float(context.steps), **station.loop.idle(), **context.reply_metrics},
            knowledge=context.reply_tensors,
            logs=logs,
        )

    def ask(self, method: str, client: ClientData, message: Message) -> Reply:
        """A method of the algorithm's client half; replies what that tells."""
        station, context = self._run(client, message)
        getattr(self.algorithm, method)(context)
        if context.save_state:
            self._keep(station, context)
        return Reply(knowledge=context.reply_tensors, metrics=context.reply_metrics)

    def gradient(self, client: ClientData, message: Message) -> Reply:
        """The gradient of the client's whole loss at x."""
        station, _ = self._enter(client, message)
        names = station.worker.shared
        x = [message.tensors["x"][name] for name in names]
        with self._watching("gradient", station, client):
            gradient = station.loop.full_gradient(client.ordered_batches("train"), x)
        kept = self.store.get(client.id)
        if self.algorithm.keeps_full_gradient:
            self.store.put(client.id, {**kept, "gradient": dict(zip(names, gradient, strict=True))})
        return Reply(tensors=as_tensors({"gradient": gradient}, names))

    def evaluate(self, client: ClientData, message: Message) -> Reply:
        """The module's own validation (or test) step on the client's own data, with its personal layers."""
        part: Part = message.config["part"]
        station, _ = self._enter(client, message)
        return Reply(logs=station.loop.evaluate(client.ordered_batches(part), part))
