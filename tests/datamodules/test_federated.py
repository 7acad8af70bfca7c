import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, TensorDataset

from lkd.datamodules import (
    IID,
    AllClients,
    CNRParkEXT,
    Digits,
    Dirichlet,
    FederatedDataModule,
    Natural,
    Partition,
    UniformSampler,
    WeightedSampler,
    YoloFolder,
)
from lkd.datamodules.samples.metadata import Columns
from lkd.models import MLP
from lkd.modules import Classifier


class Plain(LightningDataModule):
    """A user's own module, unlike lkd's: 60 pairs, y counts up."""

    def __init__(self, wrap=lambda dataset: dataset, **kwargs):
        super().__init__()
        self.wrap, self.kwargs = wrap, {"batch_size": 4, "shuffle": True, **kwargs}

    def setup(self, stage):
        x = torch.arange(60.0)[:, None]
        self.dataset = self.wrap(TensorDataset(x, torch.arange(60) % 3))

    def train_dataloader(self):
        return DataLoader(self.dataset, **self.kwargs)


class Samples(Dataset):
    """Labels are only in the samples."""

    def __init__(self, pairs):
        self.pairs, self.loaded = pairs, 0

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.loaded += 1
        x, y = self.pairs[index]
        return x, int(y)


def federated(data, *args, stage="fit", **kwargs):
    module = FederatedDataModule(data, *args, **kwargs)
    module.prepare_data()
    module.setup(stage)
    return module


def held(client, part="train"):
    """Everything the client has of a part, as a set of values of x."""
    return sorted(float(x.sum()) for batch in client.ordered_batches(part) for x in batch[0])


def test_clients_and_public_share_are_disjoint_and_all():
    data = federated(Plain(), IID(), clients=7, public=0.2)
    public = torch.cat(list(data.public_dataloader()))  # x alone: there are no labels
    shards = [value for client in data.clients for value in held(client)]
    assert public.shape == (12, 1) and len(shards) == 48
    assert sorted([*public[:, 0].tolist(), *shards]) == list(range(60))
    with pytest.raises(ValueError, match="there is no public data"):
        federated(Plain(), IID(), clients=7).public_dataloader()
    assert sum(client.share for client in data.clients) == pytest.approx(1)


def test_the_same_seed_gives_the_same_federation():
    def shards(seed):
        data = federated(Digits(), Dirichlet(0.5), 5, public=0.1, client_fractions=(0.6, 0.2, 0.2), seed=seed)
        return [tuple(rows.tolist()) for part in data.clients.parts.values() for rows in part.rows]

    with isolate_rng():
        torch.manual_seed(0)
        first = shards(0)
        torch.manual_seed(1)
        assert first == shards(0) != shards(1)


def test_cohorts_are_lists_of_clients():
    data = federated(Plain(), IID(), clients=6, cohort=2, cohorts_per_epoch=3)
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, DistributedSampler)  # so Lightning leaves it alone
    rounds = list(loader)
    assert len(rounds) == len(loader) == 3 and all(type(cohort) is list for cohort in rounds)
    assert all(cohort[0].id < cohort[1].id for cohort in rounds)
    assert all(client.probability == pytest.approx(1 / 3) for client in rounds[0])
    assert isinstance(data.cohort, UniformSampler)
    assert isinstance(federated(Plain(), IID(), clients=6).cohort, AllClients)
    assert federated(Plain(), IID(), 6, WeightedSampler(3)).clients[0].probability == pytest.approx(0.5)


def test_training_batches_are_those_of_the_data():
    client = federated(Digits(batch_size=50), IID(), clients=3).clients[0]
    batches = list(client.train_batches(seed=4))
    assert [len(x) for x, _ in batches] == [50] * 7 + [10] and all(type(batch) is tuple for batch in batches)
    assert batches[0][0].shape == (50, 1, 8, 8) and client.num_batches() == 8
    assert federated(Digits(), IID(), clients=3, batch_size=100).clients[0].num_batches() == 4


