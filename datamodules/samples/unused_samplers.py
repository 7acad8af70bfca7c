"""Samplers of a loader that a federation does not use, since its clients draw their own batches."""

from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from lkd.datamodules.samples.samplers import CameraBatchSampler


def warn_of_sampler(loader: DataLoader, where: str = "the training loader") -> None:
    """Warns of a sampler that does more than to pass over all samples, which is not done any more.

    Args:
        loader: the loader whose data set is dealt out.
        where: which one it is, for the message.
    """
    if (lost := unused_sampler(loader)) is not None:
        rank_zero_warn(
            f"{lost} of {where} is not used: clients draw batches from their own samples, all of which they see once in "
            "a local epoch, shuffled. Leave samples out or repeat them in the data set (Subset, ConcatDataset), and weigh "
            "them in the loss."
        )


def unused_sampler(loader: DataLoader) -> str | None:
    """Names the sampler of a loader if it is more than an order of all samples.

    Example:
        >>> from torch.utils.data import WeightedRandomSampler
        >>> unused_sampler(DataLoader(range(4), shuffle=True))
        >>> unused_sampler(DataLoader(range(4), sampler=WeightedRandomSampler([1, 0, 0, 1], 2)))
        'sampler=WeightedRandomSampler'
    """
    batches: Any = loader.batch_sampler
    if batches is not None and type(batches) is not BatchSampler:
        return f"batch_sampler={type(batches).__name__}"
    sampler: Any = loader.sampler if batches is None else batches.sampler
    if isinstance(sampler, CameraBatchSampler) or type(sampler) is SequentialSampler:
        return None
    if type(sampler) is not RandomSampler:
        return f"sampler={type(sampler).__name__}"
    if sampler.replacement:
        return "sampler=RandomSampler(replacement=True)"
    number = sampler.num_samples
    return None if number == len(sampler.data_source) else f"sampler=RandomSampler(num_samples={number})"
