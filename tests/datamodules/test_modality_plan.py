"""Who has which modality: types, missing rates, label noise. Every value of row r of the data is r + 1, so that a batch
says itself which rows it holds and nothing that is there is zero."""

import copy

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from scipy import stats
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from lkd.datamodules import (
    IID,
    CameraBatchSampler,
    FederatedDataModule,
    IndexBatchSampler,
    ModalityPlan,
    Natural,
)
from lkd.datamodules.classification.classification_datamodule import collate_pair
from lkd.datamodules.federated.client_data import Part, Ragged
from lkd.datamodules.modalities.modality_clients import apply
from lkd.datamodules.samples.batching import Batching
from lkd.datamodules.samples.metadata import Columns
from lkd.datamodules.samples.samplers import EpochLoader
from lkd.federated import Centralized, Federation
from lkd.federated.protocol.client_data import kind_of
from lkd.modalities import split

SHAPES = {"acc": (3, 8), "rgb": (1, 4, 4), "tag": (2,)}  # series, images, vectors
NAMES = list(SHAPES)
WAYS = {"single": 8, "pairs": 7, "list": 8, "samples": 3, "keys": 60}  # how data are served, and batch sizes
TYPES = [["acc", "rgb", "tag"], ["acc"], ["rgb", "tag"]]


class Motion(Dataset):
    """Samples of three modalities: a batch for a list of rows, if `lists`; else only single ones."""

    def __init__(self, size, present=None, lists=False, **columns):
        self.size, self.lists, self.flags = size, lists, present
        self.columns = {"label": np.arange(size) % 4, **columns}

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if isinstance(index, list):
            assert self.lists
            return collate_pair([self[one] for one in index])
        row = getattr(index, "item", index)
        x = {name: torch.full(shape, row + 1.0) for name, shape in SHAPES.items()}
        if self.flags is not None:
            x["present"] = {name: torch.tensor(bool(flag[row])) for name, flag in self.flags.items()}
        return x, torch.tensor(self.columns["label"][row])


class Listed(Motion):
    """A list of samples for a list of rows."""

    def __getitem__(self, index):
        return (
            [Motion.__getitem__(self, one) for one in index]
            if isinstance(index, list)
            else super().__getitem__(index)
        )


class Module(LightningDataModule):
    """Serves data sets in one of the ways that there are."""

    def __init__(self, train, val=None, test=None, how="single", batch_size=8, workers=0):
        super().__init__()
        self.sets, self.how, self.size, self.workers = (
            {"train": train, "val": val, "test": test},
            how,
            batch_size,
            workers,
        )

    def loader(self, name):
        dataset, kwargs = self.sets[name], {"num_workers": self.workers}
        if dataset is None:
            return []
        sampler = {"list": IndexBatchSampler, "samples": IndexBatchSampler, "keys": CameraBatchSampler}.get(
            self.how
        )
        if sampler is None:
            collate = {"single": default_collate, "pairs": collate_pair}[self.how]
            return DataLoader(dataset, batch_size=self.size, collate_fn=collate, **kwargs)
        collate = default_collate if self.how == "samples" else tuple
        sampler = sampler([range(len(dataset))], self.size)
        return EpochLoader(dataset, sampler=sampler, batch_size=None, collate_fn=collate, **kwargs)

    def train_dataloader(self):
        return self.loader("train")

    def val_dataloader(self):
        return self.loader("val")

    def test_dataloader(self):
        return self.loader("test")


def federated(plan, size=60, clients=6, partition=None, stage="fit", data=None, seed=0, **kwargs):
    module = FederatedDataModule(
        data or Module(Motion(size)), partition or IID(), clients, plan=plan, seed=seed, **kwargs
    )
    module.setup(stage)
    return module


def look(batches):
    """What batches hold: {row: (flags by modality, label)}, after checking that tensors agree with the flags."""
    found = {}
    for x, y in batches:
        flags = x["present"]
        assert set(flags) == set(x) - {"present"}
        for flag in flags.values():
            assert flag.dtype == torch.bool and flag.shape == (len(y),)
        for k in range(len(y)):
            has = {name: bool(flag[k]) for name, flag in flags.items()}
            values = {v for name, here in has.items() if here for v in x[name][k].unique().tolist()}
            (value,) = values  # of one row, and not empty
            for name, here in has.items():
                assert x[name][k].shape == SHAPES[name] and here == bool(x[name][k].any())
            assert int(value) - 1 not in found
            found[int(value) - 1] = has, int(y[k])
    return found


