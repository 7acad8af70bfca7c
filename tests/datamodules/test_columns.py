"""Labels and other columns of anybody's data sets, and data that are no data module."""

import dataclasses
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)

from lkd.datamodules import IID, Dirichlet, FederatedDataModule, Natural
from lkd.datamodules.samples.metadata import Columns

Y = [k % 3 for k in range(30)]
X = torch.arange(60.0).reshape(30, 2)
Pair = namedtuple("Pair", ["image", "target"])


@dataclasses.dataclass
class Sample:
    x: torch.Tensor
    label: int


class Graph:
    """As graph libraries have it."""

    def __init__(self, x, y):
        self.x, self.y = x, torch.tensor([y])


class Rows(Dataset):
    """Samples in any form."""

    def __init__(self, make, size=30):
        self.make, self.size = make, size

    def __len__(self):
        return self.size

    def __getitem__(self, k):
        return self.make(k)


class HuggingFace(Dataset):
    """Takes numbers, lists of them, and names of columns; its samples are transformed."""

    column_names, features = ["image", "labels", "split"], {}

    def __init__(self, unformatted=False):
        self.unformatted = unformatted

    def with_format(self, kind):
        return HuggingFace(kind is None)

    def __len__(self):
        return 30

    def __getitem__(self, key):
        if isinstance(key, str):
            assert self.unformatted, "its transform would be given one column alone"
            return {"labels": Y, "split": ["a", "b"] * 15, "image": X}[key]
        if isinstance(key, list):
            return {"image": X[key], "labels": torch.tensor(Y)[key]}
        raise AssertionError("a sample was loaded")


FORMS = {
    "dict label": lambda k: {"x": X[k], "label": Y[k]},
    "dict labels": lambda k: {"pixel_values": X[k], "labels": Y[k], "index": k},
    "tensor": lambda k: {"x": X[k], "targets": torch.tensor(Y[k])},
    "one number": lambda k: {"x": X[k], "target": torch.tensor([Y[k]])},
    "nested": lambda k: {"image": X[k], "annotation": {"label": np.int64(Y[k]), "by": "me"}},
    "pair with a dict": lambda k: (X[k], {"label": Y[k], "camera": "C1"}),
    "named tuple": lambda k: Pair(X[k], Y[k]),
    "dataclass": lambda k: Sample(X[k], Y[k]),
    "graph": lambda k: Graph(X[k], Y[k]),
    "one-hot": lambda k: (X[k], torch.eye(3)[Y[k]]),
    "one-hot in a dict": lambda k: {"x": X[k], "y": np.eye(3)[Y[k]]},
    "whole floats": lambda k: (X[k], torch.tensor(float(Y[k]))),
    "pair of lists": lambda k: [X[k], torch.tensor([Y[k]])],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_label_is_found_by_itself(form):
    columns = Columns(Rows(FORMS[form]))
    assert columns["label"].tolist() == Y and columns["label"].dtype.kind == "i"
    subset = Columns(Subset(Rows(FORMS[form]), range(4, 10)))
    assert subset["label"].tolist() == Y[4:10]


def test_names_as_labels():
    names = ["cat", "dog", "eel"]
    data = FederatedDataModule(
        Rows(lambda k: {"x": X[k], "label": names[Y[k]]}), Natural("label"), batch_size=4
    )
    data.setup("fit")
    assert data.names == names


def torchvision_like(targets):
    rows = Rows(lambda k: pytest.fail("a sample was loaded"))
    rows.targets = targets
    return rows


@pytest.mark.parametrize(
    "dataset",
    [
        torchvision_like(Y),
        torchvision_like(torch.tensor(Y)),
        torchvision_like(np.array(Y)),
        torchvision_like([torch.tensor(y) for y in Y]),
        torchvision_like(torch.eye(3)[Y]),
        torchvision_like([float(y) for y in Y]),
        TensorDataset(X, X, torch.tensor(Y)),
        TensorDataset(X, torch.eye(3)[Y]),
        HuggingFace(),
        ConcatDataset([TensorDataset(X[:10], torch.tensor(Y[:10])), torchvision_like(Y[:20])]),
    ],
)
def test_labels_that_need_no_loading(dataset):
    if isinstance(dataset, ConcatDataset):
        dataset.datasets[1].size, dataset.cumulative_sizes = 20, [10, 30]
    columns = Columns(dataset)
    assert "label" in columns.cheap
    assert columns["label"].tolist() == (Y[:10] + Y[:20] if isinstance(dataset, ConcatDataset) else Y)
    (half, _) = random_split(dataset, [15, 15], torch.Generator().manual_seed(0))
    assert Columns(half)["label"].tolist() == columns["label"][np.array(half.indices)].tolist()


def test_other_forms_of_torch():
    stacked = StackDataset(image=TensorDataset(X), label=Y)
    assert Columns(stacked)["label"].tolist() == Y
    mixed = ConcatDataset([Rows(FORMS["dict label"]), TensorDataset(X, torch.tensor(Y))])
    assert Columns(ConcatDataset([Rows(FORMS["dict label"])] * 2))["label"].tolist() == Y + Y
    assert "label" not in Columns(mixed).cheap
    assert Columns(HuggingFace())["split"].tolist() == ["a", "b"] * 15


def test_samples_are_loaded_once_and_draw_nothing_from_the_global_state():
    loaded = []
    rows = Rows(lambda k: loaded.append(k) or {"x": torch.rand(2), "labels": Y[k], "camera": f"C{k % 2}"})
    before = torch.get_rng_state()
    columns = Columns(rows)
    assert list(columns) == ["labels", "camera", "label"]
    assert columns["label"].tolist() == columns["labels"].tolist() == Y and set(columns["camera"]) == {
        "C0",
        "C1",
    }
    assert loaded == [0, *range(30)] and torch.equal(torch.get_rng_state(), before)


def sometimes(k):
    return {"x": X[k], **({"label": Y[k]} if k < 7 else {})}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda k: X[k],
            r"column='label': the training data have no columns: .* dataset\.columns = \{'label'",
        ),
        (lambda k: (X[k], Y[k], k), r"column='label': the training data have no columns"),
        (
            lambda k: {"x": X[k], "kind": "a"},
            r"'label' is not among \['kind'\].* dataset\.columns = \{'label'",
        ),
        (lambda k: (X[k], 0.5 + k), r"labels such as 0\.5 are no classes.*dataset\.columns"),
        (sometimes, r"sample 7 of Rows has no single value as 'label'"),
        (
            lambda k: {"image": X[k], "target": {"boxes": X[k], "labels": torch.tensor([1])}},
            "have no columns",
        ),
    ],
)
def test_what_has_no_label_says_how_to_give_one(make, message):
    data = FederatedDataModule(Rows(make), Dirichlet(1.0), clients=2, batch_size=4)
    with pytest.raises(ValueError, match=message):
        data.setup("fit")


