"""The work of clients on the module of their architecture: training, measuring, telling."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch import LightningModule

from lkd.federated.client.batches import passes
from lkd.federated.client.checks import check_lists
from lkd.federated.client.context import SCRATCH, ClientContext
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.single_samples import watching
from lkd.federated.client.state import ClientStore, as_lists, as_tensors
from lkd.federated.client.traces import Traces, switches, warn_of
from lkd.federated.protocol.client_data import ClientData, Part
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.federated.protocol.tensors import Groups, Lists, Tensors, all_finite, measured

OWN = "personal"
"""Group of a client's state that holds its personal layers; the others are its algorithm's."""
MEMORY = "memory"
"""Group of a client's state that holds the algorithm's `ClientContext.memory`."""
SCHEDULE = "schedule"
"""Group of a client's state that holds its plateau scheduler."""
CODE = "code"
"""Group of a client's state that holds what its codec left out."""
ATTRIBUTES = "attributes"
"""Group of a client's state with the numbers among the module's plain attributes, such as a counter."""
BESIDE = (OWN, MEMORY, SCHEDULE, ATTRIBUTES, CODE)
"""Groups of a client's state that are not its algorithm's `ClientContext.state`."""
NOT_FINITE = "the local model is not finite (NaN or infinite)"
"""Why a client whose training diverges is left out."""
VERBS = ("train", "gradient", "evaluate", "count")
"""What every client can do; any other verb is a method of the algorithm."""


