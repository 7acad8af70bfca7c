import zipfile

import numpy as np
import pytest

from lkd.datamodules import SmartphoneSmartwatchHAR
from lkd.datamodules.io.download import Remote
from lkd.datamodules.sensors import har
from lkd.datamodules.sensors.har_files import CLASSES, RELEASE, read_recordings
from lkd.datamodules.sensors.har_synthetic import draw_recordings
from lkd.datamodules.sensors.windows import sample_times

from ..recordings import write_recordings


def same(mine, theirs):
    assert [one[:3] for one in mine] == [one[:3] for one in theirs]
    for a, b in zip(mine, theirs, strict=True):
        for device in ("phone", "watch"):
            for part in "txy":
                left, right = (getattr(one.streams[device], part) for one in (a, b))
                assert left.dtype == right.dtype and np.array_equal(left, right)


@pytest.mark.parametrize("kind", ["npz", "csv"])
@pytest.mark.parametrize("nested", [(), ("GeoTecINIT-sp-sw-har-dataset-25bcf90", "DATA")])
def test_both_formats_give_what_was_written(tmp_path, kind, nested):
    recordings = draw_recordings(subjects=2, executions=2, seed=5)
    write_recordings(tmp_path.joinpath(*nested), kind, recordings)
    same(read_recordings(tmp_path), recordings)


def test_orientations_may_be_missing(tmp_path):
    (write_recordings(tmp_path, subjects=1, executions=1) / "executions_info.csv").unlink()
    assert [one.orientation for one in read_recordings(tmp_path)] == ["unknown"]


def test_labels_go_by_their_names(tmp_path):
    """The archive's own order of labels counts, not ours."""
    write_recordings(tmp_path, subjects=1, executions=1)
    with np.load(tmp_path / "har_spsw.npz") as file:
        arrays = dict(file)
    arrays["labels"] = arrays["labels"][::-1]
    np.savez(tmp_path / "har_spsw.npz", **arrays)
    y = read_recordings(tmp_path)[0].streams["watch"].y
    assert np.array_equal(y, 4 - arrays["s01_01_sw/y"])


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "har_spsw.npz", labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"har_spsw\.npz is damaged, or .* allow_pickle=False"):
        read_recordings(tmp_path)
    write_recordings(tmp_path, subjects=1, executions=1)
    with np.load(tmp_path / "har_spsw.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "har_spsw.npz", **(arrays | {"s01_01_sp/x": np.array([{}], dtype=object)}))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_recordings(tmp_path)


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def test_what_is_wrong_with_files_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither har_spsw\.npz nor files like s01/s01_01_sp\.csv"):
        read_recordings(tmp_path)
    root = write_recordings(tmp_path, "csv", subjects=1, executions=1)
    phone, watch = root / "s01" / "s01_01_sp.csv", root / "s01" / "s01_01_sw.csv"
    edit(watch, "TURNING", "DANCING")
    with pytest.raises(ValueError, match=r"s01_01_sw\.csv: 'DANCING' is none of the activities SEATED, "):
        read_recordings(root)
    edit(watch, "DANCING", "TURNING")
    edit(phone, "z_gyro", "z_acc")  # as the release's readme has it
    with pytest.raises(ValueError, match=r"s01_01_sp\.csv has no column 'z_gyro'; its columns are x_acc"):
        read_recordings(root)
    phone.write_text("x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label\n")
    with pytest.raises(ValueError, match=r"s01_01_sp\.csv holds no rows"):
        read_recordings(root)
    phone.unlink()
    with pytest.raises(ValueError, match="execution s01_01 lacks s01_01_sp"):
        read_recordings(root)


def test_missing_recordings_say_what_to_do(tmp_path):
    data = SmartphoneSmartwatchHAR(str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"no har_spsw\.npz: set --data\.download=true .* unpack https://"
    ):
        data.prepare_data()


def test_missing_recordings_are_fetched(tmp_path, monkeypatch):
    """From a file:// address, in the nested form of GitHub's archives."""
    packed = write_recordings(tmp_path / "sp-sw-har-dataset-673a" / "DATA", "csv", subjects=5, executions=1)
    with zipfile.ZipFile(tmp_path / "673a.zip", "w") as file:
        for path in packed.rglob("*.csv"):
            file.write(path, path.relative_to(tmp_path))
    monkeypatch.setattr(har, "RELEASE", Remote((tmp_path / "673a.zip").as_uri()))
    data = SmartphoneSmartwatchHAR(str(tmp_path / "new" / "place"), download=True)
    data.prepare_data()
    data.setup()
    assert sorted({one.subject for part in data.splits for one in part}) == [
        "s01",
        "s02",
        "s03",
        "s04",
        "s05",
    ]
    assert RELEASE.url.startswith("https://github.com/GeoTecINIT/sp-sw-har-dataset/archive/")


def test_drawn_people_do_not_depend_on_their_number():
    few, many = draw_recordings(subjects=1, executions=2), draw_recordings(subjects=3, executions=3)
    same(few, many[:2])
    assert not np.array_equal(many[0].streams["phone"].x[:50], many[3].streams["phone"].x[:50])
    for one in many:  # late and repeated stamps, but no row missing
        for stream in one.streams.values():
            steps = np.diff(stream.t)
            assert (steps >= 0).all() and (steps == 0).any() and steps.max() > 40
            assert np.diff(sample_times(stream.t)).max() < 20
            assert sorted(set(stream.y.tolist())) == list(range(len(CLASSES)))


def test_real_recordings(sample, tmp_path):
    """Against the facts that are known of the set; and the release's format gives the same."""
    recordings = read_recordings(sample("har_spsw"))
    assert len(recordings) == 223 and len({one.subject for one in recordings}) == 23
    streams = [stream for one in recordings for stream in one.streams.values()]
    counts = np.bincount(np.concatenate([stream.y for stream in streams]))
    assert counts.tolist() == [64789, 55068, 232195, 105389, 64325]
    assert {one.orientation for one in recordings} == {"back", "back_inv", "front", "front_inv"}
    # the first row of two files of the release, as published
    first, last = recordings[0].streams["phone"], recordings[-1].streams["watch"]
    assert first.t[0] == 1657533977813 and last.t[0] == 1659551799958
    assert first.x[0] == pytest.approx(
        [-4.1602211, -1.1829517, -8.9907322, 0.00282517, -0.01389678, -0.03214584]
    )
    assert last.x[0] == pytest.approx(
        [-3.1470559, -1.7579445, 8.9573736, 0.01832595, 0.00610865, -0.00733038]
    )
    gravity = np.median([np.linalg.norm(stream.x[stream.y == 0, :3], axis=1).mean() for stream in streams])
    assert gravity == pytest.approx(9.81, abs=0.2)
    # no row is missing: what looks like gaps of up to .19 s are rows that came late
    assert max(np.diff(stream.t).max() for stream in streams) > 150
    assert max(np.diff(sample_times(stream.t)).max() for stream in streams) < 40
    same(read_recordings(write_recordings(tmp_path, "csv", recordings[:3])), recordings[:3])
