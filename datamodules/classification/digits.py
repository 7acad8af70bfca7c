"""The 8x8 digits of scikit-learn: 1,797 real pictures that come inside a package."""

import numpy as np
import torch
from torch.utils.data import TensorDataset

from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule


class Digits(ClassificationDataModule):
    """Batches (x, y): x float (B, 1, 8, 8) in [0, 1], y int64 (B,) in 0..9.

    Every split has every digit in proportion. Arguments are those of `ClassificationDataModule`; the seed
    also decides the split.

    Example:
        >>> data = Digits(batch_size=64)
        >>> data.setup()
        >>> x, y = next(iter(data.train_dataloader()))
        >>> x.shape, y.shape
        (torch.Size([64, 1, 8, 8]), torch.Size([64]))
    """

    mean = std = None  # pixels over `scale`, and nothing else
    scale = 16

    def setup(self, stage: str | None = None) -> None:
        """Splits the pictures."""
        from sklearn.datasets import load_digits  # not above: it takes a fifth of a second, whatever the data
        from sklearn.model_selection import train_test_split

        pictures, digits = load_digits(return_X_y=True)
        x = torch.from_numpy(pictures / 16).float().reshape(-1, 1, 8, 8)
        y = torch.from_numpy(digits).long()
        rest, left = np.arange(len(y)), 1.0
        for name, share in zip(("train", "val", "test"), self.fractions, strict=True):
            if share == 0:
                part = rest[:0]
            elif share > left - 1e-6:  # the last part takes what is left
                part, rest = rest, rest[:0]
            else:
                part, rest = train_test_split(
                    rest, train_size=share / left, stratify=digits[rest], random_state=self.seed
                )
            self.datasets[name] = TensorDataset(x[part], y[part])
            left -= share
