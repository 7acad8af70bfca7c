import shutil
from itertools import chain

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lkd.datamodules import UCIHAR, FederatedDataModule, ModalityPlan, Natural
from lkd.datamodules.io.download import Remote, sha256_of
from lkd.datamodules.sensors import uci_har_files
from lkd.datamodules.sensors.uci_har_files import CLASSES, read_half

from ..uci import ORDER, pack_release, write_release

PARTS = ("train", "val", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("uci")
    write_release(root, numbered=True)
    return root


def ready(root, **kwargs):
    data = UCIHAR(str(root), **kwargs)
    data.prepare_data()
    data.setup()
    return data


def people(data):
    return [sorted({*data.datasets[part].columns["subject"].tolist()}) for part in PARTS]


def readings(data, x):
    """Numbers of the readings that windows (W, 3, 128) of a numbered release hold."""
    mean, std = (value[0].double() for value in data.moments["acc"])
    return set((x[:, 0].double() * std + mean).round().long().ravel().tolist())


def test_windows_are_those_of_the_files(root):
    half = read_half(root / "UCI HAR Dataset", "test", "body")
    table = [
        [float(word) for word in line.split()]
        for line in (root / "UCI HAR Dataset/test/Inertial Signals/body_gyro_y_test.txt")
        .read_text()
        .splitlines()
    ]
    assert half.x["gyro"].shape == (2 * 12 * 3, 3, 128) and half.x["gyro"].dtype == np.float32
    np.testing.assert_allclose(half.x["gyro"][:, 1], table, rtol=1e-6)
    assert half.y.tolist() == np.repeat(np.array(ORDER * 4) - 1, 3).tolist()
    assert half.subject.tolist() == ["s02"] * 36 + ["s04"] * 36
    assert half.recording.tolist() == np.repeat(np.arange(24), 3).tolist()
    assert CLASSES[half.y[6]] == "LAYING"
    # the half overlap that the groups are made for
    acc = half.x["acc"][:, 0]
    assert np.array_equal(acc[0, 64:], acc[1, :64]) and not np.intersect1d(acc[2], acc[3]).size


def test_total_acceleration_has_gravity(root):
    body, total = (read_half(root / "UCI HAR Dataset", "train", kind) for kind in ("body", "total"))
    assert np.array_equal(body.x["gyro"], total.x["gyro"]) and not np.array_equal(
        body.x["acc"], total.x["acc"]
    )
    lying = total.y == CLASSES.index("LAYING")
    assert abs(total.x["acc"][lying, 0].mean()) < 0.1 < 0.9 < total.x["acc"][~lying, 0].mean()


def test_a_second_trial_right_after_the_first_is_the_same_recording(tmp_path):
    """Nothing tells where one ends, so that they stay together."""
    folder = write_release(tmp_path, train=(1,), test=(2,), windows=2)
    half = read_half(folder, "train", "body")
    column = folder / "train" / "y_train.txt"
    column.write_text("\n".join(map(str, [5] * 4 + [4] * 20)) + "\n")
    assert len(set(half.recording)) == 12 and len(set(read_half(folder, "train", "body").recording)) == 2
    (folder / "train" / "subject_train.txt").write_text("\n".join(map(str, [1] * 3 + [3] * 21)) + "\n")
    assert read_half(folder, "train", "body").recording.tolist() == [0, 0, 0, 1] + [2] * 20


def test_official_split_keeps_the_test_people(root):
    data = ready(root, fractions=(0.5, 0.25, 0.25))
    train, val, test = people(data)
    assert test == ["s02", "s04"] and len(val) == 2  # a third of six
    assert sorted(train + val) == ["s01", "s03", "s05", "s06", "s07", "s08"]
    draws = {tuple(people(ready(root, split_seed=k, fractions=(0.5, 0.25, 0.25)))[1]) for k in range(4)}
    assert len(draws) > 1 and people(ready(root, seed=9, fractions=(0.5, 0.25, 0.25))) == people(data)
    named = ready(root, val_subjects=["s07"], fractions=(0.8, 0.0, 0.2))
    assert (
        people(named)[1] == ["s07"] and len(people(named)[0]) == 5 and len(list(named.val_dataloader())) > 0
    )
    none = ready(root, fractions=(0.8, 0.0, 0.2))
    assert len(people(none)[0]) == 6 and none.val_dataloader() == []


def test_split_by_subject_draws_everybody(root):
    data = ready(root, split="subject", fractions=(0.5, 0.25, 0.25))
    assert [len(part) for part in people(data)] == [4, 2, 2] and len({*chain(*people(data))}) == 8
    named = ready(root, split="subject", test_subjects=["s01", "s02"], val_subjects=["s04"])
    assert people(named)[1:] == [["s04"], ["s01", "s02"]]


@pytest.mark.parametrize("split", ["official", "subject"])
def test_no_reading_is_in_two_parts(root, split):
    data = ready(root, split=split)
    held = [readings(data, data.datasets[part].x["acc"]) for part in PARTS]
    assert all(len(part) > 500 for part in held)
    assert not held[0] & held[1] and not held[0] & held[2] and not held[1] & held[2]


def test_clients_and_public_data_share_no_reading(root):
    data = ready(root)
    federation = FederatedDataModule(data, Natural("subject"), client_fractions=(0.5, 0.0, 0.5), public=0.2)
    federation.setup("fit")
    assert federation.names == people(data)[0]
    seen = [readings(data, torch.cat([x["acc"] for x in federation.public_dataloader()]))]
    for client in (federation.clients[k] for k in range(len(federation.clients))):
        for part in ("train", "test"):
            seen.append(readings(data, torch.cat([x["acc"] for x, _ in client.ordered_batches(part)])))
    assert len(seen) == 1 + 2 * 5 and sum(map(len, seen)) == len(set.union(*seen))


def test_single_rows_would_leak(root):
    """The test above can fail: without the column "group" windows of one recording part."""
    data = ready(root)
    del data.datasets["train"].columns["group"]
    federation = FederatedDataModule(data, Natural("subject"), client_fractions=(0.5, 0.0, 0.5))
    federation.setup("fit")
    client = federation.clients[0]
    first, last = (
        readings(data, torch.cat([x["acc"] for x, _ in client.ordered_batches(part)]))
        for part in ("train", "test")
    )
    assert first & last


def test_normalized_by_training_windows_only(root, tmp_path):
    plain = ready(root)
    for values in plain.datasets["train"].x.values():
        assert values.mean((0, 2)).abs().max() < 1e-3 and (values.std((0, 2)) - 1).abs().max() < 1e-3
    shutil.copytree(root, tmp_path / "other")
    path = tmp_path / "other" / "UCI HAR Dataset/test/Inertial Signals/body_gyro_x_test.txt"
    path.write_text("\n".join(" ".join(["1000"] * 128) for _ in path.read_text().splitlines()))
    other = ready(tmp_path / "other")
    assert torch.equal(other.datasets["train"].x["gyro"], plain.datasets["train"].x["gyro"])
    assert other.datasets["test"].x["gyro"][:, 0].min() > 100


def test_batches_and_columns(root):
    data = ready(root, batch_size=16)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        x, y = next(iter(loader))
        assert sorted(x) == ["acc", "gyro"] and y.shape == (16,) and y.dtype == torch.int64
        assert all(values.shape == (16, 3, 128) and values.dtype == torch.float32 for values in x.values())
    columns = data.datasets["train"].columns
    assert set(columns) == {"label", "subject", "group"} and data.classes == list(CLASSES)
    groups = [set(data.datasets[part].columns["group"].tolist()) for part in PARTS]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 8 * 12  # numbered through both folders
    assert list(ready(root, modalities=["gyro"]).datasets["val"].x) == ["gyro"]


def test_with_a_plan_of_modalities(root):
    plan = ModalityPlan([["acc", "gyro"], ["gyro"]])
    federation = FederatedDataModule(ready(root), Natural("subject"), plan=plan)
    federation.setup("fit")
    owned = [set(next(iter(federation.clients[k].train_batches(0)))[0]) - {"present"} for k in (0, 1)]
    assert owned == [{"acc", "gyro"}, {"gyro"}]


def test_activities_can_be_told_apart(tmp_path):
    """The reader keeps signals, labels and people together: a linear model recognizes new people's activities."""
    write_release(tmp_path)
    data = ready(tmp_path)

    def features(part):
        x = torch.cat([data.datasets[part].x[name] for name in ("acc", "gyro")], dim=1)
        return torch.fft.rfft(x).abs()[..., :16].flatten(1).numpy(), data.datasets[part].columns["label"]

    assert LogisticRegression(max_iter=2000).fit(*features("train")).score(*features("test")) > 0.95


def test_the_zip_in_a_zip_is_unpacked(root, tmp_path):
    pack_release(root / "UCI HAR Dataset", tmp_path)
    data = ready(tmp_path)
    assert torch.equal(data.datasets["train"].x["acc"], ready(root).datasets["train"].x["acc"])
    (tmp_path / "inner").mkdir()  # or only the inner zip, which some have
    shutil.copy(tmp_path / "UCI HAR Dataset.zip", tmp_path / "inner")
    assert len(ready(tmp_path / "inner").datasets["test"]) == 72


def test_a_missing_release_is_fetched(root, tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"set --data\.download=true .* unpack https://archive\.ics\.uci\.edu"
    ):
        UCIHAR(str(tmp_path / "new")).prepare_data()
    packed = pack_release(root / "UCI HAR Dataset", tmp_path / "far")
    monkeypatch.setattr(uci_har_files, "RELEASE", Remote(packed.as_uri(), sha256_of(packed)))
    assert len(ready(tmp_path / "new", download=True).datasets["test"]) == 72
    monkeypatch.setattr(uci_har_files, "RELEASE", Remote(packed.as_uri(), "0" * 64))
    with pytest.raises(ValueError, match="instead of 0000"):
        ready(tmp_path / "other", download=True)


def test_what_is_wrong_with_files_is_said(root, tmp_path):
    folder = tmp_path / "UCI HAR Dataset"
    signals = folder / "train" / "Inertial Signals"

    def broken(path, text, message, kind=ValueError):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / "UCI HAR Dataset", folder)
        path.unlink() if text is None else path.write_text(text(path.read_text()))
        with pytest.raises(kind, match=message):
            ready(tmp_path)

    broken(signals / "body_acc_z_train.txt", None, r"body_acc_z_train\.txt is missing", FileNotFoundError)
    broken(
        signals / "body_gyro_x_train.txt",
        lambda text: text.split("\n", 1)[1],
        "215 lines of 128 numbers; 216 of 128",
    )
    broken(
        signals / "body_gyro_x_train.txt", lambda text: text.replace("e-02", "e-o2"), "is no table of numbers"
    )
    broken(
        signals / "body_acc_x_train.txt",
        lambda text: "nan " + text.split(maxsplit=1)[1],
        r"x_train\.txt, line 1: not all of its numbers are finite",
    )
    broken(
        folder / "test" / "y_test.txt",
        lambda text: text.replace("6", "7"),
        r"y_test\.txt, line 7 is \[7\]: it must have .* from 1 on to 6",
    )
    broken(folder / "test" / "subject_test.txt", lambda text: text[2:], "72 lines and subject_test.txt 71")
    broken(
        folder / "test" / "subject_test.txt",
        lambda text: text.replace("2", "3"),
        "s03 is in train/ and in test/",
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "window"}, "split: 'window' is not among"),
        ({"acceleration": "gravity"}, r"acceleration: 'gravity' is not among \['body', 'total'\]"),
        ({"modalities": ["accel"]}, "did you mean acc"),
        ({"test_subjects": ["s01"]}, "test_subjects chooses whom to test on: it needs split='subject'"),
        ({"val_subjects": ["s02"]}, "val_subjects: 's02' is not among"),  # a person of the official test
        ({"fractions": (0.0, 0.0, 1.0)}, "leave nobody to train on"),
        ({"split_seed": -1}, "split_seed=-1 must be 0 or more"),
        (
            {"split": "subject", "val_subjects": ["s01"], "test_subjects": ["s01"]},
            "is in val_subjects and in",
        ),
    ],
)
def test_bad_arguments(root, wrong, message):
    with pytest.raises(ValueError, match=message):
        ready(root, **wrong)


def test_real_release(sample):
    """Facts that the release's README and paper give."""
    data = ready(sample("uci_har"), fractions=(0.8, 0.0, 0.2))
    assert [len(data.datasets[part]) for part in PARTS] == [7352, 0, 2947]
    assert [len(part) for part in people(data)] == [21, 0, 9]