class Diary(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, cohort, _):
        assert all(client.num_samples == 6 for client in cohort)
        self.seen.append([client.id for client in cohort])
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("when", ["rounds", "epochs"])
def test_rounds_resume_where_they_stopped(tmp_path, when, limit):
    """From every checkpoint of a run of 4 epochs of 3 rounds, in the midst of an epoch or at its end."""

    def run(ckpt_path=None, callbacks=()):
        model = Diary()
        trainer = Trainer(
            max_epochs=4,
            accelerator="cpu",
            logger=False,
            callbacks=list(callbacks),
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_train_batches=limit,
            log_every_n_steps=1,
        )
        data = FederatedDataModule(Plain(), IID(), 10, 3, cohorts_per_epoch=3)
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        return model.seen

    every = {"every_n_train_steps": 1} if when == "rounds" else {"every_n_epochs": 1}
    whole = run(callbacks=[ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **every)])
    steps = sorted(int(path.stem.removeprefix("step=")) for path in tmp_path.iterdir())
    assert len(whole) == 4 * (limit or 3) and len({tuple(cohort) for cohort in whole}) > 6
    assert len(steps) == len(whole) // (1 if when == "rounds" else limit or 3)
    for step in steps[:-1]:
        assert whole[:step] + run(tmp_path / f"step={step}.ckpt") == whole


def test_own_validation_and_test_from_the_shard():
    data = federated(Plain(), IID(), clients=3, client_fractions=(0.5, 0.25, 0.25))
    assert [[len(held(client, part)) for part in ("train", "val", "test")] for client in data.clients] == [
        [10, 5, 5]
    ] * 3
    everything = [value for client in data.clients for part in client.parts for value in held(client, part)]
    assert sorted(everything) == list(range(60))
    only = federated(Plain(), IID(), clients=3, client_fractions=(0.5, 0, 0.5)).clients[0]
    assert only.has("test") and not only.has("val")
    rounded = federated(Plain(), IID(), clients=12, client_fractions=(0.7, 0.3, 0.0))
    assert {(client.num_samples, len(held(client, "val"))) for client in rounded.clients} == {(4, 1)}
    with pytest.raises(ValueError, match=r"client '1' has no training samples"):
        federated(Plain(), Uneven(), 3, client_fractions=(0.3, 0.7, 0))


class Uneven(Partition):
    """One sample for client 1."""

    def __init__(self, cut=(20, 21)):
        self.cut = cut

    def __call__(self, columns, size, clients, rng):
        return np.split(np.arange(size), self.cut)


def test_labels_are_found_wherever_they_are():
    rows = federated(Plain(), Natural("label"))
    assert rows.names == ["label 0", "label 1", "label 2"] and held(rows.clients[1])[:2] == [1, 4]
    halves = federated(Plain(lambda d: Subset(d, range(30, 60))), Natural("label"))
    assert held(halves.clients[0])[0] == 30
    slow = Plain(Samples)
    assert federated(slow, Natural("label")).clients[2].num_samples == 20
    lazy = Plain(Samples)
    assert federated(lazy, IID(), clients=3).summary()[0]["counts"] == {} and lazy.dataset.loaded == 0

    def targets(dataset):
        dataset.targets, dataset.tensors = [0] * 50 + [1] * 10, (dataset.tensors[0],)
        return dataset

    assert federated(Plain(targets), Natural("label")).clients[1].num_samples == 10

    def columns(dataset):
        dataset.columns = {"day": ["mo", "tu", "we"] * 20}
        return dataset

    days = federated(Plain(lambda d: Subset(columns(d), range(0, 60, 3))), Natural("day"))
    assert days.names == ["mo"] and days.summary()[0]["counts"] == {"0": 20}
    assert list(Columns(columns(Samples(days.data.dataset)))) == ["day", "label"]


def test_summary_counts():
    data = federated(Digits(), Dirichlet(0.5), clients=4, client_fractions=(0.8, 0.2, 0.0))
    table = data.summary()
    assert [row["client"] for row in table] == [0, 1, 2, 3] and table[0]["name"] == "0"
    assert all(sum(row["counts"].values()) == row["samples"] for row in table)
    assert list(table[0]["counts"]) == [str(digit) for digit in range(10)]
    assert sum(row["samples"] + row["val"] for row in table) == 1078 and "test" not in table[0]
    y = torch.cat([y for _, y in data.clients[2].ordered_batches("train")])
    assert torch.bincount(y, minlength=10).tolist() == list(table[2]["counts"].values())
    with pytest.raises(ValueError, match="'camera' is not among"):
        data.summary("camera")


