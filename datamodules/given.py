"""Data as people have them, a data set or a loader, as the data module that a federation takes."""

from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lkd.packages import is_data_module

EXAMPLE = "such as Digits(), a data set, a DataLoader, or a pair (train, val) of these"


class Given(LightningDataModule):
    """A training loader, and a validation loader if there is one.

    Args:
        train: of the clients' data.
        val: measures the global model.
    """

    def __init__(self, train: DataLoader, val: DataLoader | None = None) -> None:
        super().__init__()
        self.train, self.val = train, val

    def train_dataloader(self) -> DataLoader:
        """The training loader."""
        return self.train

    def val_dataloader(self) -> Any:
        """The validation loader; an empty list without one."""
        return [] if self.val is None else self.val


def as_module(given: Any, batch_size: int | None, argument: str) -> LightningDataModule:
    """A data module of what was given.

    Args:
        given: a data module, data set, loader, or a pair (train, val) of data sets or loaders.
        batch_size: of data sets.
        argument: the user's argument, for the message.

    Raises:
        ValueError: for a data set without a batch size.
        TypeError: for anything else, with what to give.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> len(as_module(TensorDataset(torch.arange(6)), 2, "data").train_dataloader())
        3
    """
    if is_data_module(given):
        return given
    parts = given if isinstance(given, list | tuple) and len(given) == 2 else [given]
    if all(isinstance(part, Dataset | DataLoader) or _like_data(part) for part in parts):
        return Given(*[_loader(part, batch_size, argument) for part in parts])
    found = given.__name__ if isinstance(given, type) else type(given).__name__
    raise TypeError(f"{argument}={found} must be a LightningDataModule, {EXAMPLE}.")


def _like_data(part: Any) -> bool:
    """Whether it has numbered samples, as the sets of other libraries do that are no torch `Dataset`."""
    own = isinstance(part, type | str | list | tuple | dict)
    return not own and hasattr(type(part), "__getitem__") and hasattr(type(part), "__len__")


def _loader(part: Any, batch_size: int | None, argument: str) -> DataLoader:
    if isinstance(part, DataLoader):
        return part
    if batch_size is None:
        raise ValueError(
            f"batch_size=None: {argument} is a data set, {type(part).__name__}, which does not say how many samples are a batch: "
            "give batch_size=32, or a DataLoader."
        )
    return DataLoader(part, batch_size=batch_size)