def test_labels_that_are_no_classes():
    for targets in (torch.eye(3)[Y].index_fill(1, torch.tensor([0]), 1.0), [0.5] * 30, [None] * 30):
        with pytest.raises(ValueError, match="are no classes"):
            Columns(torchvision_like(targets))["label"]


def test_columns_that_mean_something_else_are_let_be():
    rows = Rows(FORMS["dict labels"])
    rows.columns = ["pixel_values", "labels"]
    assert Columns(rows)["label"].tolist() == Y


SET = TensorDataset(X, torch.tensor(Y))


@pytest.mark.parametrize(
    "given",
    [
        SET,
        DataLoader(SET, batch_size=5),
        (SET, SET),
        [DataLoader(SET, batch_size=5), DataLoader(SET, batch_size=7)],
        HuggingFace(),
    ],
)
def test_sets_and_loaders_are_data(given):
    data = FederatedDataModule(given, Dirichlet(5.0), clients=2, batch_size=5, public=0.2)
    data.setup("fit")
    assert sum(client.num_samples for client in data.clients) == 24
    val = data.val_dataloader()
    assert len(val) == (0 if not isinstance(given, list | tuple) else 6 if given == (SET, SET) else 5)
    other = FederatedDataModule(SET, IID(), clients=2, batch_size=5, public=TensorDataset(X[:7]))
    other.setup("fit")
    assert len(other.clients.public) == 7


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("part", [SET, DataLoader(SET, batch_size=5)])
def test_a_third_part_tests_the_global_model(kind, part):
    test = TensorDataset(X[:6], torch.tensor(Y[:6]))
    data = FederatedDataModule(kind((part, None, test)), IID(), clients=2, batch_size=5)
    data.setup("fit")
    data.setup("test")
    assert data.val_dataloader() == []
    assert data.test_dataloader().dataset is data.predict_dataloader().dataset is test


class Endless(IterableDataset):
    def __iter__(self):
        return iter(SET)


class Unknown(Dataset):
    def __getitem__(self, k):
        return SET[k]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (SET, ValueError, r"batch_size=None: data is a data set, TensorDataset.* give batch_size=32"),
        ("digits", TypeError, r"data=str must be a LightningDataModule, such as Digits\(\), a data set"),
        (
            (SET,) * 4,
            TypeError,
            r"data is a tuple of 4, but must be such as .* \(train, val, test\) of data sets",
        ),
        ([SET, "val"], TypeError, r"data\[1\]=str must be a LightningDataModule, such as"),
        (X, TypeError, r"data is a Tensor, whose rows are no samples with labels: .* TensorDataset\(X, Y\)"),
        ((X, torch.tensor(Y)), TypeError, r"data\[0\] is a Tensor, .* TensorDataset\(X, Y\)"),
        ((SET, X), TypeError, r"data\[1\] is a Tensor"),
        ([X.numpy(), np.array(Y)], TypeError, r"data\[0\] is a ndarray"),
        (TensorDataset, TypeError, "data=type|data=TensorDataset must"),
        (DataLoader(Endless(), batch_size=4), ValueError, "Endless is a stream: clients need"),
        (
            DataLoader(Unknown(), batch_size=4, sampler=range(30)),
            ValueError,
            "Unknown has no length, __len__",
        ),
        (DataLoader(Rows(FORMS["tensor"], 0), batch_size=4), ValueError, "the training set, Rows, is empty"),
    ],
)
def test_other_data_are_refused_in_a_sentence(given, error, message):
    with pytest.raises(error, match=message) as found:
        FederatedDataModule(given, Natural("label")).setup("fit")
    assert "\n" not in str(found.value) and "object at 0x" not in str(found.value)


def test_a_partition_and_a_federation_as_data():
    with pytest.raises(TypeError, match=r"partition=IID must be an object of Partition, such as IID\(\)"):
        FederatedDataModule(SET, IID, clients=2, batch_size=4)
    inner = FederatedDataModule(SET, IID(), clients=2, batch_size=4)
    with pytest.raises(ValueError, match="data is a FederatedDataModule, whose clients cannot be dealt out"):
        FederatedDataModule(inner, IID(), clients=2)


def test_data_of_the_other_lightning():
    other = pytest.importorskip("pytorch_lightning")

    class Data(other.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(SET, batch_size=4)

    data = FederatedDataModule(Data(), IID(), clients=2)
    data.setup("fit")
    assert sum(client.num_samples for client in data.clients) == len(SET)
