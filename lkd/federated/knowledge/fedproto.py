"""FedProto: clients exchange the mean feature of each class."""

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.batches import Keys, call_of
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.client.context import CARRIED, ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.compatibility import OwnSizes, tell_sizes
from lkd.federated.knowledge.common.consensus import stacked
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.knowledge.common.prototypes import (
    check_labels,
    class_means,
    joined_means,
    prototype_distance,
)
from lkd.federated.protocol.tensors import Lists, Tensors
from lkd.taps import Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FedProto(Algorithm):
    """Local training that pulls features to the mean feature of their class over all clients.

    Tan et al., "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022,
    arXiv:2105.00243, Algorithm 1. A client's prototype of class j is its mean feature, eq. (3), here of the
    trained model in eval mode (the authors' code: of the batches of its last epoch, while it trains). The
    server's prototype is their mean weighted by samples over the clients that have the class, eq. (6)
    (without the further factor 1/|N_j| there, which would shrink it; the authors' code averages without
    weights: `weighting="uniform"`). A client minimizes `L + lam d(f(x), C_y)`, where d is the mean squared
    difference over the features of every sample, as in the authors' code (the paper's eq. (7) has the
    distance of the batch's prototypes). The equations' numbers could not be checked. A class that no client
    of a round has keeps its prototype. Travels: per class a feature and a count, each way; in addition, once
    for each architecture, the size of one client's features. Features must have one size.

    Args:
        layer: Layer that gives the features, `(B, D)`; maps are flattened.
        classes: Number of classes.
        lam: Weight of the distance. At 0 this is local training. The paper takes 1 on MNIST and FEMNIST, .1
            on CIFAR-10.
        label_key: Key or index of the labels in a batch.
        weighting: How prototypes are averaged: by the clients' samples of the class, or all alike.
        input_key: Entry of a batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For a negative lam, and, before any training, features of different sizes or labels out of
            range.
    """

    stacks = True
    aggregates_weights = False
    supports_multiple_models = True

    def __init__(
        self,
        layer: str,
        classes: int,
        lam: float = 1.0,
        label_key: str | int = 1,
        weighting: Weighting = "samples",
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(weighting)
        expect(lam=lam, ge=0)
        expect(classes=classes, ge=1)
        self.layer, self.classes, self.lam = layer, classes, lam
        self.input_key, self.label_key = input_key, label_key
        self._sizes = OwnSizes(layer, "embedding sizes")

    def setup(self, x: Tensors) -> None:
        """Starts without prototypes."""
        self.state, self._sizes = {}, OwnSizes(self.layer, "embedding sizes")

    def tell_sizes(self, context: ClientContext) -> None:
        """Replies the size of the client's features."""
        tell_sizes(context, [self.layer], self.input_key, self.label_key)

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the distance from the prototypes to the module's loss."""
        check_labels(labels_of(example, self.label_key), self.classes)
        add_loss(module, self._extra, [self.layer], "train/prototype_loss")

    def begin(self, context: ClientContext) -> None:
        """Takes the prototypes that were sent."""
        context.carried.update(context.knowledge)

    def _extra(self, scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor | None:
        if not scratch[CARRIED] or not self.lam:
            return None
        features = taps.output(self.layer).float().flatten(1)
        labels = labels_of(batch, self.label_key)
        return self.lam * prototype_distance(features, labels, **scratch[CARRIED])

    def finish(self, context: ClientContext) -> Lists:
        """Replies the mean feature of each class, by the trained model in eval mode."""
        module, loop = context.module, context.loop

        def features(batch: Any) -> tuple[Tensor, Tensor]:
            call = call_of(module, batch, self.input_key, self.label_key)
            (found,) = outputs(module, [call], [self.layer], loop.trainer)
            return found.flatten(1), labels_of(batch, self.label_key)

        batches = [map(loop.on_device, one.client.ordered_batches("train")) for one in context.members]
        for one, found in zip(context.members, context.map(features, batches), strict=True):
            each, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
            one.reply_tensors.update(class_means(each, labels, self.classes))
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains clients towards the prototypes, and averages the new ones."""
        self._sizes.check(server)
        told = server.gather(server.train(knowledge=self.state.get("prototypes")))
        means, counts = stacked(told, "mean"), stacked(told, "count")
        old = self.state.get("prototypes")  # kept for classes that no client of this round has
        self.state = {"prototypes": joined_means(means, counts, self.weighting == "uniform", old)}
        return {}
