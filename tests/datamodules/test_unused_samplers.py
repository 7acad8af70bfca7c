"""A sampler that a user has chosen is not dropped without a word."""

import warnings

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lkd.datamodules import IID, Digits, FederatedDataModule

ROWS = TensorDataset(torch.randn(12, 3), torch.arange(12) % 2)
WEIGHTED = WeightedRandomSampler([1.0] * 12, 12)


class Mine(Sampler):
    def __iter__(self):
        return iter(range(12))

    def __len__(self):
        return 12


class Batches(BatchSampler):
    """One that balances its batches, say."""


class Data(LightningDataModule):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def train_dataloader(self):
        return DataLoader(ROWS, **self.options)


def told(**options):
    """The warnings of sampling when such a loader is dealt out."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        FederatedDataModule(Data(**options), IID(), clients=2).setup("fit")
    return [str(w.message) for w in found if "is not used" in str(w.message)]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"batch_size": 2, "sampler": WEIGHTED}, "sampler=WeightedRandomSampler"),
        ({"batch_size": 2, "sampler": SubsetRandomSampler([1, 3])}, "sampler=SubsetRandomSampler"),
        ({"batch_size": 2, "sampler": Mine()}, "sampler=Mine"),
        (
            {"batch_size": 2, "sampler": RandomSampler(ROWS, replacement=True)},
            "sampler=RandomSampler(replacement=True)",
        ),
        (
            {"batch_size": 2, "sampler": RandomSampler(ROWS, num_samples=4)},
            "sampler=RandomSampler(num_samples=4)",
        ),
        ({"batch_sampler": BatchSampler(WEIGHTED, 2, False)}, "sampler=WeightedRandomSampler"),
        ({"batch_sampler": Batches(SequentialSampler(ROWS), 2, False)}, "batch_sampler=Batches"),
    ],
)
def test_a_sampler_of_ones_own_is_named_once(options, name):
    (sentence,) = told(**options)
    assert sentence.startswith(
        f"{name} of the training loader is not used: clients draw batches from their own"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2},
        {"batch_size": 2, "shuffle": True},
        {"batch_sampler": BatchSampler(RandomSampler(ROWS), 2, True)},
    ],
)
def test_an_order_of_all_samples_is_no_loss(options):
    assert not told(**options)


def test_samplers_of_lkd_are_no_loss():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FederatedDataModule(Digits(batch_size=16), IID(), clients=2, public=0.1).setup("fit")


def test_the_public_datas_sampler_is_named_too():
    data = FederatedDataModule(
        Data(batch_size=2), IID(), clients=2, public=Data(batch_size=2, sampler=WEIGHTED)
    )
    with pytest.warns(UserWarning, match="sampler=WeightedRandomSampler of public=Data is not used"):
        data.setup("fit")
