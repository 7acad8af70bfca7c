"""The public data of a federation: held out, from elsewhere, or made up."""

import pickle

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lkd.batches import LABELS
from lkd.datamodules import IID, Digits, Dirichlet, FederatedDataModule, Noise, ParkingWorld, YoloFolder
from lkd.datamodules.classification.image_dataset import ImageSet
from lkd.datamodules.federated.public_data import PublicData, inputs
from lkd.datamodules.samples.batching import Batching
from lkd.datamodules.samples.entries import find_label
from lkd.datamodules.samples.samplers import CameraBatchSampler, EpochLoader
from lkd.federated.knowledge.common.batch_labels import labels_of

X, Y = torch.arange(120.0).reshape(60, 2), torch.arange(60) % 3


class Plain(LightningDataModule):
    """A user's own module of 60 pairs."""

    def __init__(self, dataset=None, **kwargs):
        super().__init__()
        self.dataset = TensorDataset(X, Y) if dataset is None else dataset
        self.kwargs, self.calls = {"batch_size": 4, **kwargs}, []

    def prepare_data(self):
        self.calls.append("prepare_data")

    def setup(self, stage):
        self.calls.append(stage)

    def teardown(self, stage):
        self.calls.append("teardown")

    def train_dataloader(self):
        return DataLoader(self.dataset, **self.kwargs)


class Samples(Dataset):
    """Pairs made one by one; counts how many."""

    def __init__(self):
        self.loaded = []

    def __len__(self):
        return 60

    def __getitem__(self, index):
        self.loaded.append(index)
        return X[index], int(Y[index])


def federated(data, *args, **kwargs):
    module = FederatedDataModule(data, *(args or (IID(), 3)), **kwargs)
    module.prepare_data()
    module.setup("fit")
    return module


def rows_of(data):
    """The values of the public share's first column, which name its rows."""
    public = data.clients.public
    return (torch.cat(list(public.batches(range(len(public)), 100)))[:, 0] / 2).int().tolist()


@pytest.mark.parametrize("dataset", [TensorDataset(X, Y), Samples(), Subset(TensorDataset(X, Y), range(60))])
def test_batches_hold_the_rows_asked_for_in_their_order(dataset):
    held = np.array([3, 5, 8, 13, 21, 34, 55])
    public = PublicData(Batching(DataLoader(dataset, batch_size=4, drop_last=True)), held)
    asked = [6, 0, 0, 3, 5, 1, 2, 4]
    assert len(public) == 7
    for rows in (asked, tuple(asked), np.array(asked), np.array(asked, dtype=np.int32)):
        batches = list(public.batches(rows, 3))
        assert [len(x) for x in batches] == [3, 3, 2]
        assert torch.equal(torch.cat(batches), X[held[asked]])
        labeled = list(public.labeled(rows, 3))
        assert torch.equal(torch.cat([x for x, _ in labeled]), X[held[asked]])
        assert torch.equal(torch.cat([y for _, y in labeled]), Y[held[asked]])
    assert list(public.batches([], 3)) == [] == list(public.labeled(np.array([]), 3))
    together = torch.cat(list(public.loader()))
    assert torch.equal(together, X[held]) and len(public.loader()) == 2


def test_batches_are_made_when_asked_for():
    dataset = Samples()
    public = PublicData(Batching(DataLoader(dataset)), np.arange(60))
    batches = iter(public.batches(np.arange(50, 10, -1), 8))
    assert dataset.loaded == []
    next(batches)
    assert dataset.loaded == list(range(50, 42, -1))


