import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lkd.datamodules import FederatedDataModule, ModalityPlan, Natural, SmartphoneSmartwatchHAR
from lkd.datamodules.sensors.har_synthetic import draw_recordings

from ..recordings import write_recordings

FOUR = ["phone_acc", "phone_gyro", "watch_acc", "watch_gyro"]
PARTS = ("train", "val", "test")


def ready(root=None, **kwargs):
    data = SmartphoneSmartwatchHAR(None if root is None else str(root), **kwargs)
    data.prepare_data()
    data.setup()
    return data


def held(data, part, column):
    return data.datasets[part].columns[column]


def numbered(root, recordings):
    """Rows whose first phone channel is a number of their own, for all recordings together, and written down."""
    number = 0
    for one in recordings:
        x = one.streams["phone"].x
        x[:, 0] = number + np.arange(len(x))
        number += len(x) + 1000
    return write_recordings(root, recordings=recordings)


def raw_rows(data, x):
    """Numbers of the rows that windows (W, 3, T) were interpolated from, as `numbered` gave them."""
    moments = data.moments["phone_acc"]
    values = (x[:, 0].double() * moments.std[0].double() + moments.mean[0].double()).numpy()
    return set(np.floor(values + 0.02).astype(int).ravel()) | set(np.ceil(values - 0.02).astype(int).ravel())


@pytest.mark.parametrize("split", ["subject", "execution"])
def test_no_row_is_in_two_parts(tmp_path, split):
    root = numbered(tmp_path, draw_recordings(subjects=6, executions=5))
    data = ready(root, split=split, overlap=0.75)
    rows = [raw_rows(data, data.datasets[part].x["phone_acc"]) for part in PARTS]
    assert all(len(part) > 1000 for part in rows)
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
    each = [raw_rows(data, window[None]) for window in data.datasets["train"].x["phone_acc"][:2]]
    assert len(each[0] & each[1]) > 50  # windows do overlap
    for column in ("subject", "execution") if split == "subject" else ("execution",):
        values = [set(held(data, part, column)) for part in PARTS]
        assert not values[0] & values[1] | values[0] & values[2] | values[1] & values[2]
    if split == "execution":  # 3, 1 and 1 of everybody's five, in order
        for part, ends in zip(PARTS, ({"01", "02", "03"}, {"04"}, {"05"}), strict=True):
            assert {name[4:] for name in held(data, part, "execution")} == ends
            assert len(set(held(data, part, "subject"))) == 6


def clients_rows(data, client):
    parts = {}
    for part in PARTS:
        batches = list(client.ordered_batches(part)) if client.has(part) else []
        parts[part] = raw_rows(data, torch.cat([x["phone_acc"] for x, _ in batches])) if batches else set()
    return parts


def test_clients_split_their_own_windows_without_a_leak(tmp_path):
    """By time within a client, and never through an execution, whose windows overlap."""
    data = ready(numbered(tmp_path, draw_recordings(subjects=8, executions=5)), overlap=0.75)
    federation = FederatedDataModule(data, Natural("subject"), client_fractions=(0.8, 0.0, 0.2))
    federation.setup("fit")
    assert federation.names == sorted(set(held(data, "train", "subject"))) and len(federation.names) == 5
    execution, time = held(data, "train", "execution"), held(data, "train", "time")
    seen = set()
    for number in range(5):
        client = federation.clients[number]
        rows = clients_rows(data, client)
        assert rows["train"] and rows["test"] and not rows["val"]
        assert not rows["train"] & rows["test"] and not (rows["train"] | rows["test"]) & seen
        seen |= rows["train"] | rows["test"]
        first, last = (client.parts[part][1] for part in ("train", "test"))
        assert [len(set(execution[part])) for part in (first, last)] == [4, 1]
        assert time[first].max() < time[last].min()


def test_the_public_share_is_of_whole_executions(tmp_path):
    data = ready(numbered(tmp_path, draw_recordings(subjects=6, executions=5)), overlap=0.75)
    federation = FederatedDataModule(data, Natural("subject"), public=0.2)
    federation.setup("fit")
    public = raw_rows(data, torch.cat([x["phone_acc"] for x in federation.public_dataloader()]))
    share = len(federation.clients.public) / len(data.datasets["train"])
    assert share == pytest.approx(0.2, abs=0.04)
    for number in range(len(federation.clients)):
        assert not clients_rows(data, federation.clients[number])["train"] & public


