"""FedNTD: clients keep what the server knows of the other classes."""

from typing import Any

from lightning.pytorch import LightningModule

from lkd.distillation import Distiller
from lkd.federated.algorithms.base import Algorithm, Weighting
from lkd.federated.algorithms.carried_model import CarriedModel, carry
from lkd.federated.client.context import ClientContext
from lkd.losses import DKD
from lkd.teachers import Teacher

SERVER = "server"
"""Name of the teacher."""


class FedNTD(Algorithm):
    """FedAvg whose clients distill from the server's weights, over the classes that are not the true one.

    Lee et al., "Preservation of the Global Knowledge by Not-True Distillation in Federated Learning", NeurIPS
    2022, arXiv:2106.03097, eq. (5): `L = L_CE + beta L_NTD`, the KL divergence at temperature tau between the
    softmaxes over the not-true classes, times tau^2: the part over the other classes of decoupled
    distillation, which `lkd.losses.DKD` computes. The client's module returns logits from its forward, and
    its batches hold labels. Travels what FedAvg's does.

    Args:
        beta: Weight of the distillation. At 0 this is FedAvg. Above 0 there must be at least three classes,
            for with two only one is not true.
        temperature: Temperature tau of both softmaxes.
        label_key: Key or index of the labels in a batch.
        weighting: How replies are averaged.

    Raises:
        ValueError: For a negative beta; before the first round, for a module whose forward gives no logits.
    """

    stacks = True
    sends_one_change = True

    def __init__(
        self,
        beta: float = 1.0,
        temperature: float = 1.0,
        label_key: str | int = 1,
        weighting: Weighting = "samples",
    ) -> None:
        super().__init__(weighting)
        self.term = DKD(temperature=temperature, alpha=0.0, beta=1.0, weight=beta)
        self.label_key = label_key

    def attach(self, module: LightningModule, example: Any) -> None:
        """Makes a copy of the model the teacher of the training."""
        teacher = Teacher(CarriedModel(module, SERVER))
        Distiller(teacher, [self.term], alpha=1.0, label_key=self.label_key).attach(module, example)

    def begin(self, context: ClientContext) -> None:
        """Gives the teacher the weights that the client starts from."""
        carry(context.carried, SERVER, context.tensors())
