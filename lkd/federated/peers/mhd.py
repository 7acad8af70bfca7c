"""MHD: multi-headed distillation over a communication graph."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.addresses import find_layer
from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common import own_checkpoints as snapshots
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_inputs import public_calls, run
from lkd.federated.knowledge.common.compatibility import check_sizes
from lkd.federated.knowledge.common.forward import draw, outputs_of
from lkd.federated.peers.checkpoint_pool import pick, questions, refresh
from lkd.federated.peers.client_groups import Collections
from lkd.federated.peers.peer_weights import adopt, weights_of
from lkd.federated.peers.teacher_targets import Lessons
from lkd.federated.protocol.tensors import Lists, Tensors
from lkd.federated.topology import Topology
from lkd.federated.topology.base import check_topology
from lkd.losses.multi_head import Choice, chain_loss, embedding_distance
from lkd.taps import Call, Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class MHD(Algorithm):
    """Multi-headed distillation: peers learn from neighbors' embeddings and heads on unlabeled public data.

    Zhmoginov, Sandler, Miller, Kristiansen and Vladymyrov, "Decentralized Learning with Multi-Headed
    Distillation", CVPR 2023, arXiv:2211.15774. In each step, client k minimizes its own loss on a private
    batch (its main head learns from labels alone) plus, on a public batch x,
    `nu_emb sum_j ||xi_k / |xi_k| - xi_j / |xi_j|||^2 + nu_aux sum_{m >= 1} CE(t_m, h_k^m)`, where the target
    t_m is chosen among the teachers' heads m - 1 and its own. Teachers are drawn from a pool of stale
    checkpoints of its neighbors. See `lkd.losses.multi_head`.

    Travels, from each neighbor to each client that learns from it: embedding and logits of all heads on the
    public samples of the steps that it teaches. No weights travel: a client keeps checkpoints of itself for
    as long as they are in some pool. The samples follow from the seed. Clients may have any backbones and
    label sets; the sizes of embedding and heads must be the same (`lkd.modules.MultiHeadClassifier`).

    Args:
        topology: The graph `G_t`; an edge from k to j means that k learns from j.
        heads: Layers that give the logits, the main head first. Default: those of a `MultiHeadClassifier`
            with as many auxiliary heads as it has.
        embedding: Layer that gives the embedding.
        nu_emb: Weight of the embedding's distillation. At 0 embeddings are neither sent nor compared.
        nu_aux: Weight of the auxiliary heads' distillation.
        choice: Head that is the target, see `lkd.losses.multi_head.chain_target`.
        pool: N_P, checkpoints in a client's pool; None: always the present ones of all neighbors.
        refresh: Rounds between two replacements in the pool; a round is S_P steps.
        teachers: Delta, teachers in a step; None: the whole pool.
        batch_size: Public samples in a step.
        collections: Lists of ids, each of clients that form one node of the graph. The weights of a node's
            clients are averaged after every round (this travels, too), and its first client answers for it.
            The lists must name every client once, and the clients of a list have one architecture. Default:
            every client is a node.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range; before the first round, if there are no public data, if a layer
            does not exist, or if the graph is for another number of clients.

    Example:
        >>> from lkd.federated.topology import Ring
        >>> MHD(Ring(), pool=3).choice
        'confident'
    """

    aggregates_weights = False
    supports_multiple_models = True
    needs_public_data = True

    def __init__(
        self,
        topology: Topology,
        heads: Sequence[str] | None = None,
        embedding: str = "network.embedding",
        nu_emb: float = 1.0,
        nu_aux: float = 1.0,
        choice: Choice = "confident",
        pool: int | None = None,
        refresh: int = 1,
        teachers: int | None = 1,
        batch_size: int = 64,
        collections: list[list[int]] | None = None,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__("uniform")
        expect(nu_emb=nu_emb, nu_aux=nu_aux, ge=0)
        expect(refresh=refresh, batch_size=batch_size, ge=1)
        expect(pool=pool, teachers=teachers, ge=1, none="all of them")
        expect(choice=choice, among=("confident", "random", "mean", "skip"))
        check_topology(topology)
        self.topology, self.embedding = topology, embedding
        self.heads = None if heads is None else list(heads)
        self.nu_emb, self.nu_aux, self.choice = nu_emb, nu_aux, choice
        self.pool, self.refresh, self.teachers, self.batch_size = pool, refresh, teachers, batch_size
        self.collections, self.input_key = collections, input_key
        self._checked = False

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the distillation to the module's step; a layer that does not exist fails here."""
        for layer in self._layers(module):
            find_layer(module, layer, "heads" if layer != self.embedding else "embedding")
        add_loss(
            module, lambda scratch, batch, taps: self._extra(module, scratch), [], "train/distillation_loss"
        )

    def setup(self, x: Tensors) -> None:
        """Starts with empty pools."""
        self.state, self._checked = {}, False

    def round(self, server: "ServerRound") -> Tensors:
        """Draws pools and teachers, collects peers' answers, trains clients, averages collections."""
        peers = Collections(self.collections, server.population)
        self._check(server, peers)
        edges = self.topology.edges(len(peers), server.index)
        present = [node for node, members in enumerate(peers) if members[0] in server.cohort]
        old = self.state.get("pool", {}).get("entries")
        old = None if old is None else old.cpu()  # that of a checkpoint is on the module's device
        table = refresh(old, edges, present, self.pool, server.index, self.refresh, server.seed)
        self.state = {"pool": {"entries": table}}
        steps = {
            k: planned * server.runtime.accumulate for k, planned in server.steps.items()
        }  # batches, not optimizer steps
        picks = {
            k: pick(table[peers.of(k)], present, steps[k], self.teachers, [server.seed, server.index, k])
            for k in server.cohort
        }
        taught = [(table[peers.of(k)], chosen) for k, chosen in picks.items()]
        asked = questions(table, taught, present, stale=self.pool is not None)
        config = {"seed": server.seed, "public_steps": max(steps.values(), default=0)}
        speakers = {peers[node][0]: what for node, what in asked.items()}
        told = server.gather(server.call("predict", speakers, to=speakers, config=config))
        answers = {peers.of(t.client): t.knowledge for t in told}
        lessons = {
            k: Lessons.of(table[peers.of(k)], chosen, answers)
            for k, chosen in picks.items()
            if server.owns(k)
        }
        each = {k: {**config, "averages": k in peers.averaging} for k in server.cohort}
        after = server.gather(server.train(knowledge=lessons, config=each))
        for _ in server.call("join", mixed := peers.means(after), to=mixed):
            pass
        return {}

    def _check(self, server: "ServerRound", peers: Collections) -> None:
        """Refuses, before any training, a graph or sizes that do not fit."""
        if not self._checked:
            self.topology.check(len(peers))
            peers.check(server.kind_of)
            heads = [len(self._layers(model)) - bool(self.nu_emb) for model in server.models]
            if len(set(heads)) > 1:
                raise ValueError(
                    f"the architectures have {heads} heads, the main one included: in a chain all must have the same number."
                )
            for layer in self._layers(server.models[0]):
                what = "embedding sizes" if layer == self.embedding else "classes"
                check_sizes(server, layer, what, self.input_key)
            self._checked = True

    def _layers(self, module: LightningModule) -> list[str]:
        heads = getattr(module, "layers", None) if self.heads is None else self.heads
        if not heads:
            raise ValueError(
                f"heads=None: {type(module).__name__} is no MultiHeadClassifier; name its heads' layers, the main head first."
            )
        return [*heads, *([self.embedding] if self.nu_emb else [])]

    def _rows(self, context: ClientContext) -> Any:
        """Draws the public samples of the round, a batch per step."""
        many = context.config["public_steps"] * self.batch_size
        return draw(context.config["seed"], context.round, len(context.public), many)

    def predict(self, context: ClientContext) -> None:
        """Replies what the peer's checkpoints in others' pools give on the samples that they teach."""
        wanted = context.knowledge
        snapshots.keep(context, set(wanted["keep"].tolist()))
        context.save_state = True
        rows = self._rows(context).reshape(-1, self.batch_size)
        layers = self._layers(context.module)
        kept = {name: t.detach().clone() for name, t in snapshots.state(context).items()}
        said: dict[str, list[Tensor]] = {}
        for round in wanted["rounds"].unique().tolist():
            if not snapshots.become(context, round, kept):
                continue
            steps = wanted["steps"][wanted["rounds"] == round]
            taught = rows[steps.cpu().numpy()]
            found = outputs_of(context, taught.reshape(-1), layers, 4 * self.batch_size, self.input_key)
            shape = (*taught.shape, -1)
            heads = found[:-1] if self.nu_emb else found
            said.setdefault("heads", []).append(torch.stack([h.view(shape) for h in heads], 1))
            if self.nu_emb:
                said.setdefault("embedding", []).append(found[-1].flatten(1).view(shape))
            said.setdefault("rounds", []).append(torch.full_like(steps, round, dtype=torch.int32))
            said.setdefault("steps", []).append(steps.to(torch.int32))
        context.reply_tensors = {name: torch.cat(parts) for name, parts in said.items()}
        snapshots.become(context, context.round, kept)  # the client goes on with its present weights

    def begin(self, context: ClientContext) -> None:
        """Prepares the neighbors' answers, step by step, with the samples that they are for."""
        if "valid" in context.knowledge:
            rows = self._rows(context)

            def calls() -> Iterator[Call]:
                return public_calls(
                    context.module, context.public, rows, self.batch_size, context.loop, self.input_key
                )

            context.scratch["lessons"] = Lessons(context.knowledge, calls, context.seed)

    def finish(self, context: ClientContext) -> Lists:
        """Replies the weights of a client in a collection of several."""
        if context.config["averages"]:
            context.reply_tensors = weights_of(context)
        return {}

    def join(self, context: ClientContext) -> None:
        """Loads the mean weights of the client's collection."""
        adopt(context, context.knowledge)

    def _extra(self, module: LightningModule, scratch: dict[str, Any]) -> Tensor | None:
        """Computes the distillation loss of one step."""
        lessons: Lessons | None = scratch.get("lessons")
        lesson = lessons.next() if lessons is not None else None
        if lessons is None or lesson is None:
            return None
        layers = self._layers(module)
        with Taps(module, layers, "heads") as taps:
            run(module, lesson.call)
        found = [taps.output(layer) for layer in layers]
        heads = found[:-1] if self.nu_emb else found
        loss = self.nu_aux * chain_loss(heads, lesson.heads, self.choice, lessons.generator)
        if self.nu_emb:
            loss = loss + self.nu_emb * embedding_distance(found[-1].flatten(1), lesson.embedding)
        return loss