class Verbs:
    """The clients' verbs: lets one client after the other work.

    Args:
        description: The federation.
        slots: Where clients of each architecture work.
        store: Holds the clients' states.

    Attributes:
        lone: Message on a client with a training batch of one sample, by verb and architecture.
    """

    def __init__(self, description: Description, slots: Sequence[ModelSlot], store: ClientStore) -> None:
        self.algorithm, self.seed, self.kind_of = description.algorithm, description.seed, description.kind_of
        self.slots, self.store = slots, store
        self.lone: dict[tuple[str, int], str] = {}
        self._looked: set[int] = set()  # architectures whose first training was checked
        self.changed: dict[int, list[str]] = {}  # attributes that it has changed, and no client keeps

    def __call__(self, verb: str, client: ClientData, message: Message) -> Reply:
        """Lets a client work, and removes its traces, whether it succeeds or not.

        Args:
            verb: One of `VERBS`, or a method of the algorithm.
            client: The client's data.
            message: Message to the client.
        """
        kind = self.kind_of(client.id)
        module = self.slots[kind].module
        looks = verb == "train" and kind not in self._looked
        with switches(), self.apart(module) as traces:
            contents = traces.contents() if looks else {}
            reply = (
                getattr(self, verb)(client, message) if verb in VERBS else self.call(verb, client, message)
            )
            if looks:
                self._looked.add(kind)
                self.changed[kind] = traces.others(contents)
                warn_of(module, self.changed[kind])
        return reply

    @contextlib.contextmanager
    def apart(self, module: LightningModule) -> Iterator[Traces]:
        """Restores a module afterwards, except for the values of its tensors; gives the snapshot that does."""
        self._traces = Traces(module)
        try:
            yield self._traces
        finally:
            self._traces.put_back()

    def _enter(self, client: ClientData, message: Message) -> tuple[ModelSlot, int]:
        """Loads a client into its slot; returns the slot, and the seed of the client's work in this round."""
        slot = self.slots[self.kind_of(client.id)]
        kept = self.store.get(client.id)
        slot.worker.load(message.tensors["x"], message.tensors.get("buffers", {}), kept.get(OWN))
        self._traces.set_numbers(kept.get(ATTRIBUTES, {}))
        seed = derive(self.seed, message.config["round"], client.id)
        seed_everything(seed, slot.module.device)
        slot.worker.seed(seed)
        return slot, seed

    def enter(self, client: ClientData, message: Message) -> tuple[ModelSlot, ClientContext]:
        """Loads a client into its slot, and builds its context; `apart` removes its traces."""
        slot, seed = self._enter(client, message)
        names, device = slot.worker.shared, slot.module.device
        state = self.store.get(client.id)
        kept = {k: g for k, g in state.items() if k not in BESIDE}
        rounds, steps = message.config["round"], message.config.get("steps", 0)
        slot.local_optimizer.enter(rounds, steps, state.get(SCHEDULE, {}))
        received = {k: g for k, g in message.tensors.items() if k not in ("x", "buffers")}
        context = ClientContext(
            slot.loop,
            [message.tensors["x"].get(name, slot.worker.tensors[name].detach()) for name in names],
            as_lists(received, names, device),
            as_lists(kept, names, device, copy=True),
            message.config,
            client,
            seed,
            {name: tensor.to(device) for name, tensor in message.knowledge.items()},
            {name: tensor.to(device) for name, tensor in state.get(MEMORY, {}).items()},
        )
        vars(slot.module)[SCRATCH] = context.scratch  # removed with the client's other traces
        return slot, context

    @contextlib.contextmanager
    def _watching(self, verb: str, slot: ModelSlot, client: ClientData) -> Iterator[None]:
        """Refuses batches of one sample, also those of another client, where the module cannot take them."""
        whose = (verb, self.kind_of(client.id))
        # with a single (pooled) client there is no other
        lone = self.lone.get(whose) if client.population > 1 else None
        size = getattr(client, "smallest_batch", lambda ordered: 1)
        told = f"client {client.name} has a training batch of one sample"
        with contextlib.ExitStack() as stack:
            if lone is not None or 1 in (size(False), size(True)):
                stack.enter_context(watching(slot.module, told, lone, slot.loop.samples))
            yield
        self.lone.pop(whose, None)  # no error: the module takes such batches

    def _keep(self, slot: ModelSlot, context: ClientContext, schedule: Tensors | None = None) -> None:
        """Stores the client's state for its next round; without `schedule`, the plateau's former state."""
        own = slot.worker.take([*slot.worker.own, *slot.worker.moving()])
        if schedule is None:
            schedule = self.store.get(context.client.id).get(SCHEDULE, {})
        state: Groups = {
            **as_tensors(context.state, slot.worker.shared),
            OWN: own,
            MEMORY: context.memory,
            SCHEDULE: schedule,
            ATTRIBUTES: self._traces.numbers(),
            CODE: self.store.get(context.client.id).get(CODE, {}),
        }
        self.store.put(context.client.id, state)

    def _schedule(self, slot: ModelSlot, client: ClientData, round: int, logs: dict[str, float]) -> Tensors:
        """Steps the client's plateau, if it has one, on what it logged or on its own validation."""

        def measured() -> dict[str, float]:
            if not client.has("val"):
                return {}
            return slot.loop.evaluate(client.ordered_batches("val"), "val")

        if slot.local_optimizer.plateau is None:
            return {}
        who = f"{type(slot.module).__name__} of client {client.name}"
        return slot.local_optimizer.plateau.end(round, slot.worker.log, logs, measured, who)

    @contextlib.contextmanager
    def show(self, client: int, x: Tensors, buffers: Tensors) -> Iterator[LightningModule]:
        """Yields a client's model, for looking at.

        Args:
            client: Id of the client.
            x: The server's weights for its architecture, by the architecture's own names.
            buffers: The server's buffers, likewise.
        """
        slot = self.slots[self.kind_of(client)]
        kept = self.store.get(client)
        with self.apart(slot.module) as traces:
            slot.worker.load(x, buffers, kept.get(OWN))
            traces.set_numbers(kept.get(ATTRIBUTES, {}))
            yield slot.module

    def train(self, client: ClientData, message: Message) -> Reply:
        """Trains locally; replies the change of the weights, the buffers, and what the algorithm adds."""
        slot, context = self.enter(client, message)
        names = slot.worker.shared
        slot.local_optimizer.begin_client()
        self.algorithm.begin(context)
        with self._watching("train", slot, client):
            slot.loop.train(passes(client, context.seed), context, self.algorithm.correction())
        with torch.no_grad():
            who = type(self.algorithm).__name__
            extra = check_lists(
                self.algorithm.finish(context), f"what {who}.finish returns", context.params, True
            )
            check_lists(context.state, f"context.state of {who}", context.params, False)
            delta = [p.detach() - x for p, x in zip(context.params, context.x, strict=True)]
            groups = {"delta": delta, **_apart(extra)}
        found = {key: measured(group) for key, group in as_tensors(groups, names).items()}
        tensors: Groups = {key: group for key, group in found.items() if group is not None}
        own = (slot.worker.tensors[name] for name in slot.worker.own)
        kept = [tensor.detach() for tensor in own if tensor.requires_grad]
        for group in context.state.values():
            kept += group
        if len(tensors) < len(found) or not all_finite(kept):
            raise FloatingPointError(NOT_FINITE)
        logs = slot.worker.log.compute()
        buffers = slot.worker.take(slot.worker.buffers)
        schedule = self._schedule(slot, client, context.round, logs)
        self._keep(slot, context, schedule)  # last, so that a failed client keeps its former state
        return Reply(
            tensors={**tensors, "buffers": buffers},
            metrics={"steps": float(context.steps), **slot.loop.idle(), **context.reply_metrics},
            knowledge=context.reply_tensors,
            logs=logs,
        )

    def call(self, method: str, client: ClientData, message: Message) -> Reply:
        """Runs a method of the algorithm's client half; replies what it has put into the context."""
        slot, context = self.enter(client, message)
        getattr(self.algorithm, method)(context)
        if context.save_state:
            self._keep(slot, context)
        return Reply(knowledge=context.reply_tensors, metrics=context.reply_metrics)

    def gradient(self, client: ClientData, message: Message) -> Reply:
        """Computes the gradient of the client's whole training loss at x."""
        slot, _ = self._enter(client, message)
        names = slot.worker.shared
        x = [message.tensors["x"][name] for name in names]
        with self._watching("gradient", slot, client):
            gradient = slot.loop.full_gradient(client.ordered_batches("train"), x)
        kept = self.store.get(client.id)
        if self.algorithm.keeps_full_gradient:
            self.store.put(client.id, {**kept, "gradient": dict(zip(names, gradient, strict=True))})
        return Reply(tensors=as_tensors({"gradient": gradient}, names))

    def evaluate(self, client: ClientData, message: Message) -> Reply:
        """Runs the module's validation or test steps on the client's own data, with its personal layers."""
        part: Part = message.config["part"]
        slot, _ = self._enter(client, message)
        return Reply(logs=slot.loop.evaluate(client.ordered_batches(part), part))

    def count(self, client: ClientData, message: Message) -> Reply:
        """Replies the client's numbers of samples and batches, and its share of all samples."""
        samples, batches = float(client.num_samples), float(client.num_batches())
        return Reply(metrics={"samples": samples, "batches": batches, "share": float(client.share)})


def _apart(lists: Lists) -> Lists:
    """Copies what an algorithm gave beside the change: the module's memory, or a buffer that it uses again."""
    return {key: [t.detach().clone() for t in tensors] for key, tensors in lists.items()}