def present_of(data, part="train"):
    """(rows, modalities) of all clients as the batches have it, by row; what is not in x is False."""
    everybody = {}
    for client in data.clients:
        everybody |= look(client.ordered_batches(part))
    return {row: tuple(has.get(name, False) for name in NAMES) for row, (has, _) in everybody.items()}


def within(count, size, rate):
    """Whether a count is what chance would give but for one case in 100,000."""
    return stats.binom.ppf(5e-6, size, rate) <= count <= stats.binom.ppf(1 - 5e-6, size, rate)


# ---------------------------------------------------------------- who owns what


@pytest.mark.parametrize("assign", [None, [2, 2, 0, 1, 0, 1]])
def test_batches_of_a_client_have_its_own_modalities_alone(assign):
    data = federated(ModalityPlan(TYPES, assign))
    for client in data.clients:
        mine = TYPES[kind_of(client.id, len(TYPES), assign)]  # the other side's rule
        for batch in [*client.train_batches(3), *client.ordered_batches("train")]:
            inputs, present = split(batch[0])
            assert set(inputs) == set(mine) and all(flag.all() for flag in present.values())
        assert len(look(client.train_batches(3))) == client.num_samples == 10
    assert data.plan.kinds(6).tolist() == [kind_of(k, len(TYPES), assign) for k in range(6)]


def test_without_types_all_have_all_and_without_a_plan_nothing_changes():
    for client in federated(ModalityPlan()).clients:
        assert all(all(has.values()) and len(has) == 3 for has, _ in look(client.train_batches(0)).values())
    (x, _), *_ = federated(None).clients[0].train_batches(0)
    assert set(x) == set(NAMES)
    with pytest.raises(ValueError, match=r"masks\('train'\): there is no plan"):
        federated(None).masks()
    with pytest.raises(ValueError, match=r"masks\('val'\): there is no val data of clients"):
        federated(ModalityPlan()).masks("val")


# ---------------------------------------------------------------- what a mask depends on


@pytest.mark.parametrize(
    ("level", "how", "batch_size", "workers"),
    [
        *((level, how, size, 0) for level in ("sample", "client", "time") for how, size in WAYS.items()),
        ("sample", "single", 1, 0),
        ("sample", "single", 8, 2),
        ("time", "list", 8, 2),
    ],
)
def test_masks_depend_neither_on_batches_nor_on_workers_nor_on_how_data_are_served(
    level, how, batch_size, workers
):
    plan = ModalityPlan(TYPES, missing=0.5, level=level, label_noise=0.5)
    kind = Listed if how == "samples" else Motion
    lists = how in ("list", "keys", "pairs")
    module = Module(kind(60, lists=lists), how=how, batch_size=batch_size, workers=workers)
    one, other = federated(plan), federated(plan, data=module)
    for mine, theirs in zip(one.clients, other.clients, strict=True):
        expected = look(mine.ordered_batches("train"))
        assert look(theirs.ordered_batches("train")) == look(theirs.train_batches(5)) == expected
        assert expected == look(mine.train_batches(1))
        sizes = {len(y) for _, y in theirs.train_batches(5)}
        assert max(sizes) == min(batch_size, theirs.num_samples)


@pytest.mark.parametrize("level", ["sample", "client", "time"])
def test_the_same_seed_draws_the_same_whatever_the_global_state(level):
    plan = ModalityPlan(missing=0.5, level=level, label_noise=0.5)
    torch.manual_seed(1)
    first = federated(plan, size=300)
    torch.manual_seed(2)
    again, other = federated(plan, size=300), federated(plan, size=300, seed=1)
    for a, b in zip(first.masks(), again.masks(), strict=True):
        assert np.array_equal(a, b)
    assert present_of(first) == present_of(again) != present_of(other)


def test_the_global_random_state_is_left_alone():
    class Jittery(Motion):
        def __getitem__(self, index):
            torch.rand(1)
            return super().__getitem__(index)

    before = torch.get_rng_state()
    federated(ModalityPlan(missing=0.5, label_noise=0.5), data=Module(Jittery(60, flags(60))))
    assert torch.equal(before, torch.get_rng_state())


