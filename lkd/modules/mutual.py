"""Deep mutual learning: several classifiers train together and teach each other."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.losses.mutual import mutual_losses
from lkd.modules.classifier import check_classes, labeled
from lkd.modules.optimize import configure
from lkd.modules.watched import Watched


class MutualLearning(Watched):
    """Peers that train on the same batches; each learns from the labels and from the others' probabilities.

    Zhang et al.: Deep Mutual Learning, CVPR 2018, arXiv:1706.00384; the loss is `lkd.losses.mutual_losses`.
    All peers take their step at once, from the predictions before it, as in the authors' code (Algorithm 1 of
    the paper lets them step in turn). One optimizer serves all, since no gradient flows from one peer into
    another.

    Batches are tuples of `x (B, ...)` and `y (B,)` int64. Logs `train/loss`, the sum, and `train/loss_<k>` of
    every peer; for `val` and `test` the accuracy `acc_<k>` of every peer, their mean `acc`, and
    `acc_ensemble` of the peers' mean probabilities. After training a peer is `module.peers[k]`; as a
    teacher's layer it is `peers.<k>`.

    A checkpoint rebuilds the peers only if it was made by the command line; else pass them again:
    `MutualLearning.load_from_checkpoint(path, peers=...)`.

    Args:
        peers: At least two modules that map x to logits `(B, num_classes)`, of any kinds: networks, or
            classifiers (`Classifier`, for its timm names), whose own optimizers are not used.
        num_classes: Number of classes.
        temperature: Temperature of the probabilities that are compared. Default 1, as in the paper.
        optimizer: Creates the optimizer (default AdamW, lr .001); biases and norms get no weight decay.
        scheduler: Creates the scheduler, stepped once per epoch. Default: constant learning rate.

    Raises:
        ValueError: For fewer than two peers, or one that is given twice.

    Example:
        >>> module = MutualLearning([nn.Linear(4, 3), nn.Linear(4, 3)], num_classes=3)
        >>> [tuple(logits.shape) for logits in module(torch.zeros(2, 4))]
        [(2, 3), (2, 3)]
    """

    def __init__(
        self,
        peers: list[nn.Module],
        num_classes: int = 10,
        temperature: float = 1.0,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        if len(peers) < 2 or len({id(peer) for peer in peers}) < len(peers):
            raise ValueError(f"peers must be at least two modules, each its own; got {len(peers)}.")
        self.save_hyperparameters(ignore=["peers", "optimizer", "scheduler"])
        if "_instantiator" in self.hparams:  # LightningCLI's own description of the peers is plain data
            self.save_hyperparameters(ignore=["optimizer", "scheduler"])
        self.peers = nn.ModuleList(peers)
        self.num_classes, self.temperature = num_classes, temperature
        self.optimizer, self.scheduler = optimizer, scheduler
        names = [*map(str, range(len(peers))), "ensemble"]
        self.val_accuracy, self.test_accuracy = (
            nn.ModuleDict({name: MulticlassAccuracy(num_classes, average="micro") for name in names})
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Computes logits `(B, num_classes)` of every peer."""
        return [peer(x) for peer in self.peers]

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the sum of the peers' losses on a labeled batch."""
        x, y = labeled(batch)
        check_classes(y, self.num_classes)
        losses = mutual_losses(self(x), y, self.temperature)
        parts = {f"train/loss_{k}": loss.detach() for k, loss in enumerate(losses)}
        require_finite(self, losses.sum(), parts)
        self.log("train/loss", losses.sum(), prog_bar=True, batch_size=len(x))
        self.log_dict(parts, batch_size=len(x))
        return losses.sum()

    def validation_step(self, batch: Any, batch_idx: int = 0) -> None:
        """Logs accuracies on a validation batch."""
        self._evaluate(batch, "val", self.val_accuracy)

    def test_step(self, batch: Any, batch_idx: int = 0) -> None:
        """Logs accuracies on a test batch."""
        self._evaluate(batch, "test", self.test_accuracy)

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the peers' mean probabilities `(B, num_classes)`, for a batch labeled or not."""
        return _mean(self(batch if isinstance(batch, Tensor) else batch[0]))

    def check_labels(self, batch: Any) -> None:
        """Raises ValueError if a batch has no labels, so that the module cannot be measured on it."""
        labeled(batch)

    def configure_optimizers(self) -> Any:
        """Creates the optimizer over all peers (with and without weight decay), and the scheduler."""
        return configure(self, self.optimizer, self.scheduler)

    def _evaluate(self, batch: Any, stage: str, accuracies: Any) -> None:
        x, y = labeled(batch)
        check_classes(y, self.num_classes)
        outputs = self(x)
        for (name, metric), output in zip(accuracies.items(), [*outputs, _mean(outputs)], strict=True):
            metric.update(output, y)
            self.log(f"{stage}/acc_{name}", metric, batch_size=len(x))
        hits = torch.stack([(output.argmax(1) == y).float().mean() for output in outputs])
        self.log(f"{stage}/acc", hits.mean(), prog_bar=True, batch_size=len(x), sync_dist=True)


def _mean(logits: list[Tensor]) -> Tensor:
    return torch.stack([each.float().softmax(1) for each in logits]).mean(0)