def test_cameras_are_clients_with_their_own_validation_and_test(yolo):
    inner = YoloFolder(root=str(yolo), image_size=32, batch_size=2, fractions=(0.4, 0.3, 0.3))
    data = federated(inner, Natural("camera"), stage="test")
    assert data.names == data.cameras == ["cam_A", "cam_B"]
    for client, name in zip(data.clients, data.names, strict=True):
        for part in ("train", "test"):
            assert {c for b in client.ordered_batches(part) for c in b["cameras"]} == {name}
    client = data.clients[0]
    assert [len(b["paths"]) for b in client.ordered_batches("test")] == [2, 1]
    assert not client.has("val")  # until it is set up
    data.setup("fit")
    client = data.clients[0]
    assert client.has("val") and data.clients[1].num_samples == 1
    views = {seed: torch.cat([b["views"] for b in client.train_batches(seed)]) for seed in (1, 2)}
    assert torch.equal(views[1], torch.cat([b["views"] for b in client.train_batches(1)]))
    assert not torch.equal(views[1].sort(0).values, views[2].sort(0).values)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
    assert all((b["views"] == whole).all() for b in client.ordered_batches("val"))
    assert data.summary()[0] == {
        "client": 0,
        "name": "cam_A",
        "samples": 4,
        "val": 3,
        "counts": {"cam_A": 4, "cam_B": 0},
    }


def test_client_fractions_of_frames_split_by_time_and_evaluate_without_augmentation(yolo):
    inner = YoloFolder(root=str(yolo), image_size=32, fractions=(1.0, 0.0, 0.0))
    data = federated(inner, Natural("camera"), client_fractions=(0.5, 0.3, 0.2), public=0.0)
    numbers = [
        sorted(
            int(path.rpartition("_")[2][:-4])
            for b in data.clients[0].ordered_batches(part)
            for path in b["paths"]
        )
        for part in ("train", "val", "test")
    ]
    assert numbers == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0])
    assert all((b["views"] == whole).all() and "targets" in b for b in data.clients[0].ordered_batches("val"))
    public = federated(inner, IID(), clients=2, public=0.4).public_dataloader()
    assert sum(len(b["paths"]) for b in public) == 5
    assert all("targets" not in b and (b["views"] == whole).all() for b in public)


def test_frames_are_served_only_where_there_are_frames(yolo):
    inner = YoloFolder(root=str(yolo), image_size=32, teacher_size=64, fractions=(0.6, 0.2, 0.2))
    data = federated(inner, IID(), clients=2)
    assert "teacher_images" in next(iter(data.clients[0].train_batches(0)))
    data.serve_whole_frames()
    assert "teacher_images" not in next(iter(data.clients[0].train_batches(0)))
    data.serve_views()
    assert "teacher_images" in next(iter(data.clients[0].train_batches(0)))
    plain = federated(Plain(), IID(), clients=2)
    assert not any(hasattr(plain, name) for name in ("serve_whole_frames", "serve_views", "cameras"))


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("camera", ["C1", "C2"]),
        ("weather", ["rainy", "sunny"]),
        ("day", ["2015-11-12", "2015-12-22"]),
        ("label", ["label 0", "label 1"]),
        ("slot", ["slot 1", "slot 2", "slot 3"]),
    ],
)
def test_columns_of_patches(park, column, names):
    data = federated(CNRParkEXT(str(park), task="patches", patch_size=8), Natural(column))
    assert data.names == names
    assert sum(row["samples"] for row in data.summary()) == len(data.data.patches.datasets["train"])
    if column != "label":
        frames = CNRParkEXT(str(park), image_size=32)
        if column in ("camera", "weather", "day"):
            assert federated(frames, Natural(column)).names == names
        else:
            with pytest.raises(
                ValueError, match=r"'slot' is not among \['camera', 'day', 'time', 'weather'\]"
            ):
                federated(frames, Natural(column))


def test_loaders_are_those_of_the_data():
    data = federated(Digits(batch_size=16), IID(), clients=3, stage=None)
    assert data.val_dataloader().batch_size == 16 and len(data.test_dataloader().dataset) > 300
    plain = federated(Plain(), IID(), clients=3)
    assert plain.val_dataloader() == plain.test_dataloader() == plain.predict_dataloader() == []


