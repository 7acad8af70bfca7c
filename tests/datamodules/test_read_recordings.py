"""What files of recordings may look like: the rows of docs/data.md."""

import shutil

import numpy as np
import pytest
import torch

from lkd.datamodules.modalities.modality_set import ModalitySet
from lkd.datamodules.sensors.har_files import read_recordings
from lkd.datamodules.sensors.uci_har_files import read_half

from ..recordings import write_recordings
from ..tables import Table, refused
from ..uci import write_release

TABLE = Table("Recordings")


@pytest.fixture
def csvs(tmp_path):
    return write_recordings(tmp_path / "csv", "csv", subjects=1, executions=1)


def line(root, number, change, name="s01_01_sp.csv"):
    """Changes the values of one line, counted from 1, and back afterwards."""
    path = root / "s01" / name
    before = path.read_text()
    lines = before.splitlines()
    lines[number - 1] = ",".join(change(lines[number - 1].split(",")))
    path.write_text("\n".join(lines))
    return lambda: path.write_text(before)


def archive(root, **changes):
    """The archive, with arrays changed, or left out where they are None."""
    write_recordings(root, subjects=1, executions=1)
    with np.load(root / "har_spsw.npz") as file:
        arrays = dict(file)
    arrays |= {name.replace("__", "/"): values for name, values in changes.items()}
    np.savez(root / "har_spsw.npz", **{name: values for name, values in arrays.items() if values is not None})
    return arrays


@TABLE.row("a reading that is")
def test_numbers(csvs, tmp_path):
    for change, message in (
        (lambda v: ["nan", *v[1:]], r"s01_01_sp\.csv, line 7: x_acc=nan, .* are not all finite numbers"),
        (lambda v: [*v[:5], "-inf", *v[6:]], r"line 7: .* z_gyro=-inf are not all finite"),
        (lambda v: ["1e300", *v[1:]], "line 7: x_acc=inf"),  # more than float32 holds
        (lambda v: ["", *v[1:]], r"line 7: x_acc='' is no number"),
        (lambda v: [*v[:6], "7.5", *v[7:]], "time stamps must be whole milliseconds"),
        (lambda v: v[:-1], "line 7: has 7 values for 8 columns"),
    ):
        back = line(csvs, 7, change)
        refused(lambda: read_recordings(csvs), message)
        back()
    x = archive(tmp_path / "a")["s01_01_sw/x"].copy()
    x[5, 2] = np.nan
    archive(tmp_path / "a", s01_01_sw__x=x)
    refused(lambda: read_recordings(tmp_path / "a"), r"har_spsw\.npz, s01_01_sw, row 5: .* z_acc=nan")
    folder = write_release(tmp_path)
    path = folder / "train" / "Inertial Signals" / "total_acc_y_train.txt"
    lines = path.read_text().splitlines()
    lines[3] = " ".join([*lines[3].split()[:-1], "inf"])
    path.write_text("\n".join(lines))
    refused(
        lambda: read_half(folder, "train", "total"), r"total_acc_y_train\.txt, line 4: not all of its numbers"
    )


@TABLE.row("time that runs backwards")
def test_time(csvs, tmp_path):
    line(csvs, 9, lambda v: [*v[:6], "5", *v[7:]])
    refused(
        lambda: read_recordings(csvs),
        r"s01_01_sp\.csv, line 9: time runs backwards, from \d+ to 5 ms; sort the rows",
    )
    t = archive(tmp_path / "a")["s01_01_sp/t"]
    archive(tmp_path / "a", s01_01_sp__t=np.sort(t) // 50 * 50)  # repeated stamps are late rows
    assert len(read_recordings(tmp_path / "a")) == 1
    archive(tmp_path / "a", s01_01_sp__t=t[::-1])
    refused(lambda: read_recordings(tmp_path / "a"), "s01_01_sp, row 1: time runs backwards")


@TABLE.row("arrays of different lengths")
def test_arrays(tmp_path):
    arrays = archive(tmp_path / "a")
    x, y = arrays["s01_01_sp/x"], arrays["s01_01_sp/y"]
    for changes, message in (
        ({"s01_01_sp__x": x[:-1]}, r"npz, s01_01_sp: t is of shape \(\d+,\), x of \(\d+, 6\) and y of"),
        ({"s01_01_sp__x": x[:, :3]}, r"must be \(n,\), \(n, 6\) and \(n,\)"),
        ({"s01_01_sp__y": y[:5]}, r"and y of \(5,\)"),
        ({"s01_01_sp__t": None}, "has s01_01_sp/x, but no s01_01_sp/t"),
        ({"s01_01_sp__y": np.where(y == 2, -1, y)}, "s01_01_sp/y must be numbers of `labels`, 0 to 4"),
        ({"s01_01_sp__y": y + 1}, "s01_01_sp/y must be numbers of `labels`, 0 to 4"),
        ({"s01_01_sp__x": x.astype(str)}, "t and x must be numbers"),
        ({"labels": None}, "must hold `labels`"),
    ):
        archive(tmp_path / "a", **changes)
        refused(lambda: read_recordings(tmp_path / "a"), message)


@TABLE.row("a damaged `.npz`")
def test_damaged(csvs, tmp_path):
    root = write_recordings(tmp_path / "a", subjects=1, executions=1)
    whole = (root / "har_spsw.npz").read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], b"", b"<html>", whole[:middle] + b"\0" * 64 + whole[middle + 64 :]):
        (root / "har_spsw.npz").write_bytes(content)
        refused(lambda: read_recordings(root), r"har_spsw\.npz is damaged, or no archive of arrays")
    with (root / "har_spsw.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    refused(lambda: read_recordings(root), r"har_spsw\.npz is damaged, or no archive of arrays")
    (csvs / "executions_info.csv").write_text("execution,orientation\ns01_01,back\n")
    refused(lambda: read_recordings(csvs), r"executions_info\.csv, line 1: has no column execution_id")
    (csvs / "executions_info.csv").unlink()
    path = csvs / "s01" / "s01_01_sp.csv"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"TURNING", b"DR\xc9HEN"))
    refused(lambda: read_recordings(csvs), r"s01_01_sp\.csv, line \d+: is not text in UTF-8")
    path.write_bytes(whole)
    shutil.copytree(csvs / "s01", csvs / "s02")
    refused(lambda: read_recordings(csvs), r"holds 2 files s01_01_s.\.csv, of which one is the execution")


def test_moments_of_what_is_not_finite():
    """Wherever samples come from: those without the modality do not count."""
    x = torch.zeros(4, 3, 8)
    x[2, 1, 5] = float("nan")
    with pytest.raises(ValueError, match="acc of 1 of 4 training samples is not finite"):
        ModalitySet({"acc": x}, torch.zeros(4).long()).moments()
    there = torch.tensor([True, True, False, True])
    assert (
        ModalitySet({"acc": x}, torch.zeros(4).long(), {"acc": there}).moments()["acc"].mean.tolist()
        == [0] * 3
    )


def test_every_row_of_the_table_has_a_test():
    assert not TABLE.left
