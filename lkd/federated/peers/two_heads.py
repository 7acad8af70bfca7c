"""Two heads: a second head learns from the neighbors' models on a client's own data."""

import functools
from typing import TYPE_CHECKING, Any, get_args

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.func import functional_call

from lkd.addresses import find_layer
from lkd.batches import Keys, call_of
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext, scratch_of
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.own_checkpoints import state
from lkd.federated.peers.meta_stopping import MetaStopping
from lkd.federated.peers.model_versions import Ledger
from lkd.federated.peers.peer_heads import Strategy, look, neighbors_loss, validation_losses
from lkd.federated.peers.peer_weights import by_sender, listed, weights_of
from lkd.federated.protocol.tensor_names import matches
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.topology import Topology
from lkd.federated.topology.base import Edges, check_topology
from lkd.finite import require_finite
from lkd.looks import looking
from lkd.losses.dissimilarity import Measure
from lkd.losses.inputs import full_precision

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

NOTHING, HEAD, ALL = "nothing", "head", "all"
"""What a client is asked to send: nothing, its second head, or its backbone, too."""
BEGUN = "begun"
"""Marks, in a client's memory, that its second head has become a copy of the first."""


class TwoHeads(Algorithm):
    """Training alone, then distillation of a second head from the neighbors' second heads on private data.

    Molo, Vadicamo, Carlini, Gennaro and Connor, "Information Dissimilarity Measures in Decentralized
    Knowledge Distillation", SISAP 2024 (LNCS 15268, pages 140 to 154); Molo, Vadicamo, Gennaro and Carlini,
    "Decentralized edge learning", Future Generation Computer Systems 176 (10.1016/j.future.2025.108171): in
    effect a simplified `MHD`. In the first phase all layers train on the client's own loss, which should be
    the first head's cross entropy. Then the second head, at first a copy of the first head, trains by
    `alpha CE + (1 - alpha) D` on the client's private batches, alpha weighting the labels. D compares it with
    the neighbors' and the client's own second heads as they were when the round began; in the first round
    these are copies of the first heads. All other layers are frozen bit for bit: in eval mode, without
    statistics that change and without weight decay. D is the mean over the batch.

    This follows the published code of the second paper. In that of the first, the second head is deeper, and
    the client itself is not among its teachers. The second paper's code sums D over the batch while CE is a
    mean, which makes D stronger by the batch size; leaves T² out; sorts each row of the first head's weights
    when it copies them; lets the student's and the teachers' batch statistics change; and keeps of each round
    the epoch with the lowest validation loss. None of that is done here, and `LocalTraining` sets the length
    of a round.

    Travels along an edge, once for each edition: first the neighbor's backbone and second head (parameters
    that train, float buffers), then, as the backbone is frozen, its second head alone. A neighbor that has
    stopped or does not take part in a round teaches by the last edition that the client holds. With
    `stopping`, two losses per edge and round.

    Args:
        topology: The graph, directed or not; an edge from k to j means that k learns from j.
        warmup: Rounds of the first phase.
        alpha: Weight of the labels against D, in [0, 1].
        measure: D, see `lkd.losses.dissimilarity.dissimilarity_loss`.
        strategy: How several teachers are compared, see `neighbors_loss`. `"holistic"` was the
            better one.
        temperature: T. At 1 the loss is the published one except for the mean over the batch.
        stopping: Rule when a client's second head is done; `train/stopped` is the share of samples whose
            clients have stopped. It needs validation data at every client. None: never.
        first: Layer that is the first head; its input is the embedding.
        second: Layer that is the second head, of the same shape.
        label_key: Key or index of the labels in a batch.
        input_key: Entry of a batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range and unknown names; before any training, if a layer does not
            exist, the heads differ in shape, the graph is for another number of clients, or a client lacks
            validation data for `stopping`.

    Example:
        >>> from lkd.federated.topology import Ring
        >>> TwoHeads(Ring(), warmup=5, stopping=MetaStopping()).strategy
        'holistic'
    """

    aggregates_weights = False

    def __init__(
        self,
        topology: Topology,
        warmup: int = 10,
        alpha: float = 0.5,
        measure: Measure = "js",
        strategy: Strategy = "holistic",
        temperature: float = 1.0,
        stopping: MetaStopping | None = None,
        first: str = "network.heads.0",
        second: str = "network.heads.1",
        label_key: str | int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__("uniform")
        expect(warmup=warmup, ge=0)
        expect(alpha=alpha, ge=0, le=1)
        expect(temperature=temperature, gt=0)
        expect(measure=measure, among=get_args(Measure))
        expect(strategy=strategy, among=get_args(Strategy))
        check_topology(topology)
        self.topology, self.warmup, self.alpha = topology, warmup, alpha
        self.measure, self.strategy, self.temperature = measure, strategy, temperature
        self.stopping, self.first, self.second = stopping, first, second
        self.label_key, self.input_key = label_key, input_key
        self.needs_validation_data = stopping is not None

    def setup(self, x: Tensors) -> None:
        """Starts with an empty ledger."""
        self.state = {}

    def attach(self, module: LightningModule, example: Any) -> None:
        """Gives the module a training step of its own for the second phase."""
        one, two = (find_layer(module, getattr(self, name), name) for name in ("first", "second"))
        shapes = [{n: tuple(t.shape) for n, t in head.state_dict().items()} for head in (one, two)]
        if one is two or shapes[0] != shapes[1]:
            raise ValueError(
                f"first={self.first!r} and second={self.second!r} must be two layers of the same tensors, but have {shapes[0]} "
                f"and {shapes[1]}: give a MultiHeadClassifier(heads=1)."
            )
        with torch.no_grad():
            call = call_of(module, example, self.input_key, self.label_key)
            look(module.eval(), {}, self.second, call)  # fails now if the head cannot run
        step = module.training_step

        @functools.wraps(step)  # the local loop reads the user's signature to decide what to pass
        def either(batch: Any, *args: Any, **kwargs: Any) -> Any:
            scratch = scratch_of(module)
            if "teachers" not in scratch:  # the first phase
                return step(batch, *args, **kwargs)
            with looking(module, first=not args or args[0] == 0):
                return self._step(module, batch, scratch)

        module.training_step = either  # type: ignore[method-assign]

    def round(self, server: "ServerRound") -> Tensors:
        """Exchanges and measures second heads, and trains them; in the first phase it only trains."""
        edges = self.topology.edges(server.population, server.index)
        if server.index < self.warmup:
            return server.mean(server.train())["delta"]
        ledger = Ledger(server.population, self.state)
        self._exchange(server, ledger, edges)
        knowledge = {
            k: {"teachers": torch.tensor(ledger.teachers(edges, k), dtype=torch.int32)}
            for k in server.cohort
            if ledger.active(k)
        }
        for after in server.gather(server.train(knowledge=knowledge, config={"second": True})):
            if ledger.active(after.client):
                ledger.trained(after.client)
        self.state = ledger.state
        return {}

    def _exchange(self, server: "ServerRound", ledger: Ledger, edges: Edges) -> None:
        """Sends every client the editions that it lacks, measures them, and stops clients."""
        pairs = ledger.lacking(edges, server.cohort)
        needed = {j: HEAD for _, j in pairs} | {j: ALL for k, j in pairs if not ledger.knows(k, j)}
        tells = {j: {"tells": needed.get(j, NOTHING)} for j in server.cohort}
        told = {t.client: t.knowledge for t in server.gather(server.call("share", config=tells))}
        letters: dict[int, dict[int, Tensors]] = {k: {} for k in server.cohort}
        for k, j in pairs:
            if j in told:
                known = ledger.knows(k, j)
                letters[k][j] = {n: t for n, t in told[j].items() if not known or matches(n, [self.second])}
        judged = {j for j in told if ledger.active(j)} if self.stopping is not None else set()
        config = {
            k: {
                "senders": list(letter),
                "judges": [j for j in (k, *edges[k]) if j in judged],
            }
            for k, letter in letters.items()
        }
        knowledge = {k: listed(letter) for k, letter in letters.items()}
        replies = server.gather(server.call("receive", knowledge, config=config))
        for reply in replies:
            for j in letters[reply.client]:
                ledger.receives(reply.client, j)
        if self.stopping is not None:
            measured = {
                r.client: {
                    j: r.metrics[f"loss {place}"]
                    for place, j in enumerate(config[r.client]["judges"])
                    if f"loss {place}" in r.metrics
                }
                for r in replies
            }
            self._stop(self.stopping, ledger, measured, judged)

    def _stop(
        self, stopping: MetaStopping, ledger: Ledger, losses: dict[int, dict[int, float]], judged: set[int]
    ) -> None:
        own = {k: said[k] for k, said in losses.items() if k in said}
        others = {j: [said[j] for k, said in losses.items() if k != j and j in said] for j in judged}
        ledger.measured(own, {j: sum(each) / len(each) for j, each in others.items() if each})
        for k in own:
            if stopping.reason(*ledger.losses(k)):
                ledger.stop(k)

    def share(self, context: ClientContext) -> None:
        """Replies nothing, the second head, or the backbone too; the first time the head is copied."""
        tensors = state(context)
        if BEGUN not in context.memory:
            for name, tensor in tensors.items():
                if matches(name, [self.second]):
                    tensor.detach().copy_(tensors[self.first + name.removeprefix(self.second)])
            context.memory[BEGUN] = torch.ones(1, dtype=torch.uint8)
            context.save_state = True
        tells = context.config["tells"]
        for name, tensor in weights_of(context).items() if tells != NOTHING else ():
            second = matches(name, [self.second])
            if second or (tells == ALL and not matches(name, [self.first])):
                context.reply_tensors[name] = tensor

    def receive(self, context: ClientContext) -> None:
        """Keeps what the client was sent, and measures the models that it is asked to."""
        for j, tensors in by_sender(context.knowledge, context.config["senders"]).items():
            context.memory |= {f"{j}/{name}": tensor for name, tensor in tensors.items()}
            context.save_state = True
        judged = context.config["judges"]
        held = {**_held(context), context.client.id: {}}
        if judged:
            models = {j: held[j] for j in judged}
            losses = validation_losses(context, models, self.second, self.label_key, self.input_key)
            context.reply_metrics = {f"loss {place}": losses[j] for place, j in enumerate(judged)}

    def begin(self, context: ClientContext) -> None:
        """Prepares the client's teachers; a client that has stopped makes no step."""
        if "second" not in context.config:
            return
        trains = "teachers" in context.knowledge
        if self.stopping is not None:
            context.module.log("train/stopped", float(not trains))
        if not trains:
            context.planned = 0
            return
        held = _held(context)
        context.scratch["teachers"] = [held[j] for j in context.knowledge["teachers"].tolist()]
        head = context.module.get_submodule(self.second)
        context.scratch["itself"] = {n: t.clone() for n, t in head.state_dict().items()}

    def _step(self, module: LightningModule, batch: Any, scratch: dict[str, Any]) -> Tensor:
        """Computes the loss of the second head."""
        call = call_of(module, batch, self.input_key, self.label_key)
        labels = labels_of(batch, self.label_key)
        head = module.get_submodule(self.second)
        with torch.no_grad():
            embedding, _ = look(module.eval(), {}, self.second, call)
            said = [look(module, model, self.second, call)[1] for model in scratch["teachers"]]
            said.append(functional_call(head, scratch["itself"], (embedding,)))
        logits = head.train()(embedding)
        hard = F.cross_entropy(full_precision(logits), labels)
        soft = neighbors_loss(logits, torch.stack(said, 1), self.measure, self.strategy, self.temperature)
        loss = self.alpha * hard + (1 - self.alpha) * soft
        require_finite(module, loss, {"cross entropy": hard, "distillation": soft})
        module.log("train/distillation_loss", soft.detach(), batch_size=len(labels))
        module.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(labels))
        return loss


def _held(context: ClientContext) -> dict[int, Tensors]:
    """Returns the tensors of the neighbors' models that the client holds."""
    found: dict[int, Tensors] = {}
    for key, tensor in context.memory.items():
        if key != BEGUN:
            j, name = key.split("/", 1)
            found.setdefault(int(j), {})[name] = tensor
    return found