def test_clients_have_their_later_executions_of_the_global_parts():
    data = SmartphoneSmartwatchHAR(None, split="execution")
    federation = FederatedDataModule(data, Natural("subject"))
    federation.setup("fit")
    federation.setup("test")
    client = federation.clients[3]
    assert client.name == "s04" and all(client.has(part) for part in PARTS)
    (batching, rows) = client.parts["test"]
    assert set(batching.dataset.columns["execution"][rows]) == {"s04_06"}
    assert sum(len(y) for _, y in client.ordered_batches("val")) > 5


def test_normalized_by_training_windows_only(tmp_path):
    recordings = draw_recordings(subjects=6, executions=2)
    here = {"val_subjects": ["s02"], "test_subjects": ["s05"]}
    plain = ready(write_recordings(tmp_path / "a", recordings=recordings), **here)
    for name in FOUR:
        values = plain.datasets["train"].x[name]
        assert values.mean((0, 2)).abs().max() < 1e-4 and (values.std((0, 2)) - 1).abs().max() < 1e-3
    for one in recordings:
        if one.subject in ("s02", "s05"):
            for stream in one.streams.values():
                stream.x[:] = 100 * stream.x + 7
    other = ready(write_recordings(tmp_path / "b", recordings=recordings), **here)
    for name in FOUR:
        assert torch.equal(plain.datasets["train"].x[name], other.datasets["train"].x[name])
        assert all(torch.equal(*both) for both in zip(plain.moments[name], other.moments[name], strict=True))
        assert other.datasets["test"].x[name].std() > 50


def test_batches():
    data = ready(batch_size=16, seed=3)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        x, y = batch = next(iter(loader))
        assert isinstance(batch, tuple) and sorted(x) == FOUR and y.shape == (16,) and y.dtype == torch.int64
        assert all(v.shape == (16, 3, 50) and v.dtype == torch.float32 for v in x.values())
    assert data.classes == ["SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN"]
    x, y = data.datasets["train"][5]
    assert x["watch_gyro"].shape == (3, 50) and y.ndim == 0
    assert len(data.datasets["train"]) == sum(len(y) for _, y in data.train_dataloader())
    columns = data.datasets["train"].columns
    assert set(columns) == {"label", "subject", "orientation", "execution", "time", "group"}
    assert all(len(values) == len(data.datasets["train"]) for values in columns.values())


def test_modalities_do_not_change_the_windows():
    everything, some = ready(), ready(modalities=["watch_gyro", "phone_acc"])
    x, _ = some.datasets["val"][[0, 1, 2]]
    assert list(x) == ["phone_acc", "watch_gyro"]
    for name in x:
        assert torch.equal(some.datasets["val"].x[name], everything.datasets["val"].x[name])
    assert torch.equal(some.datasets["val"].y, everything.datasets["val"].y)


def test_absent_devices(tmp_path):
    """A second of the watch is lost in one execution; there its modalities are absent, and zeros."""
    recordings = draw_recordings(subjects=5, executions=2)
    watch = recordings[3].streams["watch"]
    left = np.r_[0:300, 420 : len(watch.t)]
    recordings[3].streams["watch"] = watch._replace(t=watch.t[left], x=watch.x[left], y=watch.y[left])
    root = write_recordings(tmp_path, recordings=recordings)
    data = ready(root, val_subjects=["s05"], test_subjects=["s01"])
    train = data.datasets["train"]
    absent = ~train.present["watch_acc"]
    assert 2 <= absent.sum() <= 5 and set(train.columns["execution"][absent]) == {"s02_02"}
    assert torch.equal(absent, ~train.present["watch_gyro"]) and train.present["phone_acc"].all()
    assert not train.x["watch_acc"][absent].any() and train.x["phone_acc"][absent].abs().amin((1, 2)).all()
    known = train.x["watch_acc"][~absent]
    assert known.mean((0, 2)).abs().max() < 1e-4  # what is absent is not counted
    x, _ = next(iter(data.train_dataloader()))
    assert all(x["present"][name].shape == (32,) and x["present"][name].dtype == torch.bool for name in FOUR)
    x, _ = next(iter(data.test_dataloader()))
    assert all(there.all() for there in x["present"].values())  # the same form where nothing is absent
    alone = ready(root, val_subjects=["s05"], test_subjects=["s01"], modalities=["watch_acc"])
    assert (
        len(alone.datasets["train"]) == len(train) - absent.sum() and alone.datasets["train"].present is None
    )