def planned(plan, rows, size=4000, seed=0, name="train", source=0, **kwargs):
    """What is there (n, 3) for the clients' rows, without a federation around it; and the labels."""
    dataset = Motion(size, **kwargs)
    part = Part(Batching(DataLoader(dataset, batch_size=8)), Ragged([np.asarray(r) for r in rows]))
    part = apply(plan, part, Columns(dataset), seed, name, source)
    table = part.views[0].dataset
    return table.there, table.labels, part


def test_a_sample_is_drawn_by_seed_client_and_row_alone():
    plan = ModalityPlan(missing=0.5, label_noise=0.5)
    whole, labels, _ = planned(plan, [range(0, 2000), range(2000, 4000)])
    for rows in ([[7, 3], [2500]], [range(1999, -1, -2), [3999, 2001]]):  # fewer others, another order
        there, wrong, _ = planned(plan, rows)
        held = np.concatenate([np.asarray(r) for r in rows])
        assert np.array_equal(there[held], whole[held]) and np.array_equal(wrong[held], labels[held])


def test_another_client_seed_or_data_set_draws_anew():
    plan = ModalityPlan(missing=0.5, label_noise=0.5)
    whole, labels, _ = planned(plan, [range(2000)])
    for there, wrong, _ in (
        planned(plan, [[2000], range(2000)]),
        planned(plan, [range(2000)], seed=1),
        planned(plan, [range(2000)], source=1),
    ):
        agree = (there[:2000] == whole[:2000]).all(1).sum()
        assert within(agree, 2000, chance_to_agree(0.5, 3))
        assert within(((wrong >= 0) == (labels >= 0))[:2000].sum(), 2000, 0.5)


def chance_to_agree(rate, count):
    """Two masks drawn apart are the same: the sum of squared probabilities, by listing all of them."""
    chances = {}
    for bits in np.ndindex(*[2] * count):
        weight = np.prod([1 - rate if bit else rate for bit in bits])
        kept = [bits] if any(bits) else [tuple(np.eye(count, dtype=int)[k]) for k in range(count)]
        for mask in kept:
            chances[mask] = chances.get(mask, 0.0) + weight / len(kept)
    return sum(chance**2 for chance in chances.values())


def test_a_modality_more_changes_nothing_for_the_others(monkeypatch):
    """But where one stayed only since there was no other."""
    plan = ModalityPlan(missing=0.3)
    few = planned(plan, [range(2000)])[0]
    monkeypatch.setitem(SHAPES, "gyro", (3, 8))
    more = planned(plan, [range(2000)])[0]
    assert more.shape == (4000, 4)
    same = (few[:2000] == more[:2000, :3]).all(1)
    kept = few[:2000].sum(1) == 1  # perhaps the one that stayed
    assert same[~kept].all() and same.mean() > 0.97


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("kind", range(3))
def test_rates_by_sample(rate, kind):
    """q - q^A / A, for A = 3, 1, 2 modalities that a client owns; all subsets as often as they should be."""
    size = 2000
    data = federated(ModalityPlan(TYPES, [kind], missing=rate), size=size, clients=1)
    masks = np.array([mask for _, mask in sorted(present_of(data).items())])
    mine = [NAMES.index(name) for name in TYPES[kind]]
    count = len(mine)
    assert masks.shape == (size, 3) and masks.any(1).all()
    for m in range(3):
        expected = rate - rate**count / count if m in mine else 1.0
        assert within((~masks[:, m]).sum(), size, expected)
    for bits in np.ndindex(*[2] * count):
        chance = np.prod([1 - rate if bit else rate for bit in bits])
        if sum(bits) == 1:
            chance += rate**count / count
        seen = (masks[:, mine] == np.array(bits, dtype=bool)).all(1).sum()
        assert within(seen, size, chance if any(bits) else 0.0)


