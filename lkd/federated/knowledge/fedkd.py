"""FedKD: mutual distillation of a private and a shared model, whose updates travel as thin factors."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.addresses import find_layer
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.low_rank import compress, restore
from lkd.federated.knowledge.common.shared_model import assign, check_alike, plus, tensors_of
from lkd.federated.protocol.tensors import Lists, Tensors
from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss
from lkd.taps import Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

Pair = tuple[str, str]
"""Layers to compare: one of the private model, one of the shared model."""
CHANGE = "change/"
LEAST = 1e-8  # smallest divisor, since the sum of cross entropies may be 0 in float32


def fedkd_loss(
    private: Tensor, shared: Tensor, labels: Tensor, hidden: list[tuple[Tensor, Tensor]] | None = None
) -> Tensor:
    """Computes the loss that is added to the private model's own cross entropy.

    It is `CE_s + [KL(p || s) + KL(s || p) + sum MSE(h_p, h_s)] / (CE_p + CE_s)` with the softmaxes p and s of
    the private and the shared model: the less correct the two predictions are, the less they are learned. KL
    is summed over classes and averaged over the batch, its first argument a constant; MSE is the mean over
    all values, and moves both models. The sum of cross entropies is a constant weight: differentiated, as in
    the authors' code, it would reward a larger cross entropy where the models differ.

    Args:
        private: Logits `(B, C)` of the private model.
        shared: Logits `(B, C)` of the shared model.
        labels: `(B,)`.
        hidden: Pairs of hidden states or attention maps of one shape.

    Example:
        >>> one, other = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> fedkd_loss(one, other, torch.tensor([0]))  # 2.1269 + 2 * 1.5232 / (.1269 + 2.1269)
        tensor(3.4786)
    """
    private, shared = full_precision(private), full_precision(shared)
    hard, own = F.cross_entropy(shared, labels), F.cross_entropy(private.detach(), labels)
    soft = kd_loss(shared, private, temperature=1.0) + kd_loss(private, shared, temperature=1.0)
    for ours, its in hidden or []:
        soft = soft + F.mse_loss(full_precision(ours), full_precision(its))
    return hard + soft / (own + hard.detach()).clamp_min(LEAST)


def energy_at(done: float, start: float, end: float) -> float:
    """Returns `start + (end - start) t`, the energy to keep when a share t of the training is done.

    Args:
        done: t, from 0 on; above 1 it counts as 1.
        start: Share of the energy at the beginning.
        end: Share of the energy at the end.

    Example:
        >>> energy_at(0.5, 0.95, 0.98)
        0.965
    """
    return start + (end - start) * min(done, 1.0)


class FedKD(Algorithm):
    """Mutual distillation: clients share a small model by compressed updates, and keep a large one.

    Wu, Wu, Lyu, Huang and Xie, "Communication-efficient federated learning via knowledge distillation",
    Nature Communications 2022, arXiv:2108.13323. It has adaptive mutual distillation and a hidden loss
    (`fedkd_loss`; the private model is the paper's teacher, the shared one its student), and dynamic
    approximation by singular values (`low_rank`), which keep the share `T(t) = start + (end - start) t` of
    the energy. As in the authors' code, a round's change is factored, once at the clients and then, their
    mean, at the server. A convolution's kernel counts as the matrix `(out, in h w)`, which is our choice.
    Batch statistics count as vectors.

    Travels: up, factors of the change of the shared model; down, factors of the mean change, which clients
    add to the weights that they remember, or all weights to a client that did not take part in the round
    before. The clients' modules hold both models, as `PrivateSharedClassifier` does; the module's own loss is
    that of the private one. All layers are personal to the Federation, so it needs no `personal_layers`;
    `server_optimizer` and `aggregator` have no effect. The server's model has the trained shared model (of
    `PrivateSharedClassifier` read `acc_shared`) beside a private one that stays as it started.

    Args:
        rounds: Rounds of the whole run, over which the energy rises.
        start: Energy kept at first.
        end: Energy kept at the end. With both at 1 nothing is lost.
        hidden: Layers `[private, shared]` whose states are compared, through `adapter`. Default: none.
        attention: Layers `[private, shared]` whose attention maps are compared as they are. Default: none.
        private: Layer that gives the private model's logits.
        shared: Layer that gives the shared model's logits; its parameters and float buffers travel.
        adapter: Trainable layer that maps the shared hidden state to the private one's size; it stays with
            the client.
        label_key: Key or index of the labels in a batch.
        weighting: How changes are averaged.

    Raises:
        ValueError: If numbers are out of range, a layer does not exist, or the shared models differ in shape.

    Example:
        >>> FedKD(rounds=30, hidden=("network.private.layers.2", "network.shared.layers.2")).start
        0.95
    """

    aggregates_weights = False
    supports_multiple_models = True

    def __init__(
        self,
        rounds: int,
        start: float = 0.95,
        end: float = 0.98,
        hidden: Pair | None = None,
        attention: Pair | None = None,
        private: str = "network.private",
        shared: str = "network.shared",
        adapter: str = "network.adapter",
        label_key: str | int = 1,
        weighting: Weighting = "samples",
    ) -> None:
        super().__init__(weighting)
        expect(rounds=rounds, ge=1)
        expect(start=start, end=end, gt=0, le=1)
        self.rounds, self.start, self.end = rounds, start, end
        self.hidden, self.attention = hidden, attention
        self.private, self.shared, self.adapter, self.label_key = private, shared, adapter, label_key
        self.trains_server_model = [shared]

    def attach(self, module: LightningModule, example: Any) -> None:
        """Makes the two models teach each other."""
        layers = [self.private, self.shared, *(self.hidden or ()), *(self.attention or ())]
        for layer in layers:
            find_layer(module, layer, "layer")
        adapter = find_layer(module, self.adapter, "adapter") if self.hidden else None

        def extra(scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor:
            pairs = []
            if self.hidden and adapter is not None:
                pairs.append((taps.output(self.hidden[0]), adapter(taps.output(self.hidden[1]))))
            if self.attention:
                pairs.append((taps.output(self.attention[0]), taps.output(self.attention[1])))
            for ours, its in pairs:
                if ours.shape != its.shape:
                    raise ValueError(
                        f"hidden={self.hidden}, attention={self.attention}: the private layer gives {tuple(ours.shape)}, the "
                        f"shared one {tuple(its.shape)}; give the module an adapter, such as a Linear, between them."
                    )
            labels = labels_of(batch, self.label_key)
            return fedkd_loss(taps.output(self.private), taps.output(self.shared), labels, pairs)

        add_loss(module, extra, layers, "train/mutual_loss")

    def begin(self, context: ClientContext) -> None:
        """Loads the server's shared model into the client's, which remembers it."""
        tensors = tensors_of(context.module, self.shared)
        sent = {
            name.removeprefix(CHANGE): t for name, t in context.knowledge.items() if name.startswith(CHANGE)
        }
        if sent:
            now = plus({name: context.memory[name] for name in tensors}, restore(sent, tensors))
        else:
            now = {name: context.knowledge[name] for name in tensors}
        context.memory |= now
        assign(tensors, now)

    def finish(self, context: ClientContext) -> Lists:
        """Replies the change of the shared model, in factors."""
        now = tensors_of(context.module, self.shared)
        change = {name: tensor.detach() - context.memory[name] for name, tensor in now.items()}
        context.reply_tensors = compress(change, context.config["energy"])
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Averages the clients' changes, factors the mean, and applies it as it then is."""
        models = [tensors_of(model, self.shared) for model in server.models]
        check_alike(models, self.shared)
        x = {name: tensor.detach().cpu() for name, tensor in models[0].items()}
        energy = energy_at((server.index + 1) / self.rounds, self.start, self.end)
        told = server.gather(server.train(knowledge=self._for_each(server, x), config={"energy": energy}))
        weights = [1.0 if self.weighting == "uniform" else float(t.samples) for t in told]
        changes = [restore(t.knowledge, x) for t in told]
        total = {
            name: torch.stack([w * c[name].to(high) for w, c in zip(weights, changes, strict=True)]).sum(0)
            for name, high in ((n, torch.promote_types(t.dtype, torch.float64)) for n, t in x.items())
        }
        change = compress({n: (t / sum(weights)).to(x[n]) for n, t in total.items()}, energy)
        new = plus(x, restore(change, x))
        for tensors in models:
            assign(tensors, new)
        self.state = {"change": change, "current": {str(t.client): torch.tensor(1) for t in told}}
        return {}

    def _for_each(self, server: "ServerRound", x: Tensors) -> dict[int, Tensors]:
        """Selects the last change for clients that know the weights before it, else all weights."""
        current = self.state.get("current", {})
        change = {CHANGE + name: tensor for name, tensor in self.state.get("change", {}).items()}
        return {i: change if str(i) in current else x for i in server.cohort}
