"""The classifier of a client that trains a private network and a shared one."""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.models.private_shared import Answer, PrivateShared
from lkd.modules.classifier import Classifier, labeled
from lkd.taps import Taps

PRIVATE, SHARED = "network.private", "network.shared"


class PrivateSharedClassifier(Classifier):
    """Classifier with a private network of any architecture, and a shared network that all clients have.

    Addresses of its layers are `network.private`, `network.shared`, `network.adapter`, see
    `lkd.models.PrivateShared`. Its own loss is the private network's cross entropy, so the shared network
    does not change without an algorithm that teaches it. `val/acc` and `test/acc` are those of the answering
    network, `acc_private` and `acc_shared` those of each. In a federation the server's private network stays
    untrained: for the server read `val/acc_shared`.

    Args:
        private: Network that gives logits `(B, num_classes)`.
        shared: Network of the same form, with one architecture at all clients.
        num_classes: Number of classes.
        answer: Network that answers in `forward` and prediction.
        adapter: Maps a hidden state of the shared network to the size of the private network's, for FedKD.
        optimizer: Creates the optimizer, one for both networks, see `Classifier`.
        scheduler: Creates the scheduler, see `Classifier`.

    Example:
        >>> classifier = PrivateSharedClassifier(nn.Linear(4, 3), nn.Linear(4, 3), num_classes=3)
        >>> classifier(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        private: nn.Module,
        shared: nn.Module,
        num_classes: int = 10,
        answer: Answer = "private",
        adapter: nn.Module | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        network = PrivateShared(private, shared, answer, adapter)
        super().__init__(network, num_classes, optimizer=optimizer, scheduler=scheduler)
        for stage in ("val", "test"):
            accuracies = [MulticlassAccuracy(num_classes, average="micro") for _ in range(2)]
            setattr(self, f"{stage}_both", nn.ModuleList(accuracies))

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the private network's loss of a labeled batch."""
        x, y = labeled(batch)
        with Taps(self, [PRIVATE]) as taps:
            self(x)
        loss = self.loss(taps.output(PRIVATE), y)
        require_finite(self, loss, {"cross entropy": loss})
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x))
        return loss

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        with Taps(self, [PRIVATE, SHARED]) as taps:
            super()._evaluate(batch, stage)
        for layer, metric in zip((PRIVATE, SHARED), getattr(self, f"{stage}_both"), strict=True):
            metric.update(taps.output(layer), batch[1])
            self.log(f"{stage}/acc_{layer.rpartition('.')[2]}", metric, batch_size=len(batch[1]))