def test_augmented_images_are_public_as_evaluation_sees_them():
    pixels = torch.randint(0, 255, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    images = ImageSet(pixels, np.arange(40) % 4, padding=2, flip=0.5, mean=(0.5,), std=(0.25,))

    class Augmented(Plain):
        def train_dataloader(self):
            sampler = CameraBatchSampler([range(40)], 4)
            return EpochLoader(self.dataset, sampler=sampler, batch_size=None, collate_fn=tuple)

    expected = (pixels.float() / 255 - 0.5) / 0.25
    elsewhere = federated(
        Plain(TensorDataset(torch.zeros(9, 3, 8, 8), torch.zeros(9).long())), public=Augmented(images)
    )
    (x,) = elsewhere.clients[0].public.batches([39, 7], 5)
    assert torch.equal(x, expected[[39, 7]])
    held = federated(Augmented(images), public=0.25).clients[0].public
    ((x, y),) = held.labeled(range(10), 10)
    assert all((image == expected).flatten(1).all(1).any() for image in x) and len(y) == 10


def test_all_clients_have_the_same_object():
    data = federated(Plain(), public=0.2, client_fractions=(0.5, 0.25, 0.25))
    first, second, third = data.clients
    assert first.public is second.public is data.clients.public and len(first.public) == 12
    assert first.pooled([second, third]).public is first.public
    assert federated(Plain()).clients[0].public is None
    assert federated(Plain()).clients[0].pooled([third]).public is None
    copy = pickle.loads(pickle.dumps(first))
    assert all(map(torch.equal, copy.public.batches([4, 2], 1), first.public.batches([4, 2], 1)))


def test_the_public_share_is_nobody_s_and_follows_from_the_seed():
    def federation(seed):
        return federated(Plain(), Dirichlet(1.0), 3, public=0.25, client_fractions=(0.6, 0.2, 0.2), seed=seed)

    data = federation(0)
    assert rows_of(data) == rows_of(federation(0)) == sorted(rows_of(data)) != rows_of(federation(1))
    owned = [row for part in data.clients.parts.values() for row in part.rows.flat.tolist()]
    assert {"train", "val", "test"} == set(data.clients.parts)
    assert sorted(owned + rows_of(data)) == list(range(60)) and len(rows_of(data)) == 15
    before = rows_of(data)
    data.setup("fit")
    assert rows_of(data) == before


def test_another_data_set_is_public():
    other = Plain(TensorDataset(X + 1000, torch.full((60,), 7)))
    data = federated(Plain(), public=other)
    public = data.clients[0].public
    (x,) = public.batches([5], 1)
    assert len(public) == 60 and torch.equal(x, X[[5]] + 1000)
    assert {int(y) for _, labels in public.labeled(range(60), 8) for y in labels} == {7}
    assert sum(client.num_samples for client in data.clients) == 60
    assert torch.equal(torch.cat(list(data.public_dataloader())), X + 1000)
    assert data.public_dataloader().dataset[0].shape == (4, 2)
    digits = federated(Digits(), public=Digits(fractions=(0.1, 0.0, 0.9), seed=1), batch_size=7)
    assert next(iter(digits.public_dataloader())).shape == (7, 1, 8, 8)


class Idle(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, cohort, _):
        (x,) = cohort[0].public.batches([3], 1)
        return self.weight * x.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


def test_a_trainer_prepares_sets_up_and_tears_down_the_public_data():
    public = Plain()
    data = FederatedDataModule(Plain(), IID(), 3, public=public)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(Idle(), datamodule=data)
    assert public.calls == ["prepare_data", "fit", "teardown"] and public.trainer is trainer


def test_workers_change_nothing():
    batches = [
        list(
            PublicData(Batching(DataLoader(Samples(), num_workers=workers)), np.arange(9)).batches(
                [8, 1, 5], 2
            )
        )
        for workers in (0, 2)
    ]
    assert len(batches[0]) == 2 and all(map(torch.equal, *batches))


def test_noise_is_drawn_from_its_seed_alone():
    def drawn(**kwargs):
        data = Noise([3, 16, 16], **{"samples": 200, **kwargs})
        data.setup()
        return torch.cat([x for (x,) in data.train_dataloader()])

    with torch.random.fork_rng():
        torch.manual_seed(1)
        np.random.seed(1)
        x = drawn()
        torch.manual_seed(2)
        np.random.seed(2)
        assert torch.equal(x, drawn()) and torch.equal(x[:50], drawn(samples=50))
    assert not torch.equal(x, drawn(seed=1)) and x.dtype == torch.float32
    # 153,600 numbers: the mean's deviation is 1 / sqrt(153600), the variance's sqrt(2 / 153600)
    assert abs(x.mean()) < 4 / 153_600**0.5 and abs(x.var() - 1) < 4 * (2 / 153_600) ** 0.5
    assert (x**4).mean() == pytest.approx(3, abs=0.1)
    u = drawn(uniform=(-2, 1))
    assert -2 <= u.min() < -1.999 and 0.999 < u.max() <= 1
    assert u.mean() == pytest.approx(-0.5, abs=0.01) and u.var() == pytest.approx(9 / 12, abs=0.01)
    assert torch.equal(u[:50], drawn(uniform=(-2, 1), samples=50))


def test_noise_is_public():
    data = federated(Digits(), public=Noise([1, 8, 8], samples=30, seed=4))
    public = data.clients[2].public
    (x,) = public.batches(range(30), 30)
    assert x.shape == (30, 1, 8, 8) and torch.equal(x, data.public.dataset.tensors[0])
    with pytest.raises(ValueError, match=r"public data \(TensorDataset\) have no labels"):
        public.labeled([0], 1)


def test_frames_are_public_without_boxes(yolo):
    inner = YoloFolder(root=str(yolo), image_size=32, batch_size=2, fractions=(1.0, 0.0, 0.0))
    public = federated(inner, IID(), 2, public=0.7).clients[0].public
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
    order = [len(public) - 1, 0, 3, 1]  # over both cameras
    batches = list(public.batches(order, 3))
    assert [len(batch["paths"]) for batch in batches] == [3, 1]
    assert all(
        set(batch) == {"images", "sizes", "views", "cameras", "paths"} and (batch["views"] == whole).all()
        for batch in batches
    )
    paths = [path for batch in public.batches(range(len(public)), 1) for path in batch["paths"]]
    assert len(set(paths)) == 9 and {path.split("cam_")[1][0] for path in paths} == {"A", "B"}
    assert [path for batch in batches for path in batch["paths"]] == [paths[row] for row in order]
    labeled = list(public.labeled(order, 3))
    assert [path for batch in labeled for path in batch["paths"]] == [paths[row] for row in order]
    assert [len(batch["targets"]) for batch in labeled] == [3, 1]
    unlabeled = YoloFolder(root=str(yolo), image_size=32, unlabeled=True)
    with pytest.raises(ValueError, match=r"public data \(FrameDataset\) have no labels"):
        federated(unlabeled, IID(), 2, public=0.5).clients.public.labeled([0], 1)


def test_frames_of_another_camera_are_public(yolo, tmp_path):
    world = ParkingWorld(
        root=str(tmp_path / "world"), cameras=["C1"], frames=5, size=(96, 96), image_size=64, unlabeled=True
    )
    inner = YoloFolder(root=str(yolo), image_size=32, fractions=(1.0, 0.0, 0.0))
    public = federated(inner, IID(), 2, public=world).clients[1].public
    (batch,) = public.batches([2, 0], 4)
    assert len(public) == 3 and batch["images"].shape == (2, 3, 64, 64) and batch["cameras"] == ["C1"] * 2
    with pytest.raises(
        ValueError, match=r"inputs of shape \(2,\), and the clients' data \{images: \(3, 32, 32\)"
    ):
        federated(inner, IID(), 2, public=Plain())


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


class Several(Plain):
    def train_dataloader(self):
        return [super().train_dataloader()]


DATA = Plain()


@pytest.mark.parametrize(
    ("public", "match"),
    [
        (0.001, "public=0.001 of 60 training samples leaves the public share nothing"),
        (-0.1, r"public=-0.1 must be a share of the training set in \[0, 1\), or a data module"),
        (Plain(TensorDataset(X[:0])), "public=Plain is empty"),
        (
            Plain(TensorDataset(X[:, :1], Y)),
            r"inputs of shape \(1,\), and the clients' data of shape \(2,\)",
        ),
        (Noise([3, 4, 4]), r"inputs of shape \(3, 4, 4\), and the clients' data of shape \(2,\)"),
        (Plain(Stream()), "public=Plain is a stream"),
        (Several(), "public=Several gives a list to train on"),
        (DATA, "a data module of its own"),
        (FederatedDataModule(Plain(), IID(), 3), "a data module of its own"),
    ],
)
def test_public_data_that_cannot_be(public, match):
    with pytest.raises(ValueError, match=match):
        federated(DATA, public=public)


def test_requests_that_cannot_be():
    public = federated(Plain(), public=0.2).clients.public
    for rows, match in (
        ([12], "no public sample 12"),
        ([-1], "no public sample -1"),
        ([0.5], "whole numbers"),
    ):
        with pytest.raises(ValueError, match=match):
            public.batches(rows, 4)
    with pytest.raises(ValueError, match="batch_size=0"):
        public.labeled([0], 0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"shape": []}, r"shape=\[\]"),
        ({"shape": [3, 0]}, r"shape=\[3, 0\]"),
        ({"samples": 0}, "samples=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"uniform": (1, 1)}, r"uniform=\(1, 1\)"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_noise_that_cannot_be(arguments, match):
    with pytest.raises(ValueError, match=match):
        Noise(**{"shape": [2], **arguments})


def test_a_hundred_thousand_clients_share_it():
    zeros = TensorDataset(torch.zeros(200_000, 1), torch.zeros(200_000).long())
    data = federated(Plain(zeros), IID(), 90_000, public=0.1)
    assert len(data.clients.public) == 20_000
    assert not any(
        isinstance(value, list | dict) and len(value) > 10 for value in vars(data.clients).values()
    )
    assert {id(client.public) for client in data.clients} == {id(data.clients.public)}


@pytest.mark.parametrize("name", LABELS)
def test_whatever_labels_are_called_they_are_no_input(name):
    """One list serves the columns of data, the inputs of public batches, and the labels that algorithms take."""
    batch = {"x": torch.zeros(2, 3), name: torch.tensor([0, 1])}
    assert set(inputs(batch)) == {"x"} and find_label(list(batch)) == name
    assert labels_of(batch, 1) is batch[name]
