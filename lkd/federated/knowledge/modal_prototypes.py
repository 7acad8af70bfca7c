"""Prototypes of classes for each modality, exchanged between clients with different modalities."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_inputs import inputs_of
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.compatibility import OwnSizes, tell_sizes
from lkd.federated.knowledge.common.consensus import stacked
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.knowledge.common.modality_layers import (
    NETWORK,
    check_modalities,
    check_pattern,
    modal_layers,
    of_each,
    owners,
    present,
)
from lkd.federated.knowledge.common.prototypes import (
    check_labels,
    class_means,
    joined_means,
    prototype_distance,
)
from lkd.federated.protocol.tensors import Lists, Tensors
from lkd.taps import Call, Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


def mean_of_others(means: dict[str, Tensor], counts: dict[str, Tensor], modality: str) -> Tensors:
    """Averages a class's prototypes over all modalities but one.

    Args:
        means: Prototypes `(C, D)` by modality.
        counts: `(C,)` by modality; a class with 0 has no prototype there.
        modality: The modality to leave out.

    Returns:
        `mean (C, D)`, and `count (C,)`, the number of modalities in each mean; empty where there is no other
        modality.

    Example:
        >>> means = {"a": torch.tensor([[1.0]]), "b": torch.tensor([[2.0]]), "c": torch.tensor([[0.0]])}
        >>> counts = {"a": torch.tensor([5.0]), "b": torch.tensor([3.0]), "c": torch.tensor([0.0])}
        >>> mean_of_others(means, counts, "a")
        {'mean': tensor([[2.]]), 'count': tensor([1.])}
    """
    others = [m for m in means if m != modality]
    if not others:
        return {}
    known = torch.stack([counts[m] > 0 for m in others]).float()
    count = known.sum(0)
    total = (known[..., None] * torch.stack([means[m] for m in others])).sum(0)
    return {"mean": total / count.clamp_min(1)[:, None], "count": count}


class ModalPrototypes(Algorithm):
    """Local training that pulls each modality's embeddings to prototypes of its own and of other modalities.

    FedProto (Tan et al., AAAI 2022, arXiv:2105.00243; see `FedProto`) for clients that have different
    modalities. After its training, a client replies, for each of its modalities m, the mean embedding and the
    number of samples of each class, over its samples that have m, by the trained model in eval mode. The
    server's prototype P_m[c] is their mean weighted by samples; a pair of modality and class that no client
    of a round has keeps its prototype. A client minimizes

        L + mean_m (intra mse(z_m, P_m[y]) + inter mse(z_m, Q_m[y])),

    Q_m[c] being the mean of P_m'[c] over the other modalities m' that have the class. A mean squared
    difference is over the features of the batch's samples that have m, the mean over m is over the client's
    modalities that some sample has. A class without a prototype adds nothing. So a client of one modality
    learns what others see of a class with theirs; if all clients have that one modality, this is FedProto on
    its embeddings.

    Exchanging prototypes across modalities is the idea of MFCPL (Le et al., "Cross-Modal Prototype based
    Multimodal Federated Learning under Severely Missing Modality", arXiv:2401.13898), whose cross-modal term
    is a contrastive one and which also averages weights; its equations could not be checked, so the terms
    here are FedProto's, and both weights are our choice.

    Travels: up, per class an embedding and a count, for every modality that the client has; down, the same
    for all modalities known so far; in addition, once for each architecture, the sizes of one client's
    embeddings. Embeddings of all modalities and clients must have one size.

    Args:
        classes: Number of classes.
        intra: Weight of the distance to the modality's own prototypes.
        inter: Weight of the distance to the other modalities' prototypes. With both at 0 this is local
            training.
        layer: Layers that give the embeddings `(B, D)`, with `{modality}` as the placeholder of the modality.
        modalities: Modalities that take part. Default: all that a client's `network.modalities` names.
        label_key: Key or index of the labels in a batch.

    Raises:
        ValueError: For numbers out of range, and, before any training, embeddings of different sizes, labels
            out of range, or modules that do not say which modalities they have.

    Example:
        >>> ModalPrototypes(classes=5, inter=0.5).layer
        'network.projections.{modality}'
    """

    aggregates_weights = False
    supports_multiple_models = True

    def __init__(
        self,
        classes: int,
        intra: float = 1.0,
        inter: float = 1.0,
        layer: str = "network.projections.{modality}",
        modalities: Sequence[str] | None = None,
        label_key: str | int = 1,
    ) -> None:
        super().__init__("samples")
        expect(classes=classes, ge=1)
        expect(intra=intra, inter=inter, ge=0)
        check_pattern(layer)
        self.classes, self.intra, self.inter, self.layer = classes, intra, inter, layer
        self.modalities = None if modalities is None else list(modalities)
        self.label_key = label_key
        self._sizes = OwnSizes(layer, "embedding sizes")

    def setup(self, x: Tensors) -> None:
        """Starts without prototypes."""
        self.state, self._sizes = {}, OwnSizes(self.layer, "embedding sizes")

    def tell_sizes(self, context: ClientContext) -> None:
        """Replies the sizes of the client's embeddings."""
        tell_sizes(context, list(self._layers(context.module).values()))

    def _layers(self, module: LightningModule) -> dict[str, str]:
        return modal_layers(module, self.layer, self.modalities)

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the distances from the prototypes to the module's loss."""
        check_labels(labels_of(example, self.label_key), self.classes)
        layers = [NETWORK, *self._layers(module).values()]
        add_loss(module, functools.partial(self._extra, module), layers, "train/prototype_loss")

    def begin(self, context: ClientContext) -> None:
        """Takes the prototypes that were sent, and averages those of other modalities."""
        means, counts = (of_each(context.knowledge, what) for what in ("mean", "count"))
        context.scratch["own"] = {m: {"mean": means[m], "count": counts[m]} for m in means}
        others = {m: mean_of_others(means, counts, m) for m in self._layers(context.module)}
        context.scratch["others"] = others

    def _extra(
        self, module: LightningModule, scratch: dict[str, Any], batch: Any, taps: Taps
    ) -> Tensor | None:
        own, others = scratch.get("own"), scratch.get("others", {})
        if not own or not (self.intra or self.inter):
            return None
        labels, there = labels_of(batch, self.label_key), present(module, taps.input(NETWORK))
        found = []
        for m, layer in self._layers(module).items():
            if not (rows := there[m]).any():
                continue
            features, y = owners(taps.output(layer), rows, layer), labels[rows]
            away = features.new_zeros(())
            for weight, prototypes in ((self.intra, own.get(m)), (self.inter, others[m])):
                if prototypes:
                    away = away + weight * prototype_distance(features, y, **prototypes)
            found.append(away)
        return torch.stack(found).mean() if found else None

    @torch.no_grad()
    def finish(self, context: ClientContext) -> Lists:
        """Replies the mean embedding of each class and modality, by the trained model in eval mode."""
        loop, layers = context.loop, self._layers(context.module)
        labels: list[Tensor] = []
        masks: dict[str, list[Tensor]] = {m: [] for m in layers}

        def inputs() -> Any:
            for given in context.client.ordered_batches("train"):
                batch = loop.on_device(given)
                labels.append(labels_of(batch, self.label_key))
                there = present(context.module, inputs_of(batch))
                for m, into in masks.items():
                    into.append(there[m])
                yield Call((inputs_of(batch),), {})

        found = outputs(context.module, inputs(), list(layers.values()), loop.trainer)
        every = torch.cat(labels)
        for (m, layer), features in zip(layers.items(), found, strict=True):
            rows = torch.cat(masks[m])
            told = class_means(owners(features, rows, layer), every[rows], self.classes)
            context.reply_tensors |= {f"{what}/{m}": tensor for what, tensor in told.items()}
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains clients towards the prototypes, and averages the new ones."""
        self._check(server)
        sent = {f"{what}/{m}": t for what, group in self.state.items() for m, t in group.items()}
        told = server.gather(server.train(knowledge=sent))
        means, counts = (dict(self.state.get(what, {})) for what in ("mean", "count"))
        for m in dict.fromkeys(m for t in told for m in of_each(t.knowledge, "mean")):
            having = [t for t in told if f"mean/{m}" in t.knowledge]
            old = {"mean": means[m], "count": counts[m]} if m in means else None
            new = joined_means(stacked(having, f"mean/{m}"), stacked(having, f"count/{m}"), old=old)
            means[m], counts[m] = new["mean"], new["count"]
        self.state = {"mean": means, "count": counts}
        return {}

    def _check(self, server: "ServerRound") -> None:
        """Refuses, before any training, embeddings that cannot be compared."""
        check_modalities(self.modalities, server.models)
        self._sizes.check(server)
