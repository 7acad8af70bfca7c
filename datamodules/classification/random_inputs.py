"""Noise: inputs that nobody has to collect, as public data of a federation."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from lkd.checks import expect


class Noise(LightningDataModule):
    """Batches [x], x float32 (B, *shape) of independent numbers ~ N(0, 1) or U[low, high); no labels.

    N(0, 1) has the moments of normalized inputs, U[0, 1) the range of images that are not normalized. Made
    for `FederatedDataModule(public=Noise(...))`, where distillation needs inputs but no labels. The samples
    are held in memory, 4 bytes a number. The first samples do not depend on how many there are.

    Args:
        shape: shape of one sample, such as [3, 32, 32].
        samples: number of samples. Default 1,000.
        uniform: (low, high) for U[low, high); `None` for N(0, 1).
        batch_size: samples in a batch. Default 32.
        seed: seed of the numbers.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> data = Noise([3, 8, 8], samples=100)
        >>> data.setup()
        >>> (x,) = next(iter(data.train_dataloader()))
        >>> x.shape, x.dtype
        (torch.Size([32, 3, 8, 8]), torch.float32)
    """

    def __init__(
        self,
        shape: Sequence[int],
        samples: int = 1000,
        uniform: tuple[float, float] | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not len(shape) or min(shape) < 1:
            raise ValueError(f"shape={list(shape)} must be that of one sample, such as [3, 32, 32].")
        expect(samples=samples, batch_size=batch_size, ge=1)
        if uniform is not None and not uniform[0] < uniform[1]:
            raise ValueError(f"uniform={tuple(uniform)} must be a range (low, high) with low < high.")
        expect(seed=seed, ge=0)
        self.shape, self.samples, self.uniform = tuple(shape), samples, uniform
        self.batch_size, self.seed = batch_size, seed

    def setup(self, stage: str | None = None) -> None:
        """Draws all samples into memory."""
        rng, size = np.random.default_rng(self.seed), (self.samples, *self.shape)
        if self.uniform is None:
            x = rng.standard_normal(size, dtype=np.float32)
        else:
            low, high = self.uniform
            x = rng.random(size, dtype=np.float32) * np.float32(high - low) + np.float32(low)
        self.dataset = TensorDataset(torch.from_numpy(x))

    def train_dataloader(self) -> DataLoader:
        """Returns all samples, in order."""
        return DataLoader(self.dataset, batch_size=self.batch_size)
