import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from scipy import stats
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lkd.datamodules import IID, Digits, Dirichlet, FederatedDataModule, PrimaryLabels, Shards


class Given(LightningDataModule):
    def __init__(self, dataset):
        super().__init__()
        self.dataset = dataset

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=50)


class Samples(Dataset):
    """Labels are only in the samples."""

    loaded = 0

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.loaded += 1
        return torch.zeros(1), index % 3


def federated(data, *args, **kwargs):
    module = FederatedDataModule(data, *args, **kwargs)
    module.setup("fit")
    return module


def labeled(y):
    y = torch.as_tensor(y)
    return Given(TensorDataset(torch.zeros(len(y), 1), y))


@pytest.mark.parametrize("public", [0.0, 0.3])
def test_labels_are_counted_as_the_batches_have_them(public):
    data = federated(Digits(), Dirichlet(0.3), 7, public=public, client_fractions=(0.7, 0.1, 0.2))
    counts = data.label_counts()
    assert counts.shape == (7, 10) and counts.dtype == np.int64
    for client, own in zip(data.clients, counts, strict=True):
        expected = np.zeros(10, dtype=int)
        for _, y in client.ordered_batches("train"):
            for label in y.tolist():
                expected[label] += 1
        assert own.tolist() == expected.tolist()


def test_column_c_is_class_c():
    data = federated(labeled([4, 4, 0, 2]), Shards(1), clients=2)
    assert sorted(data.label_counts().tolist()) == [[0, 0, 0, 0, 2], [1, 0, 1, 0, 0]]
    half = federated(Given(Subset(labeled([4, 4, 0, 2]).dataset, [2, 3])), IID(), clients=1)
    assert half.label_counts().tolist() == [[1, 0, 1]]


def test_labels_that_cannot_be_counted():
    slow = federated(Given(Samples()), IID(), 3)
    with pytest.raises(ValueError, match="labels of Samples are not known without loading every sample"):
        slow.label_counts()
    assert slow.data.dataset.loaded == 0
    dataset = Samples()
    dataset.columns = {"label": ["cat", "dog"] * 6}
    with pytest.raises(ValueError, match="labels such as cat cannot be counted: they must be class numbers"):
        federated(Given(dataset), IID(), 3).label_counts()
    with pytest.raises(ValueError, match="labels such as -1 cannot be counted"):
        federated(labeled([0, -1, 1]), IID(), 1).label_counts()


def test_many_clients_are_counted_at_once():
    counts = federated(labeled(np.arange(200_000) % 10), IID(), clients=50_000).label_counts()
    assert counts.shape == (50_000, 10) and (counts.sum(1) == 4).all() and (counts.sum(0) == 20_000).all()


@pytest.mark.parametrize(("primary", "skew"), [(1, 0), (1, 9), (2, 3), (3, 100)])
def test_private_labels_of_multi_headed_distillation(primary, skew):
    """Counts fit the draw: gamma_pub at random, then weights 1 + s for the m primary clients and 1 for others."""
    clients, labels, each = 6, 8, 6000
    data = federated(
        labeled(np.repeat(np.arange(labels), each)), PrimaryLabels(primary, skew), clients, public=0.25
    )
    counts = data.label_counts()
    assert len(data.clients.public) == labels * each // 4
    # a random quarter is public: of every label a hypergeometric number, within 4 deviations
    deviation = stats.hypergeom(labels * each, each, labels * each * 3 // 4).std()
    assert np.abs(counts.sum(0) - each * 0.75).max() < 4 * deviation
    weights = np.ones((clients, labels))
    for label in range(labels):
        weights[np.argsort(counts[:, label])[clients - primary :], label] += skew
    expected = weights / weights.sum(0) * counts.sum(0)
    # for one seed a threshold that one in 10,000 right draws would cross; half of s too much is beyond it
    degrees = labels * (clients - 1)
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2(degrees).ppf(0.9999)
    if 0 < skew < 10:  # with more nearly all rows are at primary clients, whatever the skew
        wrong = np.where(weights > 1, weights + skew / 2, 1.0)
        wrong = wrong / wrong.sum(0) * counts.sum(0)
        assert ((counts - wrong) ** 2 / wrong).sum() > stats.chi2(degrees).ppf(0.9999)
    if skew:
        own = (weights > 1).sum(1)
        assert own.sum() == labels * primary and own.max() - own.min() <= 1
