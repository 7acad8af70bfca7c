"""`Arm`: another way than the cascade to share the work, with rows in the same report."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Conditions
from lkd.modules.classifier import Classifier, labeled
from lkd.teachers.recipe import follow, require_recipe
from lkd.teachers.sources import load

BATCH = 128


class LabeledImages(NamedTuple):
    """Images `x (N, C, H, W)` and labels `y (N,)`."""

    x: Tensor
    y: Tensor

    @property
    def truth(self) -> list[Answer]:
        """Labels as answers for a `Trial`."""
        return [{"label": np.array([label])} for label in self.y.tolist()]


class Arm(ABC):
    """A way to share the work between device and server, with a checkpoint of its own.

    Args:
        model: The checkpoint that the command line wrote.
        recipe: A config of `python cli.py fit` that trains it, if it does not exist or another version of the
            config made it.

    Raises:
        FileNotFoundError: If the recipe does not exist.
    """

    kind: ClassVar[type[Classifier]]
    """Class that the checkpoint must belong to."""
    reads_labels: ClassVar[bool] = False
    """Whether it chooses anything by the labels of the validation data."""

    def __init__(self, model: str, recipe: str | None = None) -> None:
        require_recipe("recipe", recipe)
        self.model, self.recipe = model, recipe

    def prepare(self) -> None:
        """Trains by the recipe if the checkpoint is missing, before anything else takes long.

        Raises:
            FileNotFoundError: If there is no checkpoint and no recipe.
            ValueError: If the checkpoint is of another kind.
        """
        if self.recipe is not None:
            follow(self.recipe, Path(self.model))
        self.module()

    def module(self) -> Any:
        """Returns the trained module, for evaluation."""
        found = load(self.model)
        if not isinstance(found, self.kind):
            raise ValueError(
                f"model={self.model!r} is of a {type(found).__name__}, and {type(self).__name__} takes a {self.kind.__name__}: give the "
                "checkpoint of one."
            )
        return found.eval().requires_grad_(False)

    @abstractmethod
    def points(
        self, data: LightningDataModule, conditions: Conditions, cameras: Sequence[str] = ()
    ) -> Sequence[Point]:
        """Measures its rows of the report.

        Args:
            data: Data module, set up. Thresholds are chosen on its validation data; its test data are
                measured.
            conditions: Conditions of link and server. Times of the arm itself are measured on this machine.
            cameras: The camera of each test sample. Default: one camera for all.
        """


def samples(data: LightningDataModule, part: str) -> LabeledImages:
    """Returns all samples of a part.

    Args:
        data: Data module, set up.
        part: `"val"` or `"test"`.

    Raises:
        ValueError: If there are no samples.
    """
    loader = getattr(data, f"{part}_dataloader")()
    if isinstance(loader, DataLoader) and loader.batch_size is not None:
        # all samples in their order, as in the cascade, although the data's own loader may shuffle or drop
        # some
        loader = DataLoader(loader.dataset, BATCH, collate_fn=loader.collate_fn)
    batches = [] if isinstance(loader, list) else [labeled(batch) for batch in loader]
    if not batches:
        raise ValueError(
            f"{type(data).__name__} has no {part} data"
            + (
                ", and thresholds are never chosen on test data: give it a validation share."
                if part == "val"
                else "."
            )
        )
    return LabeledImages(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))


def chunks(x: Tensor) -> Iterator[Tensor]:
    """Yields samples, some at a time."""
    yield from x.split(BATCH)


def rows(probabilities: Array) -> list[Answer]:
    """Returns probabilities `(N, C)` as N answers."""
    return [{"probabilities": row} for row in probabilities]


def probabilities(logits: Sequence[Tensor]) -> Array:
    """Returns the probabilities `(N, C)` of batches of logits `(B, C)`."""
    found: Array = torch.cat(list(logits)).double().softmax(1).numpy()
    return found


def through(function: nn.Module | Any, x: Tensor) -> Array:
    """Returns what a function answers to samples, as probabilities `(N, C)`."""
    with torch.no_grad():
        return probabilities([function(part) for part in chunks(x)])
