"""MOON: model-contrastive federated learning."""

from typing import Any

import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.checks import expect
from lkd.distillation import Distiller
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.algorithms.carried_model import CarriedModel, carry
from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.tensors import Lists
from lkd.losses import Term
from lkd.teachers import Teacher


def model_contrast(z: Tensor, server: Tensor, former: Tensor, temperature: float = 0.5) -> Tensor:
    """Pulls features to the server's and away from the client's former ones; Li et al. 2021, eq. (3).

    The loss is `-log(exp(sim(z, z_glob) / tau) / (exp(sim(z, z_glob) / tau) + exp(sim(z, z_prev) / tau)))`,
    where sim is the cosine.

    Args:
        z: Features of the model in training, `(B, ...)`; flattened to `(B, D)`.
        server: Features by the server's weights, of the same shape.
        former: Features by the client's former weights, of the same shape.
        temperature: Tau, above 0.

    Returns:
        The mean over the batch.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 0.0]])
        >>> model_contrast(z, z, z)
        tensor(0.6931)
    """
    near, far = (F.cosine_similarity(z.flatten(1), other.flatten(1)) for other in (server, former))
    return F.softplus((far - near) / temperature).mean()


class ModelContrast(Term):
    """Term that applies `model_contrast` to one layer of the student and two of its teacher.

    Args:
        temperature: Tau, above 0.
        weight: Factor of the loss.
        student_layer: Layer that gives z.
        teacher_layer: Layers that give the server's and the former features.

    Raises:
        ValueError: A temperature that is not above 0.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        weight: float = 1.0,
        student_layer: str | list[str] = "",
        teacher_layer: str | list[str] = "",
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(temperature=temperature, gt=0)
        self.temperature = temperature

    def forward(
        self, student: Any, teacher: Any, labels: Tensor | None = None, adapter: nn.Module | None = None
    ) -> Tensor:
        """Computes the loss from the student's features and the teacher's pair."""
        server, former = teacher
        return model_contrast(student, server, former, self.temperature)


class ModelPair(nn.Module):
    """Module that holds the server's model and the client's former one, for the same input."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.server, self.former = CarriedModel(module, "server"), CarriedModel(module, "former")

    def forward(self, inputs: Tensor) -> Tensor:
        """Runs both models; the features are read from their layers."""
        self.former(inputs)
        found: Tensor = self.server(inputs)
        return found


class MOON(Algorithm):
    """FedAvg whose clients pull their features to the server's and away from their own former ones.

    Li et al., "Model-Contrastive Federated Learning", CVPR 2021, arXiv:2103.16257, eq. (4):
    `L = L_CE + mu L_con`, see `model_contrast`. The former features are by the weights that the client had
    after its last round, at first the server's; batch statistics are the server's. Travels what FedAvg's
    does; a client keeps one model.

    Args:
        layer: Layer of the client's module that gives the features; the authors use the output of a
            projection.
        mu: Weight of the contrast. At 0 this is FedAvg. The paper tunes it over .1, 1, 5, 10.
        temperature: Temperature tau of the contrast.
        weighting: How replies are averaged.

    Raises:
        ValueError: For a layer that does not exist, a negative mu, or a temperature that is not above 0.
    """

    stacks = True
    sends_one_change = True

    def __init__(
        self, layer: str, mu: float = 1.0, temperature: float = 0.5, weighting: Weighting = "samples"
    ) -> None:
        super().__init__(weighting)
        both = [f"{which}.model.{layer}".rstrip(".") for which in ("server", "former")]
        self.term = ModelContrast(temperature, mu, student_layer=layer, teacher_layer=both)

    def attach(self, module: LightningModule, example: Any) -> None:
        """Makes copies of the model the teacher: one for the server's weights, one for the former ones."""
        Distiller(Teacher(ModelPair(module)), [self.term], alpha=1.0).attach(module, example)

    def begin(self, context: ClientContext) -> None:
        """Gives the pair the server's weights and the client's former ones."""
        server = context.tensors()
        former = zip(context.names, context.state.get("former", context.x), strict=True)
        carry(context.carried, "server", server)
        weights = {name: value.expand_as(server[name]) for name, value in former}
        carry(context.carried, "former", {**server, **weights})

    def finish(self, context: ClientContext) -> Lists:
        """Keeps the client's weights for its next round."""
        context.state["former"] = [p.detach().clone() for p in context.params]
        return {}
