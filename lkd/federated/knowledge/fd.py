"""FD: clients exchange their mean outputs of each class."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client.context import CARRIED, ClientContext
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.knowledge.common.compatibility import OwnSizes, tell_sizes
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.protocol.tensors import Lists, Tensors, moved
from lkd.taps import Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


class FD(Algorithm):
    """Federated distillation: a sample's target is the other clients' mean output for its class.

    Jeong et al., "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation
    under Non-IID Private Data", 2018, arXiv:1811.11479, Algorithm 1. While it trains, client k averages its
    softmax outputs `F_k,l` over its samples of each class l; the server averages over the M clients that have
    the class, and sends to k the mean over the others, `(M F_l - F_k,l) / (M - 1)`. In the next round the
    loss of a sample of class l is `L + gamma CE(target, F(x))` with that mean as soft target. A class that no
    other client has gives no target. Travels: C x C probabilities and C counts up, C x C probabilities and C
    flags down, whatever the model; in addition, once for each architecture, one client's number of classes.

    Args:
        gamma: Weight of the distillation. At 0 this is local training. Default 1.
        layer: Layer that gives the logits; `""` is the module's output.
        label_key: Key or index of the labels in a batch.
        input_key: Entry of a batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For a negative gamma, and, before any training, if clients have different classes.
    """

    stacks = True
    aggregates_weights = False
    supports_multiple_models = True

    def __init__(
        self,
        gamma: float = 1.0,
        layer: str = "",
        label_key: str | int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__()
        expect(gamma=gamma, ge=0)
        self.gamma, self.layer, self.label_key, self.input_key = gamma, layer, label_key, input_key
        self._sizes = OwnSizes(layer)

    def setup(self, x: Tensors) -> None:
        """Forgets all means and sizes."""
        self.state, self._sizes = {}, OwnSizes(self.layer)

    def tell_sizes(self, context: ClientContext) -> None:
        """Replies the number of classes of the client's model."""
        tell_sizes(context, [self.layer], self.input_key, self.label_key)

    def attach(self, module: LightningModule, example: Any) -> None:
        """Adds the distillation, and sums the module's outputs of each class."""
        add_loss(module, self._extra, [self.layer], "train/distillation_loss")

    def begin(self, context: ClientContext) -> None:
        """Takes the targets that were sent."""
        context.carried.update(context.knowledge)

    def _extra(self, scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor | None:
        logits, carried = taps.output(self.layer).float(), scratch[CARRIED]
        labels = labels_of(batch, self.label_key)
        one_hot = F.one_hot(labels, logits.shape[1]).to(
            logits
        )  # index_add_ would not be reproducible on a GPU
        carried["mean"] = carried.get("mean", 0) + one_hot.T @ logits.detach().softmax(1)
        carried["count"] = carried.get("count", 0) + one_hot.sum(0)
        if "known" not in carried or not self.gamma:
            return None
        known = carried["known"][labels] > 0  # samples without a target count as zero
        return self.gamma * soft_cross_entropy(logits, carried["targets"][labels] * known[:, None])

    def finish(self, context: ClientContext) -> Lists:
        """Replies the mean output of each class."""
        mean, count = context.carried["mean"], context.carried["count"]
        context.reply_tensors = {"mean": mean / count.clamp_min(1)[..., None], "count": count}
        return {}

    def round(self, server: "ServerRound") -> Tensors:
        """Trains towards the means of the round before, and collects the new ones."""
        self._sizes.check(server)
        told = server.gather(server.train(knowledge=self._for_each(server)))
        self.state = {
            "means": {str(t.client): t.knowledge["mean"] for t in told},
            "counts": {str(t.client): t.knowledge["count"] for t in told},
        }
        return {}

    def _for_each(self, server: "ServerRound") -> dict[int, Tensors]:
        """Averages, for each client, over the others that had the class in the last round."""
        means, counts = (moved(self.state.get(group, {}), "cpu") for group in ("means", "counts"))
        found = {}
        for client in server.cohort:
            others = [name for name in means if name != str(client)]
            if others:
                has = torch.stack([(counts[n] > 0).double() for n in others])
                total = torch.stack([means[n].double() for n in others]) * has[..., None]
                number = has.sum(0)
                targets = total.sum(0) / number.clamp_min(1)[:, None]
                found[client] = {"targets": targets.float(), "known": (number > 0).to(torch.uint8)}
        return found