def test_who_is_held_out():
    drawn = [[set(held(ready(split_seed=k, seed=7), part, "subject")) for part in PARTS] for k in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and [len(part) for part in drawn[0]] == [7, 3, 2]
    named = ready(test_subjects=["s03", "s10"], fractions=(0.8, 0.2, 0.0))
    assert (
        set(held(named, "test", "subject")) == {"s03", "s10"} and len(set(held(named, "val", "subject"))) == 2
    )
    every = ready(val_subjects=["s01"], test_subjects=["s02"], fractions=(1.0, 0.0, 0.0))
    assert len(set(held(every, "train", "subject"))) == 10 and len(list(every.val_dataloader())) > 0
    none = ready(fractions=(1.0, 0.0, 0.0))
    assert len(set(held(none, "train", "subject"))) == 12 and none.val_dataloader() == []
    with pytest.raises(ValueError, match="the test split is empty"):
        none.test_dataloader()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0}, "rate=0 must be above 0"),
        ({"window": 0.02}, r"window=0\.02 s at rate=50\.0 is fewer than two ticks"),
        ({"overlap": 1.0}, r"overlap=1\.0 must be in \[0, 1\)"),
        ({"purity": 0.0}, r"purity=0\.0 must be in \(0, 1\]"),
        ({"max_gap": 0.0}, r"max_gap=0\.0 must be above 0"),
        ({"split": "window"}, "split='window' must be 'subject' or 'execution'"),
        ({"split": "execution", "test_subjects": ["s01"]}, "need split='subject'"),
        ({"split_seed": -1}, "split_seed=-1 must be 0 or more"),
        ({"modalities": ["watch_acce"]}, "did you mean watch_acc"),
        ({"test_subjects": ["s77"]}, "test_subjects: 's77' is not among"),
        (
            {"val_subjects": ["s01"], "test_subjects": ["s01"]},
            "'s01' is in val_subjects and in test_subjects",
        ),
        ({"window": 5.0, "purity": 1.0}, r"window=5\.0 with purity=1\.0 leaves no training window"),
    ],
)
def test_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        ready(**wrong)


def features(data, part, names):
    """Mean and deviation of every channel: what a linear model can tell activities by."""
    x = torch.cat([data.datasets[part].x[name] for name in names], dim=1)
    return torch.cat([x.mean(2), x.std(2), x.abs().amax(2)], dim=1).numpy(), held(data, part, "label")


def test_every_modality_of_the_drawn_people_can_be_learned():
    data, scores = ready(fractions=(0.75, 0.0, 0.25)), {}
    for names in (FOUR, *([name] for name in FOUR)):
        model = LogisticRegression(max_iter=2000).fit(*features(data, "train", names))
        scores[names[0] if len(names) == 1 else "all"] = model.score(*features(data, "test", names))
    y = held(data, "test", "label")
    assert min(scores.values()) > 0.1 + np.bincount(y).max() / len(y)
    assert max(scores, key=scores.get) == "all" and min(scores.values()) < 0.9


def test_with_a_plan_of_modalities():
    data = SmartphoneSmartwatchHAR(None, fractions=(0.5, 0.25, 0.25))
    plan = ModalityPlan([["phone_acc", "phone_gyro"], ["watch_acc", "watch_gyro"]])
    federation = FederatedDataModule(data, Natural("subject"), plan=plan)
    federation.setup("fit")
    owned = [set(next(iter(federation.clients[k].train_batches(0)))[0]) - {"present"} for k in (0, 1)]
    assert owned == [{"phone_acc", "phone_gyro"}, {"watch_acc", "watch_gyro"}]


def test_real_windows(sample):
    data = ready(sample("har_spsw"))
    counts = sum(np.bincount(held(data, part, "label"), minlength=5) for part in PARTS)
    assert counts.tolist() == [274, 448, 2081, 841, 497]
    assert [len(set(held(data, part, "subject"))) for part in PARTS] == [14, 4, 5]
    assert all(data.datasets[part].present is None for part in PARTS)  # nothing is lost
    federation = FederatedDataModule(data, Natural("subject"), client_fractions=(0.8, 0.0, 0.2))
    federation.setup("fit")
    assert len(federation.clients) == 14 and min(federation.clients.sizes) > 80
    labels = federation.label_counts()
    assert labels.shape == (14, 5) and labels.min() > 0  # everybody does everything