def test_state_and_hooks_are_handed_on():
    class Stateful(Plain):
        def state_dict(self):
            return {"a": 1}

        def load_state_dict(self, state_dict):
            self.loaded = state_dict

        def teardown(self, stage):
            self.torn = stage

    data = federated(Stateful(), IID(), clients=3)
    data.load_state_dict(data.state_dict())
    data.teardown("fit")
    assert data.data.loaded == {"a": 1} and data.data.torn == "fit"
    with pytest.raises(RuntimeError, match="after setup"):
        FederatedDataModule(Plain(), IID(), 3).clients  # noqa: B018


def test_a_hundred_thousand_clients():
    class Many(Plain):
        def setup(self, stage):
            self.dataset = TensorDataset(torch.zeros(200_000, 1), torch.zeros(200_000, dtype=torch.int64))

    data = federated(Many(), IID(), clients=100_000, cohort=100)
    (cohort,) = data.train_dataloader()
    assert len(cohort) == 100 and cohort[7].num_samples == 2
    assert len(data.clients) == 100_000 and len(list(cohort[7].train_batches(0))) == 1


def test_it_is_made_by_the_command_line():
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(FederatedDataModule, "data", subclass_mode=True)
    config = {
        "class_path": "FederatedDataModule",
        "init_args": {
            "data": {"class_path": "Digits", "init_args": {"batch_size": 8}},
            "partition": {"class_path": "Dirichlet", "init_args": {"alpha": 0.3}},
            "clients": 4,
            "cohort": 2,
        },
    }
    data = parser.instantiate_classes(parser.parse_object({"data": config})).data
    assert isinstance(data.partition, Dirichlet) and data.cohort.size == 2
    config["init_args"]["cohort"] = {"class_path": "WeightedSampler", "init_args": {"size": 3}}
    config["init_args"]["client_fractions"] = [0.8, 0.1, 0.1]
    data = parser.instantiate_classes(parser.parse_object({"data": config})).data
    assert isinstance(data.cohort, WeightedSampler)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"clients": 3, "batch_size": 0}, "batch_size=0"),
        ({"clients": 3, "public": 1.0}, "public=1.0"),
        ({"clients": 3, "public": 0.999}, "public=0.999 of 60 training samples leaves the clients nothing"),
        ({"clients": 3, "public": 0.001}, "leaves the public share nothing"),
        ({"clients": 3, "client_fractions": (0.0, 0.5, 0.5)}, "client_fractions="),
        ({"clients": 3, "client_fractions": None}, "client_fractions=None must be three shares"),
        ({"clients": 3, "client_fractions": (0.5, 0.6, 0.5)}, "client_fractions="),
        ({"clients": 3, "seed": -1}, "seed=-1"),
        ({"clients": 3, "cohorts_per_epoch": 0}, "cohorts_per_epoch=0"),
        ({"clients": 3, "cohort": 4}, "cohort of 4 is larger"),
        ({"clients": 61}, "61 clients are more than the 60"),
        ({"clients": 50, "public": 0.5}, "50 clients are more than the 30"),
        ({"partition": Natural("camera")}, "'camera' is not among"),
        ({"partition": Uneven((10, 10))}, "client '1' has no training samples"),
        (
            {"partition": Uneven(()), "data": Plain(drop_last=True, batch_size=61)},
            "client '0' has 60 samples",
        ),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        federated(**{"data": Plain(), "partition": IID(), **arguments})


def test_partitions_and_loaders_that_are_wrong():
    class Twice(Partition):
        def __call__(self, columns, size, clients, rng):
            return [np.arange(5), np.arange(4, 9)]

    with pytest.raises(ValueError, match="Twice gave a sample to more than one client"):
        federated(Plain(), Twice())

    class Several(Plain):
        def train_dataloader(self):
            return [super().train_dataloader()]

    with pytest.raises(ValueError, match="Several gives a list"):
        federated(Several(), IID(), 3)


def test_a_module_without_its_federation_is_told():
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, limit_val_batches=0)  # fmt: skip
    data = FederatedDataModule(Digits(), IID(), clients=3)
    told = pytest.warns(UserWarning, match=r"train Federation\(Classifier\(\.\.\.\)\)")
    with told, pytest.raises((TypeError, ValueError, AttributeError)):
        trainer.fit(Classifier(MLP(64, 10)), data)
