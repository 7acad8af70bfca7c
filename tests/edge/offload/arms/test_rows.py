"""Arms beside a cascade: which are refused, and what their rows look like."""

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from lkd.edge.offload.arms import Bottleneck, EarlyExit, SentExit
from lkd.edge.offload.arms.arm import samples
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.checks import check_arms
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.point import Point
from lkd.edge.offload.report import Report, said


def point(arm, acc=0.5, **more):
    return Point(arm, 0.0, 0.0, 0.0, {"acc": acc}, 1.0, 1.0, **more)


def test_what_does_not_go_with_the_student_or_its_labels_is_refused():
    exits = [EarlyExit("x.ckpt"), SentExit("x.ckpt"), Bottleneck("x.ckpt")]
    check_arms(ClassTask(), exits, labels=True)
    check_arms(ClassTask(), exits[1:], labels=False)
    with pytest.raises(
        ValueError,
        match="EarlyExit chooses its thresholds by labels of the validation data: give labels=true",
    ):
        check_arms(ClassTask(), exits, labels=False)
    with pytest.raises(ValueError, match="Bottleneck is of classifiers, and this student answers with boxes"):
        check_arms(BoxTask(), exits[2:], labels=True)


def test_rows_say_how_much_the_device_computes_where_somebody_counted():
    device, server = point("device-only"), point("server-only", acc=0.9)
    plain = Report(["acc"], device, server, server.metrics, {}).rows()
    assert all("device MMACs" not in row for row in plain)
    rows = Report(
        ["acc"], device, server, server.metrics, {}, others=[point("split", acc=0.8, mmacs=0.25)]
    ).rows()
    assert [row["device MMACs"] for row in rows] == [None, None, 0.25]
    assert said(rows[0])["device MMACs"] == "-" and said(rows[-1])["device MMACs"] == "0.25"
    assert rows[-1]["gap acc"] == pytest.approx(0.75)


class Shuffled(LightningDataModule):
    """Data whose own loader shuffles, and drops what does not fill a batch."""

    def test_dataloader(self):
        x = torch.arange(10.0).reshape(10, 1, 1, 1)
        return DataLoader(TensorDataset(x, torch.arange(10)), batch_size=4, shuffle=True, drop_last=True)


def test_samples_are_all_in_the_order_of_the_cameras():
    found = samples(Shuffled(), "test")
    assert found.y.tolist() == list(range(10)) and found.x.flatten().tolist() == list(range(10))
