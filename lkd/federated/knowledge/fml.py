"""FML: at every client, a private model of any architecture and a small shared one teach each other."""

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.addresses import find_layer
from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.protocol.tensor_names import matches
from lkd.federated.protocol.tensors import Tensors
from lkd.losses.inputs import full_precision
from lkd.losses.logit import kd_loss
from lkd.taps import Taps

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


def fml_loss(
    private: Tensor, shared: Tensor, labels: Tensor, alpha: float = 0.5, beta: float = 0.5
) -> Tensor:
    """Computes the loss that is added to alpha times the private model's own loss.

    It is
    `(1 - alpha) KL(p_shared || p_private) + beta CE(p_shared, y) + (1 - beta) KL(p_private || p_shared)`.
    Every p is a softmax at temperature 1, KL is summed over the classes, and all means are over the batch;
    the p before the `||` is a constant.

    Args:
        private: Logits `(B, C)` of the private model.
        shared: Logits `(B, C)` of the shared model.
        labels: `(B,)`.
        alpha: Weight of the private model's own loss, which is not included here.
        beta: Weight of the shared model's cross entropy.

    Example:
        >>> import torch
        >>> one, other = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> fml_loss(one, other, torch.tensor([0]))  # (1.5232 + 2.1269 + 1.5232) / 2
        tensor(2.5867)
    """
    private_learns = (1 - alpha) * kd_loss(private, shared, temperature=1.0)
    hard = beta * F.cross_entropy(full_precision(shared), labels)
    return private_learns + hard + (1 - beta) * kd_loss(shared, private, temperature=1.0)


class FML(Algorithm):
    """Federated mutual learning: the clients' shared ("meme") models are averaged, their private ones not.

    Shen et al., "Federated Mutual Learning", 2020, arXiv:2006.16765. Every client trains its private model by
    `alpha CE(p_private, y) + (1 - alpha) KL(p_shared || p_private)` and its copy of the shared one by
    `beta CE(p_shared, y) + (1 - beta) KL(p_private || p_shared)` on the same batches (deep mutual learning,
    Zhang et al. 2018); the server averages the shared models. Both step at once, from the predictions before
    the step. Some re-implementations also take the mean of KL over the classes, which makes it C times
    weaker; here it is summed. The average by samples is that of FedAvg and our choice. Travels: the shared
    model down, its change up.

    The client's module holds both models, as `PrivateSharedClassifier` does; its own loss is that of the
    private one. Give `Federation(personal_layers=["network.private"])`, and, if there are other
    architectures, `shared_layers=["network.shared"]`.

    Args:
        alpha: Weight of the private model's own loss against the shared model's predictions. At 1 it learns
            alone.
        beta: The same for the shared model. With both at 1 this is FedAvg beside local training.
        private: Layer that gives the private model's logits.
        shared: Layer that gives the shared model's logits; its parameters, and no others, may travel.
        label_key: Key or index of the labels in a batch.
        weighting: How shared models are averaged.

    Raises:
        ValueError: If alpha or beta is not in [0, 1]; in the first round, if anything but the shared model
            would travel, or not all architectures have it in common.

    Example:
        >>> FML(alpha=0.5, beta=0.5).shared
        'network.shared'
    """

    supports_multiple_models = True

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        private: str = "network.private",
        shared: str = "network.shared",
        label_key: str | int = 1,
        weighting: Weighting = "samples",
    ) -> None:
        super().__init__(weighting)
        expect(alpha=alpha, beta=beta, ge=0, le=1)
        self.alpha, self.beta, self.private, self.shared = alpha, beta, private, shared
        self.label_key = label_key

    def attach(self, module: LightningModule, example: Any) -> None:
        """Makes the two models teach each other."""
        find_layer(module, self.private, "private")
        find_layer(module, self.shared, "shared")
        add_loss(module, self._extra, [self.private, self.shared], "train/mutual_loss", self.alpha)

    def _extra(self, scratch: dict[str, Any], batch: Any, taps: Taps) -> Tensor:
        labels = labels_of(batch, self.label_key)
        return fml_loss(taps.output(self.private), taps.output(self.shared), labels, self.alpha, self.beta)

    def round(self, server: "ServerRound") -> Tensors:
        """Checks that only shared models travel, and averages them."""
        check_travels(server, self.private, self.shared)
        return super().round(server)


def check_travels(server: "ServerRound", private: str, shared: str) -> None:
    """Refuses a federation in which anything but the layer `shared`, common to all architectures, travels.

    Args:
        server: The round.
        private: Layer of the private model, for the message.
        shared: Layer of the shared model.

    Raises:
        ValueError: If there is such a layer; the message names the argument that helps.
    """
    for kind in range(len(server.models)):
        weights = server.layout(kind).weights
        other = [own for own in weights if not matches(own, [shared])]
        if other:
            raise ValueError(
                f"{other[0]} would travel, but only the shared model, {shared!r}, is to leave a client: say "
                f"Federation(personal_layers=[{private!r}]), with all else that is the client's own."
            )
        if not weights:
            raise ValueError(
                f"personal_layers keeps {shared!r} with the clients, so that nothing would travel."
            )
        if any(own != at for own, at in weights.items()):
            raise ValueError(
                f"every architecture would have a {shared!r} of its own: say Federation(shared_layers=[{shared!r}])."
            )
