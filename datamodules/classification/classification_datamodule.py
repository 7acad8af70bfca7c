"""The base of classification data: a subclass fills `datasets`, and this class makes the loaders."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from lkd.checks import expect
from lkd.datamodules.samples.class_numbers import check_columns
from lkd.datamodules.samples.known import known_columns
from lkd.datamodules.samples.samplers import EpochLoader, IndexBatchSampler
from lkd.datamodules.samples.splits import check_fractions


def collate_pair(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stacks samples (x, y) as one batch, a tuple."""
    x, y = default_collate(samples)
    return x, y


class ClassificationDataModule(LightningDataModule):
    """Template: `setup` fills `datasets["train"]`, `["val"]` and `["test"]`; batches are tuples (x, y).

    A data set gives a sample for an index and a batch for a list of indices, as `TensorDataset` does.

    Args:
        fractions: shares (train, val, test); a val share of 0 omits validation.
        batch_size: samples in a batch.
        num_workers: processes that load samples.
        seed: the order of the training samples depends on (seed, epoch) only.

    Raises:
        ValueError: unless the fractions are three shares of sum 1, or if a split with a share is empty.
    """

    def __init__(
        self,
        fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        expect(batch_size=batch_size, ge=1)
        self.fractions = check_fractions(fractions)
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.datasets: dict[str, Dataset[Any]] = {}

    def _loader(self, part: str, **kwargs: Any) -> DataLoader:
        loader, dataset = EpochLoader if part == "train" else DataLoader, self._filled(part)
        check_columns(known_columns(dataset), self.trainer, f"the {part} data of {type(self).__name__}")
        return loader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **kwargs,
        )

    def _filled(self, part: str) -> Any:
        found: Any = self.datasets[part]  # torch's class has no length
        if not len(found):
            raise ValueError(
                f"the {part} split is empty: change fractions={self.fractions} or what is selected."
            )
        return found

    def train_dataloader(self) -> DataLoader:
        """Returns shuffled batches, shared out over the ranks."""
        sampler = IndexBatchSampler(
            [range(len(self._filled("train")))],
            self.batch_size,
            seed=self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
        )
        return self._loader("train", sampler=sampler, batch_size=None, collate_fn=tuple)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Returns validation samples in order; an empty list if the share is 0."""
        if self.fractions[1] == 0:
            return []
        return self._loader("val", batch_size=self.batch_size, collate_fn=collate_pair)

    def test_dataloader(self) -> DataLoader:
        """Returns the test samples in order."""
        return self._loader("test", batch_size=self.batch_size, collate_fn=collate_pair)

    def predict_dataloader(self) -> DataLoader:
        """Returns the test samples; a module that predicts ignores y."""
        return self.test_dataloader()
