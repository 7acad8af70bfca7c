"""Arms beside a cascade: which are refused, and what their rows look like."""

import pytest

from lkd.edge.offload.arms import Bottleneck, EarlyExit, SentExit
from lkd.edge.offload.boxes import Boxes
from lkd.edge.offload.cascade import _check_arms
from lkd.edge.offload.classes import Classes
from lkd.edge.offload.point import Point
from lkd.edge.offload.report import Report, said


def point(arm, acc=0.5, **more):
    return Point(arm, 0.0, 0.0, 0.0, {"acc": acc}, 1.0, 1.0, **more)


def test_what_does_not_go_with_the_student_or_its_labels_is_refused():
    exits = [EarlyExit("x.ckpt"), SentExit("x.ckpt"), Bottleneck("x.ckpt")]
    _check_arms(Classes(), exits, labels=True)
    _check_arms(Classes(), exits[1:], labels=False)
    with pytest.raises(
        ValueError,
        match="EarlyExit chooses its thresholds by labels of the validation data: give labels=true",
    ):
        _check_arms(Classes(), exits, labels=False)
    with pytest.raises(ValueError, match="Bottleneck is of classifiers, and this student answers with boxes"):
        _check_arms(Boxes(), exits[2:], labels=True)


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