def test_modalities_and_clients_are_independent():
    """Correlations of n = 20,000 pairs: those of the mask before one stays, at a rate that makes this rare."""
    rate = 0.05
    there, _, _ = planned(ModalityPlan(missing=rate), [range(20_000), range(20_000, 40_000)], size=40_000)
    correlation = np.corrcoef(np.concatenate([there[:20_000].T, there[20_000:].T]))
    assert (np.abs(correlation[~np.eye(6, dtype=bool)]) < 4.5 / np.sqrt(20_000)).all()
    runs = there[:-1] == there[1:]  # neighbors
    for m in range(3):
        q = rate - rate**3 / 3
        assert within(runs[:, m].sum(), 39_999, q * q + (1 - q) ** 2)


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_rates_by_client(rate):
    clients = 3000
    data = federated(ModalityPlan(TYPES, missing=rate, level="client"), 2 * clients, clients)
    table = np.array([[row["missing"][name] for name in NAMES] for row in data.summary()], dtype=float)
    for kind, mine in enumerate(TYPES):
        lacks = table[kind::3][:, [NAMES.index(name) for name in mine]]
        assert set(np.unique(lacks)) <= {0.0, 1.0} and not lacks.all(1).any()  # all samples or none
        expected = rate - rate ** len(mine) / len(mine)
        for column in lacks.T:
            assert within(column.sum(), clients // 3, expected)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("timed", [False, True])
def test_by_time_each_modality_is_out_for_one_stretch(rate, timed):
    rng = np.random.default_rng(4)
    time = rng.permutation(4000) if timed else np.arange(4000)
    columns = {"time": np.array([f"t{t}" for t in time])} if timed else {}
    rows = np.array_split(rng.permutation(4000), 40)
    there, _, _ = planned(ModalityPlan(missing=rate, level="time"), rows, **columns)
    starts, kept = [], 0
    for own in rows:
        masks = there[own[np.argsort(time[own])]]  # in order of time
        length = round(rate * 100)
        assert masks.any(1).all()
        for column in masks.T:
            edges = np.flatnonzero(np.diff(np.concatenate([[1], column.astype(int), [1]])))
            if (~column).sum() == length and len(edges) == 2:
                starts.append(edges[0])
            else:  # this one stayed where all are out: less is missing
                kept += 1
                assert (~column).sum() < length
    assert (rate == 0.1 or kept) and kept <= 40  # one of a client's modalities at most
    assert len(starts) + kept == 120
    if rate == 0.1:  # few overlap, which would be others than any
        assert stats.kstest(np.array(starts) / (100 - length), "uniform").pvalue > 1e-3


def test_by_time_stretches_are_a_part_s_own():
    plan, columns = ModalityPlan(missing=0.3, level="time"), {"time": np.arange(900)}
    data = federated(plan, clients=3, data=Module(Motion(900, **columns)), client_fractions=(0.5, 0.25, 0.25))
    starts = []
    for part, size in (("train", 150), ("val", 75), ("test", 75)):
        drawn = data.masks(part)
        for client in range(3):
            own = drawn.client == client
            masks = drawn.present[own][np.argsort(drawn.row[own])]
            assert (~masks).sum(0).max() == int(0.3 * size + 0.5)
            starts.append(tuple(np.round((~masks).argmax(0) / size, 2)))
    assert len(set(starts)) == 9


@pytest.mark.parametrize("level", ["sample", "client", "time"])
def test_nothing_of_all_is_one_of_all(level):
    data = federated(ModalityPlan(TYPES, missing=1.0, level=level), size=600)
    masks = np.array(list(present_of(data).values()))
    assert masks.shape == (600, 3) and (masks.sum(1) == 1).all() and masks.any(0).all()
    for row in data.summary():
        lacks = [share for share in row["missing"].values() if share is not None]
        assert sum(lacks) == pytest.approx(len(lacks) - 1)


# ---------------------------------------------------------------- labels


def test_label_noise_has_its_rate_in_every_class_and_spreads_over_the_others():
    size, rate = 6_000, 0.3
    data = federated(ModalityPlan(label_noise=rate), size=size, clients=2)
    for client in data.clients:
        seen = {row: y for row, (_, y) in look(client.train_batches(2)).items()}
        right = np.array(sorted(seen)) % 4
        given = np.array([seen[row] for row in sorted(seen)])
        for label in range(4):
            own = given[right == label]
            assert within((own != label).sum(), len(own), rate)
            wrong = own[own != label]
            for other in set(range(4)) - {label}:  # each sample has a draw of its own, not each class
                assert within((wrong == other).sum(), len(wrong), 1 / 3)
        flipped = given != right
        drawn = data.masks()
        assert np.array_equal(
            np.sort(drawn.row[(drawn.client == client.id) & drawn.flipped]),
            np.sort(np.array(sorted(seen))[flipped]),
        )
        assert data.summary()[client.id]["flipped"] == flipped.sum()
        assert abs(np.corrcoef(flipped[:-1], flipped[1:])[0, 1]) < 4.5 / np.sqrt(len(flipped))


def test_classes_are_those_of_the_training_set():
    labels = np.array([2, 5, 9])[np.arange(600) % 3]
    data = federated(ModalityPlan(label_noise=1.0), clients=2, data=Module(Motion(600, label=labels)))
    for client in data.clients:
        seen = look(client.ordered_batches("train"))
        assert {y for _, y in seen.values()} == {2, 5, 9}
        assert all(y != labels[row] for row, (_, y) in seen.items())


def test_python_numbers_as_labels_stay_such():
    class Plain(Motion):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return [x, int(y)]

    data = federated(ModalityPlan(label_noise=1.0), data=Module(Plain(60)))
    assert all(y != row % 4 for c in data.clients for row, (_, y) in look(c.ordered_batches("train")).items())
    view = data.clients.parts["train"].views[0].dataset
    assert type(view[0]) is list and type(view[0][1]) is int


def test_only_training_labels_are_wrong_and_public_data_are_complete_and_right():
    plan = ModalityPlan(TYPES, missing=0.9, label_noise=1.0)
    data = federated(plan, size=400, client_fractions=(0.5, 0.25, 0.25), public=0.25, seed=3)
    for client in data.clients:
        assert all(y != row % 4 for row, (_, y) in look(client.ordered_batches("train")).items())
        for part in ("val", "test"):
            assert all(y == row % 4 for row, (_, y) in look(client.ordered_batches(part)).items())
    public = data.clients[1].public
    assert len(public) == 100
    rows = []
    for x, y in public.labeled(range(100), 9):
        assert set(x) == set(NAMES)
        values = torch.stack([x[name].flatten(1).amax(1) for name in NAMES])
        assert all((x[name].flatten(1) == values[0][:, None]).all() for name in NAMES)
        assert torch.equal(y, (values[0].long() - 1) % 4)
        rows += (values[0].long() - 1).tolist()
    owned = {
        row
        for client in data.clients
        for part in ("train", "val", "test")
        for row in look(client.ordered_batches(part))
    }
    assert sorted([*rows, *owned]) == list(range(400))
    assert set(next(iter(data.public_dataloader()))) == set(NAMES)


# ---------------------------------------------------------------- evaluation


def subjects(size, start=0):
    return Motion(size, subject=np.array([f"s{k % 3}" for k in range(start, size + start)]))


@pytest.mark.parametrize("evaluation", [True, False])
@pytest.mark.parametrize("level", ["sample", "client", "time"])
def test_own_validation_and_test_data(evaluation, level):
    """From the global sets by the column, and from the shard; the global loaders stay as they are."""
    plan = ModalityPlan(TYPES, missing=0.6, level=level, evaluation=evaluation)
    module = Module(subjects(300), subjects(300), subjects(300))
    by_column = federated(plan, clients=None, partition=Natural("subject"), data=module)
    by_column.setup("test")
    by_shard = federated(plan, size=900, clients=3, client_fractions=(0.4, 0.3, 0.3))
    for data in (by_column, by_shard):
        for client in data.clients:
            mine = TYPES[client.id]
            for part in ("val", "test"):
                found = look(client.ordered_batches(part))
                assert all(list(has) == mine for has, _ in found.values())
                lacks = not all(all(has.values()) for has, _ in found.values())
                if level != "client":
                    assert lacks == (evaluation and len(mine) > 1)
                else:
                    trained = {
                        tuple(has.values()) for has, _ in look(client.ordered_batches("train")).values()
                    }
                    assert {tuple(has.values()) for has, _ in found.values()} == (
                        trained if evaluation else {(True,) * len(mine)}
                    )
    if level == "sample" and evaluation:
        tables = [present_of(by_column, part) for part in ("train", "val", "test")]
        assert len({tuple(sorted(table.items())) for table in tables}) == 3  # rows of other sets are others
    for x, _ in by_column.val_dataloader():
        assert set(x) == set(NAMES) and all((x[name] != 0).all() for name in NAMES)
    for x, y in by_column.test_dataloader():
        assert torch.equal(y, (x["tag"][:, 0].long() - 1) % 4)


def test_who_validates_alone_sees_the_same():
    plan = ModalityPlan(TYPES, missing=0.6)
    sets = subjects(30), subjects(60), subjects(90)
    both, alone = (
        federated(plan, clients=None, partition=Natural("subject"), data=Module(*sets), stage=stage)
        for stage in ("fit", "validate")
    )
    assert present_of(both, "val") == present_of(alone, "val")


# ---------------------------------------------------------------- data that lack modalities themselves


def flags(size, seed=0):
    """Each missing with chance .4, in some samples all but one; never all."""
    there = np.random.default_rng(seed).random((size, 3)) > 0.4
    there[~there.any(1), 1] = True
    return dict(zip(NAMES, there.T, strict=True))


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("level", ["sample", "client", "time"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_what_the_data_lack_stays_so(told, level, rate, caplog):
    given = flags(600)
    dataset = Motion(600, given)
    if told:
        dataset.present = given
    data = federated(ModalityPlan(TYPES, missing=rate, level=level), data=Module(dataset), clients=6)
    table = np.stack(list(given.values()), axis=1)
    masks = data.masks()
    owned = data.plan.owned(NAMES)[data.plan.kinds(6)]
    possible = table & owned[masks_owner(data)]
    found = present_of(data)
    assert found == {row: tuple(mask) for row, mask in zip(masks.row, masks.present, strict=True)}
    assert all(any(mask) for mask in found.values())
    assert not (masks.present & ~possible[masks.row]).any()
    left_out = set(range(600)) - set(found)
    if level == "client":  # has what it has, whatever the data lack
        for client in range(6):
            own = masks.client == client
            assert np.array_equal(masks.present[own], possible[masks.row[own]] & masks.present[own].any(0))
    if rate == 0:
        assert np.array_equal(masks.present, possible[masks.row])
    if rate == 0 or level != "client":
        assert left_out == set(np.flatnonzero(~possible.any(1)).tolist())
    assert left_out and sum(data.clients.sizes) == len(found) == sum(row["samples"] for row in data.summary())
    if rate and level == "sample":
        more = possible.sum(1) > 1
        both = [row for row in found if possible[row].sum() == 2]
        lost = sum(2 - sum(found[row]) for row in both)
        assert within(lost, 2 * len(both), 0.5 - 0.5**2 / 2) and more.any()


def masks_owner(data):
    """Client of every row of the data set; of rows that were left out, too (IID deals by the seed alone)."""
    owner = np.zeros(600, dtype=int)
    for client in federated(None, size=600, clients=6).clients:
        owner[sorted(look_plain(client))] = client.id
    return owner


def look_plain(client):
    return [int(v) - 1 for x, _ in client.ordered_batches("train") for v in x["tag"][:, 0]]


def test_subsets_and_a_dict_of_what_is_there_need_no_loading():
    given = flags(600)

    class Counting(Motion):
        loads = 0

        def __getitem__(self, index):
            type(self).loads += 1
            return super().__getitem__(index)

    dataset = Counting(600, given)
    dataset.present = {name: torch.from_numpy(flag) for name, flag in given.items()}
    data = federated(ModalityPlan(), data=Module(Subset(dataset, range(300, 600))))
    assert Counting.loads < 5
    assert {row: dict(zip(NAMES, mask, strict=True)) for row, mask in present_of(data).items()} == {
        row: {name: bool(flag[row]) for name, flag in given.items()} for row in range(300, 600)
    }


def test_samples_that_lack_all_of_a_sudden_are_refused():
    dataset = Motion(60, {name: np.arange(60) != 7 for name in NAMES})
    dataset.present = {}  # says nothing
    data = federated(ModalityPlan(), clients=1, data=Module(dataset))
    with pytest.raises(ValueError, match="Motion has samples of which nothing is left, without having told"):
        list(data.clients[0].ordered_batches("train"))


def test_a_client_that_is_left_with_nothing():
    given = {"acc": np.ones(60, dtype=bool), "rgb": np.zeros(60, dtype=bool), "tag": np.zeros(60, dtype=bool)}
    with pytest.raises(ValueError, match=r"client 2 is left without training samples, .* rgb, tag"):
        federated(ModalityPlan(TYPES), data=Module(Motion(60, given)))


# ---------------------------------------------------------------- pooled, base, federation


@pytest.mark.parametrize("how", ["single", "list"])
def test_pooled_clients_of_several_types_have_all_keys_in_every_batch(how):
    data = federated(
        ModalityPlan(TYPES, missing=0.4, label_noise=0.5),
        data=Module(Motion(60, lists=how == "list"), how=how, batch_size=1),
    )
    one, acc, rest = data.clients[0], data.clients[1], data.clients[2]
    before = {client.id: look(client.ordered_batches("train")) for client in data.clients}
    for group, names in (([one, acc, rest], NAMES), ([acc, rest], NAMES), ([acc, data.clients[4]], ["acc"])):
        pooled = group[-1].pooled(group[:-1])
        batches = list(pooled.train_batches(1))
        assert all(set(x) == {*names, "present"} for x, _ in batches)
        found = look(batches)
        assert len(found) == sum(client.num_samples for client in group)
        for client in group:
            for row, (has, y) in before[client.id].items():
                assert found[row] == ({name: has.get(name, False) for name in names}, y)
    assert all(
        look(client.ordered_batches("train")) == before[client.id] for client in data.clients
    )  # as it was


def test_the_data_themselves_are_not_touched():
    class Held(Motion):
        """Hands out what it holds, not copies."""

        def __init__(self, size):
            super().__init__(size)
            self.samples = [Motion.__getitem__(self, row) for row in range(size)]

        def __getitem__(self, index):
            return self.samples[index]

    dataset = Held(60)
    before = copy.deepcopy(dataset.samples)
    data = federated(ModalityPlan(TYPES, missing=0.7, label_noise=1.0), data=Module(dataset))
    for client in data.clients:
        list(client.train_batches(0))
    for (x, y), (then, label) in zip(dataset.samples, before, strict=True):
        assert x.keys() == then.keys() and all(torch.equal(x[name], then[name]) for name in x) and y == label


class Net(LightningModule):
    """A linear map for each modality, and the mean over those that are present."""

    def __init__(self, names):
        super().__init__()
        shapes = {name: int(np.prod(SHAPES[name])) for name in names}
        self.encoders = torch.nn.ModuleDict({name: torch.nn.Linear(size, 4) for name, size in shapes.items()})

    def training_step(self, batch, batch_idx):
        inputs, present = split(batch[0])
        assert set(inputs) == set(self.encoders)
        outputs = [
            self.encoders[name](x.flatten(1) / 60) * present[name][:, None] for name, x in inputs.items()
        ]
        logits = sum(outputs) / sum(flag.float() for flag in present.values())[:, None]
        return torch.nn.functional.cross_entropy(logits, batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("algorithm", [None, Centralized])
def test_a_federation_of_the_same_types_trains(algorithm):
    torch.manual_seed(0)
    nets = [Net(names) for names in TYPES]
    if algorithm:
        federation = Federation(nets[0], algorithm=algorithm())
    else:
        federation = Federation(nets[0], other_models=nets[1:], shared_layers=["*"])
    before = copy.deepcopy(federation.model.state_dict())
    data = FederatedDataModule(
        Module(Motion(60)), IID(), 6, plan=ModalityPlan(TYPES, missing=0.5, label_noise=0.2)
    )
    Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(federation, datamodule=data)
    after = federation.model.state_dict()
    assert all(
        value.isfinite().all() and not torch.equal(value, before[name]) for name, value in after.items()
    )


# ---------------------------------------------------------------- what is told, and errors


def test_summary_and_masks_say_what_batches_hold():
    data = federated(
        ModalityPlan(TYPES, missing=0.4, label_noise=0.3), size=300, client_fractions=(0.5, 0.5, 0)
    )
    table, drawn = data.summary(), data.masks()
    assert drawn.modalities == tuple(NAMES) and len(drawn.row) == 150
    for client, row in zip(data.clients, table, strict=True):
        found = look(client.ordered_batches("train"))
        mine = TYPES[client.id % 3]
        assert row["modalities"] == mine and list(row["missing"]) == NAMES and row["samples"] == len(found)
        for name in NAMES:
            if name not in mine:
                assert row["missing"][name] is None
            else:
                lacks = sum(not has[name] for has, _ in found.values())
                assert row["missing"][name] == pytest.approx(lacks / len(found))
        own = drawn.client == client.id
        assert set(drawn.row[own].tolist()) == set(found)
        for number, mask, wrong in zip(drawn.row[own], drawn.present[own], drawn.flipped[own], strict=True):
            has, y = found[int(number)]
            assert [has.get(name, False) for name in NAMES] == mask.tolist() and wrong == (y != number % 4)
        assert sum(row["counts"].values()) == row["samples"]
    assert len(data.masks("val").row) == 150 and not data.masks("val").flipped.any()
    assert "missing" not in federated(None).summary()[0]


def test_a_hundred_thousand_clients():
    class Tiny(Dataset):
        columns = {"label": np.arange(200_000) % 2}  # noqa: RUF012

        def __len__(self):
            return 200_000

        def __getitem__(self, row):
            return {"a": torch.ones(1), "b": torch.ones(1)}, row % 2

    module = FederatedDataModule(
        Module(Tiny()),
        IID(),
        100_000,
        cohort=100,
        plan=ModalityPlan([["a", "b"], ["b"]], missing=0.5, label_noise=0.1),
    )
    module.setup("fit")
    (cohort,) = module.train_dataloader()
    assert len(cohort) == 100 and all("b" in x["present"] for c in cohort for x, _ in c.train_batches(0))


def test_it_is_made_by_the_command_line():
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(FederatedDataModule, "data", subclass_mode=True)
    plan = {"types": [["a", "b"], ["a"]], "missing": 0.2, "level": "time", "assign": [0, 1, 1]}
    for given in ({"class_path": "ModalityPlan", "init_args": plan}, plan):
        config = {
            "class_path": "FederatedDataModule",
            "init_args": {
                "data": {"class_path": "Digits"},
                "partition": {"class_path": "IID"},
                "clients": 3,
                "plan": given,
            },
        }
        data = parser.instantiate_classes(parser.parse_object({"data": config})).data
        assert (
            isinstance(data.plan, ModalityPlan)
            and data.plan.level == "time"
            and data.plan.assign == [0, 1, 1]
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"types": []}, r"types=\[\] must be a list of lists of modalities"),
        ({"types": "acc"}, "types='acc' must be a list of lists"),
        ({"types": [["acc"], []]}, r"types\[1\]=\[\] must be a list of one modality at least"),
        ({"types": ["acc"]}, r"types\[0\]='acc' must be a list of one modality"),
        ({"types": [["acc", "acc"]]}, r"types\[0\]=.* each once"),
        ({"types": [["present"]]}, r"types\[0\]: 'present' cannot name a modality"),
        ({"missing": 1.1}, r"missing=1.1 must be in \[0, 1\]"),
        ({"missing": -0.1}, r"missing=-0.1 must be in"),
        ({"missing": "0.3"}, r"missing='0.3' must be in"),
        ({"missing": float("nan")}, r"missing=nan must be in"),
        ({"label_noise": 2}, r"label_noise=2 must be in \[0, 1\]"),
        ({"level": "subject"}, "level='subject' must be 'sample', 'client' or 'time'"),
        ({"types": TYPES, "assign": [0, 3]}, r"assign=\[0, 3\] must give each client a type from 0 to 2"),
        ({"types": TYPES, "assign": [-1]}, r"assign=\[-1\] must give"),
        ({"assign": [1]}, "a type from 0 to 0"),
    ],
)
def test_plans_that_cannot_be(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ModalityPlan(**arguments)


class Pairs(Motion):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x["tag"], y


class Alone(Motion):
    def __getitem__(self, index):
        return super().__getitem__(index)[0]


class Flags(Motion):
    def __getitem__(self, index):
        return {"present": {}}, 0


@pytest.mark.parametrize(
    ("plan", "dataset", "sentence"),
    [
        (
            ModalityPlan([["acc", "rbg"]]),
            Motion(60),
            r"types\[0\]: 'rbg' is not among \['acc', 'rgb', 'tag'\]; did you mean rgb",
        ),
        (ModalityPlan(TYPES, [0, 1, 2]), Motion(60), "assign has 3 entries, but there are 6 clients"),
        (
            ModalityPlan(),
            Pairs(60),
            r"samples of Pairs must be pairs \(x, y\) with x a dict .* first is x of type Tensor",
        ),
        (ModalityPlan(), Alone(60), "samples of Alone must be pairs .* first is no pair"),
        (ModalityPlan(), Flags(60), "samples of Flags must be pairs"),
        (
            ModalityPlan(label_noise=0.1),
            Motion(60, label=np.zeros(60, dtype=int)),
            r"two classes at least; Motion has \[0\] alone",
        ),
        (
            ModalityPlan(label_noise=0.1),
            Motion(60, label=np.arange(60) - 1),
            "must have the class numbers 0, 1",
        ),
        (
            ModalityPlan(label_noise=0.1),
            Motion(60, label=np.arange(60) / 2),
            r"labels such as 0\.0 are no classes",
        ),
    ],
)
def test_data_that_do_not_fit(plan, dataset, sentence):
    with pytest.raises(ValueError, match=sentence):
        federated(plan, data=Module(dataset))
