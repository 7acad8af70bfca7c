"""A classifier whose deepest exit teaches its other exits (Be Your Own Teacher)."""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.losses.exits import byot_loss
from lkd.models import MultiExit
from lkd.modules.classifier import Classifier, labeled


class MultiExitClassifier(Classifier):
    """A `Classifier` whose network has exits, trained by self-distillation.

    Zhang et al.: Be Your Own Teacher, ICCV 2019, arXiv:1905.08094; the loss is `lkd.losses.byot_loss`. It
    logs what `Classifier` logs, of the deepest exit, and the accuracies `acc_<i>` of the shallow exits, 0 the
    shallowest.

    Args:
        network: The network with its exits.
        num_classes: Number of classes.
        temperature: Temperature of the exits' distributions. Default 3.
        alpha: Weight of the imitation against the labels in the shallow exits, in [0, 1]. Default .3.
        hint_weight: Weight of the hint between the exits' maps. Default .03.
        optimizer: Creates the optimizer (default AdamW, lr .001); biases and norms get no weight decay.
        scheduler: Creates the scheduler, stepped once per epoch. Default: constant learning rate.

    Raises:
        TypeError: For a network without exits.

    Example:
        >>> from lkd.models import CIFARResNet
        >>> network = MultiExit(CIFARResNet(8, classes=10), layers=["layer1", "layer2", "layer3"])
        >>> MultiExitClassifier(network, num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    network: MultiExit

    def __init__(
        self,
        network: MultiExit,
        num_classes: int = 10,
        temperature: float = 3.0,
        alpha: float = 0.3,
        hint_weight: float = 0.03,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        if not isinstance(network, MultiExit):
            raise TypeError(
                f"network={type(network).__name__} has no exits; wrap it: MultiExit(network, layers)."
            )
        super().__init__(network, num_classes, optimizer=optimizer, scheduler=scheduler)
        self.temperature, self.alpha, self.hint_weight = temperature, alpha, hint_weight
        for stage in ("val", "test"):
            metrics = [MulticlassAccuracy(num_classes, average="micro") for _ in network.heads]
            setattr(self, f"{stage}_exits", nn.ModuleList(metrics))

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the loss of self-distillation on a labeled batch."""
        x, y = labeled(batch)
        logits, features = self.network.exits(x)
        hard = self.loss(logits[-1], y)
        loss = byot_loss(logits, y, features, self.temperature, self.alpha, self.hint_weight)
        require_finite(self, loss, {"cross entropy of the deepest exit": hard, "all exits": loss})
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x))
        return loss

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        super()._evaluate(batch, stage)
        x, y = batch
        shallow = self.network.exits(x)[0][:-1]
        for i, (metric, logits) in enumerate(zip(getattr(self, f"{stage}_exits"), shallow, strict=True)):
            metric.update(logits, y)
            self.log(f"{stage}/acc_{i}", metric, batch_size=len(x))
