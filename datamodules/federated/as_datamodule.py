"""Data as people have them, as data sets or loaders, made into the data module that a federation takes."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lkd.packages import is_data_module

EXAMPLE = "such as Digits(), a data set, a DataLoader, or (train, val) or (train, val, test) of data sets or loaders"


class Given(LightningDataModule):
    """A training loader, with optional loaders that measure the global model.

    Args:
        train: loader of the clients' data.
        val: loader of validation data.
        test: loader of test data, also used for prediction.
    """

    def __init__(
        self, train: DataLoader, val: DataLoader | None = None, test: DataLoader | None = None
    ) -> None:
        super().__init__()
        self.train, self.val, self.test = train, val, test

    def train_dataloader(self) -> DataLoader:
        """Returns the training loader."""
        return self.train

    def val_dataloader(self) -> Any:
        """Returns the validation loader, or an empty list without one."""
        return [] if self.val is None else self.val

    def test_dataloader(self) -> Any:
        """Returns the test loader, or an empty list without one."""
        return [] if self.test is None else self.test

    def predict_dataloader(self) -> Any:
        """Returns the test loader, or an empty list without one."""
        return self.test_dataloader()


def as_module(given: Any, batch_size: int | None, argument: str) -> LightningDataModule:
    """Makes a data module of what the user gave.

    Args:
        given: a data module, data set, loader, or a tuple or list (train, val) or (train, val, test) of data
            sets or loaders, of which val may be `None`.
        batch_size: batch size for data sets.
        argument: name of the user's argument, for the message.

    Raises:
        ValueError: for a data set without a batch size.
        TypeError: for anything else, such as bare arrays; the message says what to give.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> len(as_module(TensorDataset(torch.arange(6)), 2, "data").train_dataloader())
        3
    """
    if is_data_module(given):
        return given
    several = isinstance(given, list | tuple)
    parts: Sequence[Any] = given if several else [given]
    for place, part in enumerate(parts):
        which = f"{argument}[{place}]" if several else argument
        if _is_array(part):
            raise TypeError(
                f"{which} is a {type(part).__name__}, whose rows are no samples with labels: join inputs and labels in a data "
                "set, TensorDataset(X, Y); inputs that have no labels go into a loader, DataLoader(X, batch_size=32)."
            )
        if not (isinstance(part, Dataset | DataLoader) or _like_data(part) or (place and part is None)):
            found = part.__name__ if isinstance(part, type) else type(part).__name__
            raise TypeError(f"{which}={found} must be a LightningDataModule, {EXAMPLE}.")
    if not 1 <= len(parts) <= 3:
        raise TypeError(f"{argument} is a {type(given).__name__} of {len(parts)}, but must be {EXAMPLE}.")
    return Given(*[_loader(part, batch_size, argument) for part in parts])


def _is_array(part: Any) -> bool:
    """Returns whether it is a tensor, an array or a table, whose rows are no samples (x, y)."""
    return hasattr(type(part), "__array__") and not isinstance(part, type | Dataset)


def _like_data(part: Any) -> bool:
    """Returns whether it has numbered samples, as other libraries' data sets have without a `Dataset`."""
    own = isinstance(part, type | str | list | tuple | dict)
    return not own and hasattr(type(part), "__getitem__") and hasattr(type(part), "__len__")


def _loader(part: Any, batch_size: int | None, argument: str) -> Any:
    if part is None or isinstance(part, DataLoader):
        return part
    if batch_size is None:
        raise ValueError(
            f"batch_size=None: {argument} is a data set, {type(part).__name__}, which does not say how many samples are a batch: "
            "give batch_size=32, or a DataLoader."
        )
    return DataLoader(part, batch_size=batch_size)
