"""The classifier of multi-headed distillation, as a LightningModule."""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.models.multi_head import MultiHead
from lkd.modules.classifier import Classifier, labeled
from lkd.taps import Taps


class MultiHeadClassifier(Classifier):
    """Classifier with a main head, which learns from labels, and auxiliary heads, which learn from others.

    It takes any backbone, see `lkd.models.MultiHead`. Addresses of its layers are `network.embedding`,
    `network.heads.0` (main), `network.heads.1` and so on. Its own loss is the main head's cross entropy, so
    the auxiliary heads do not change without an algorithm that teaches them. `val/acc` and `test/acc` are
    those of the answering head; `val/acc_head0`, ... those of each head.

    Args:
        backbone: A module that gives features `(B, F)` or `(B, F, H, W)`, or the name of a timm model.
        num_classes: Number of classes.
        heads: Number of auxiliary heads.
        embedding: Size of the embedding under all heads; None for the backbone's own.
        in_channels: Channels of the input.
        answer: Head that answers in `forward` and prediction: 0 the main head, -1 the last one.
        example: Shape of an input without the batch, for finding the backbone's width.
        optimizer: Creates the optimizer, see `Classifier`.
        scheduler: Creates the scheduler, see `Classifier`.

    Example:
        >>> classifier = MultiHeadClassifier(nn.Flatten(), num_classes=3, heads=2, embedding=8, example=[1, 2, 2])
        >>> classifier(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        backbone: nn.Module | str,
        num_classes: int = 10,
        heads: int = 1,
        embedding: int | None = 64,
        in_channels: int = 3,
        answer: int = 0,
        example: list[int] | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        network = MultiHead(backbone, num_classes, heads, embedding, in_channels, answer, example)
        super().__init__(network, num_classes, in_channels, optimizer, scheduler)
        self.layers = [f"network.heads.{i}" for i in range(heads + 1)]
        for stage in ("val", "test"):
            accuracies = [MulticlassAccuracy(num_classes, average="micro") for _ in self.layers]
            setattr(self, f"{stage}_heads", nn.ModuleList(accuracies))

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the main head's loss of a labeled batch."""
        x, y = labeled(batch)
        with Taps(self, self.layers[:1]) as taps:
            self(x)
        loss = self.loss(taps.output(self.layers[0]), y)
        require_finite(self, loss, {"cross entropy": loss})
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x))
        return loss

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        with Taps(self, self.layers) as taps:
            super()._evaluate(batch, stage)
        for i, (layer, metric) in enumerate(zip(self.layers, getattr(self, f"{stage}_heads"), strict=True)):
            metric.update(taps.output(layer), batch[1])
            self.log(f"{stage}/acc_head{i}", metric, batch_size=len(batch[1]))
