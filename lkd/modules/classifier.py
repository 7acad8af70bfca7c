"""A classifier as a LightningModule."""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.finite import require_finite
from lkd.looks import later, looks_first
from lkd.models.timm_names import timm_network
from lkd.modules.optimize import configure
from lkd.modules.watched import Watched
from lkd.pruned import replay


class Classifier(Watched):
    """Image classifier that is trained by the cross entropy, or by another criterion.

    Batches are tuples of `x (B, C, H, W)` and `y (B,)` int64. Logs `train/loss`, `val/loss`, `val/acc`,
    `test/loss` and `test/acc`. `predict_step` returns logits `(B, num_classes)`.

    A checkpoint rebuilds a network given by its timm name, or through LightningCLI; another module has to be
    passed again: `Classifier.load_from_checkpoint(path, network=...)`. Optimizer and scheduler are not part
    of it.

    Args:
        network: A module that maps `(B, C, H, W)` to logits `(B, num_classes)`, or the name of a timm model,
            which starts from random weights.
        num_classes: Number of classes.
        in_channels: Channels of the input, for timm models.
        optimizer: Creates the optimizer (default AdamW, lr .001); biases and norms get no weight decay.
        scheduler: Creates the scheduler, stepped once per epoch. Default: constant learning rate.
        criterion: Loss of logits `(B, num_classes)` and labels `(B,)`, such as `torch.nn.MultiMarginLoss()`.
            Default: the cross entropy.

    Raises:
        ValueError: For an unknown timm name.

    Example:
        >>> classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), num_classes=3)
        >>> classifier(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        network: nn.Module | str,
        num_classes: int = 10,
        in_channels: int = 3,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
        criterion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        modules = ["network", "backbone", "private", "shared", "adapter", "encoders", "fusion", "criterion"]
        modules += ["encoder", "decoder"]
        self.save_hyperparameters(ignore=[*modules, "optimizer", "scheduler"])
        if isinstance(network, str) or "_instantiator" in self.hparams:
            # both a name and LightningCLI's own description of the module are plain data
            self.save_hyperparameters(ignore=["optimizer", "scheduler"])
        if isinstance(network, str):
            network = timm_network("network", network, num_classes=num_classes, in_chans=in_channels)
        self.network = network
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.num_classes = num_classes
        self.optimizer, self.scheduler = optimizer, scheduler
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits `(B, num_classes)` of `x (B, C, H, W)`."""
        return self.network(x)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Computes the criterion, mean over the batch."""
        check_classes(labels, self.num_classes)
        return self.criterion(logits, labels)

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the loss of a labeled batch."""
        x, y = labeled(batch)
        loss = self.loss(self(x), y)
        require_finite(self, loss, {type(self.criterion).__name__: loss})
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x))
        return loss

    def validation_step(self, batch: Any, batch_idx: int = 0) -> None:
        """Logs loss and accuracy of a validation batch."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int = 0) -> None:
        """Logs loss and accuracy of a test batch."""
        self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes logits of a batch, labeled or not."""
        return self(batch if isinstance(batch, Tensor | dict) else batch[0])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Narrows the network to the checkpoint's weights, if these are of a pruned one."""
        replay(self, checkpoint)

    def check_labels(self, batch: Any) -> None:
        """Raises ValueError if a batch has no labels, so that the module cannot be measured on it."""
        labeled(batch)

    def configure_optimizers(self) -> Any:
        """Creates the optimizer with two groups (with and without weight decay), and the scheduler."""
        return configure(self, self.optimizer, self.scheduler)

    def measure(self, logits: Tensor, labels: Tensor, stage: Literal["val", "test"]) -> None:
        """Logs metrics of logits, whether they are the module's or those of an exported file of it.

        Args:
            logits: `(B, num_classes)`.
            labels: `(B,)`.
            stage: First word of the metrics' names.
        """
        accuracy = self.val_accuracy if stage == "val" else self.test_accuracy
        self.log(f"{stage}/loss", self.loss(logits, labels), batch_size=len(labels), sync_dist=True)
        accuracy.update(logits, labels)
        self.log(f"{stage}/acc", accuracy, prog_bar=True, batch_size=len(labels))

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        x, y = labeled(batch)
        self.measure(self(x), y, stage)


def check_classes(labels: Tensor, num_classes: int) -> None:
    """Raises ValueError if labels are not in the classes; probabilities `(B, C)` are not checked.

    Values are checked at the time that `lkd.looks.later` chooses.

    Example:
        >>> check_classes(torch.tensor([1, 2]), 2)
        Traceback (most recent call last):
        ...
        ValueError: labels from 1 to 2: num_classes is 2, so they must be from 0 to 1; set num_classes, or number the labels from 0.
    """
    if labels.is_floating_point() and labels.ndim > 1:
        return
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}, but classes are int64 of shape (B,); convert them where "
            "the data set gives them."
        )

    def refuse(ends: list[float]) -> None:
        low, high = map(int, ends)
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"labels from {low} to {high}: num_classes is {num_classes}, so they must be from 0 to {num_classes - 1}; set "
                "num_classes, or number the labels from 0."
            )

    if len(labels):
        later(labels.aminmax(), refuse)


def labeled(batch: Any) -> tuple[Any, Tensor]:
    """Splits a batch into inputs, a tensor or a dict of several modalities, and labels.

    A third entry `(B, 2)` of labels and sample numbers, for a distillation term (`CRD`), is ignored.

    Raises:
        ValueError: If the batch has no labels.
    """
    if (
        isinstance(batch, list | tuple)
        and len(batch) in (2, 3)
        and isinstance(batch[0], Tensor | dict)
        and isinstance(batch[1], Tensor)
        and all(_numbers(each, batch[1]) for each in batch[2:])
    ):
        return batch[0], batch[1]
    if isinstance(batch, list) and batch and all(hasattr(client, "train_batches") for client in batch):
        raise ValueError(
            "the batch is a cohort of clients, as a FederatedDataModule gives them: wrap the module in Federation."
        )
    raise ValueError(
        "the batch is no (x, y) tuple of images and labels: unlabeled data needs distillation, "
        "attached as a callback with alpha=0."
    )


def _numbers(entry: Any, labels: Tensor) -> bool:
    """Tells whether a batch's entry holds its labels and the numbers of its samples, `(B, 2)` integers."""
    return isinstance(entry, Tensor) and entry.shape == (len(labels), 2) and not entry.is_floating_point()
