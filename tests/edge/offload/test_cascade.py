"""The whole way on real digits: ends, budgets, resuming, and what is refused before anything long."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from lkd.datamodules import Digits
from lkd.edge.offload import (
    Budget,
    CameraMean,
    Entropy,
    Gate,
    Learned,
    Link,
    NarrowBoxes,
    Oracle,
    Payload,
    Random,
    Tiles,
    offload,
)
from lkd.edge.offload.samples import PictureAnswerSource
from lkd.edge.predict.reuse.asked import Reuse
from lkd.modules import Classifier
from lkd.teachers import Teacher

PNG = Payload("png")


class Namesake(Gate):
    """Somebody's own, of a name that is taken."""

    name = "entropy"

    def score(self, task, answers):
        return Entropy().score(task, answers)


class Nameless(Gate):
    """Somebody's own, whose rows would have no name."""

    score = Namesake.score


class Mine(Nameless):
    """Somebody's own."""

    name = "mine"


@pytest.fixture
def run(digits, tmp_path):
    """`offload` of the digits; options win."""
    module, ckpt_path, network = digits
    teacher = Teacher(network)

    def go(**options):
        given = {"module": module, "data": Digits(), "ckpt_path": ckpt_path, "teacher": teacher, "payload": PNG,
                 "budget": Budget(rate=0.2), "draws": 3, "folder": str(tmp_path / "out"), **options}  # fmt: skip
        return offload(**given)

    return go


def rows(tmp_path, name="curves.csv"):
    with (tmp_path / "out" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_curves_end_at_the_modules_own_tests_and_the_budget_is_held(run, digits, tmp_path, capsys):
    point = run()
    table = rows(tmp_path)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    own = Trainer(**quiet).test(digits[0], datamodule=Digits(), verbose=False)[0]["test/acc"]
    ends = {row["arm"]: float(row["acc"]) for row in table if row["arm"].endswith("-only")}
    assert ends["device-only"] == pytest.approx(own, abs=1e-6)
    data = Digits()
    data.setup()
    x, y = data.datasets["test"].tensors
    assert ends["server-only"] == pytest.approx((digits[2](x).argmax(1) == y).float().mean().item(), abs=1e-6)
    of = {(row["arm"], row["share"]): float(row["acc"]) for row in table}
    assert of["random", "0.2"] < of["learned", "0.2"] <= of["oracle", "0.2"]
    assert (
        point.arm == "learned"
        and 0.1 < point.rate < 0.3
        and point.metrics["acc"] > ends["device-only"] + 0.05
    )
    said = capsys.readouterr().out
    assert "Budget rate: 0.2 of the samples asked, 0." in said and "Operating point, learned: " in said
    assert (
        "Calibrated on 359 validation pictures, without their labels."
        in (tmp_path / "out/points.md").read_text()
    )
    assert (tmp_path / "out/curves.png").stat().st_size > 10_000


def test_answers_are_not_asked_again_and_another_configuration_is_refused(run, tmp_path, monkeypatch):
    first = run()
    with pytest.raises(
        ValueError,
        match=r"answers of another configuration \(payload\.format: \"png\" there, \"jpeg\" here\)",
    ):
        run(payload=Payload("jpeg"))
    monkeypatch.setattr(PictureAnswerSource, "ask", None)
    assert run() == first
    other = run(budget=Budget(rate=0.5), gate=Entropy(), link=Link(1.0))  # nothing of that changes answers
    assert other.arm == "entropy" and other.rate > first.rate


def test_a_stopped_run_goes_on_where_it_was(run, tmp_path, monkeypatch):
    first = run()
    files = sorted((tmp_path / "out/answers").glob("*.safetensors"))
    files[-1].unlink()
    asked, real = [], PictureAnswerSource.ask
    monkeypatch.setattr(
        PictureAnswerSource, "ask", lambda self, *rows: asked.append(rows) or real(self, *rows)
    )
    again = run()
    assert len(asked) == 1 and asked[0][0] == "test" and len(files) > 2
    assert again.metrics == first.metrics and again.rate == first.rate


def test_the_teacher_sees_what_is_sent(run, tmp_path):
    run(folder=str(tmp_path / "out"))
    clear = {row["arm"]: row for row in rows(tmp_path)}["server-only"]
    run(payload=Payload("jpeg", quality=1), anew=True)
    blurred = {row["arm"]: row for row in rows(tmp_path)}
    assert float(blurred["server-only"]["acc"]) < float(clear["acc"]) - 0.05
    run(payload=Payload("png", side=4), anew=True)
    assert float(rows(tmp_path)[1]["acc"]) < float(clear["acc"]) - 0.05


def test_a_dead_link_leaves_the_student(run, tmp_path):
    point = run(link=Link(10.0, loss=1.0, deadline_ms=100))
    device, server = rows(tmp_path)[:2]
    assert server["acc"] == device["acc"] and float(server["failed"]) == 1.0
    assert point.metrics["acc"] == float(device["acc"]) and point.failed == point.rate > 0


def test_a_metric_to_reach_with_labels(run):
    point = run(budget=Budget(reach=0.9), labels=True)
    assert point.metrics["acc"] > 0.85 and point.rate < 0.6


def test_what_nothing_meets_is_said_and_the_table_is_there(run, tmp_path):
    with pytest.raises(ValueError, match=r"budget\.p95_ms=0\.0001 is met by no threshold"):
        run(budget=Budget(p95_ms=0.0001))
    assert len(rows(tmp_path)) > 40 and "device-only" in (tmp_path / "out/points.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": Oracle("acc")}, "gate=Oracle knows the test's labels"),
        ({"gate": NarrowBoxes()}, "gate=NarrowBoxes reads boxes, and this student answers with classes"),
        ({"gate": Learned(labels=True)}, r"Learned\(labels=true\) .* give labels=true"),
        ({"tiles": Tiles(2, 2)}, "tiles=.* are parts of frames with boxes, and Digits has none"),
        ({"match_scores": True}, "match_scores=true is of boxes"),
        ({"metric": "map50"}, "metric='map50' is not among what is measured: acc"),
        ({"draws": 0}, "draws=0 must be 1 or more"),
        ({"threads": 0}, "threads=0 must be 1 or more"),
        ({"workers": 0}, "workers=0 must be 1 or more"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
        ({"teacher_size": 0}, "teacher_size=0 must be 1 or more"),
        ({"gate": Learned(metric="acc")}, r"Learned\(metric='acc'\) is of labels"),
        (
            {"gate": Learned(labels=True, metric="map"), "labels": True},
            r"Learned\(metric='map'\) is not among",
        ),
        ({"gate": Namesake()}, "gate=Namesake has the name 'entropy' of Entropy"),
        ({"gate": Nameless()}, "gate=Nameless has no name"),
        (
            {"teacher": Teacher(Classifier(torch.nn.Linear(64, 5), num_classes=5))},
            "answers with 5 classes and the student with 10",
        ),
        ({"teacher": Teacher(torch.nn.Linear(64, 10), classes={"1": "2"})}, "classes=.* is of detectors"),
        ({"teacher": None}, "teacher=None is no Teacher, and a cascade has one at its server: give one"),
        ({"reuse": Reuse()}, "reuse is of frames .* and this student answers with classes of pictures"),
        ({"ckpt_path": "gone.ckpt"}, "gone.ckpt"),
        ({"folder": __file__}, "folder=.* is a file"),
        ({"fps": 0.0}, "fps=0.0 must be above 0 and finite"),
        ({"budget": Budget(reach=0.9)}, "allow it by labels=true"),
        ({"budget": Budget(mb_per_day=9.0)}, "needs fps"),
        ({"ckpt_path": None}, "neither ckpt_path nor exported"),
        ({"exported": "x.onnx"}, "both ckpt_path=.* and exported='x.onnx'"),
        ({"exported": "x.onnx", "ckpt_path": None}, "path='x.onnx' does not exist"),
    ],
)
def test_mistakes_end_before_anything_is_asked(run, monkeypatch, tmp_path, options, message):
    monkeypatch.setattr(PictureAnswerSource, "ask", None)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(**options)
    assert not (tmp_path / "out").exists()


def test_a_link_of_zero_rate_is_refused():
    with pytest.raises(ValueError, match=r"mbps=0\.0 must be above 0 and finite"):
        Link(0.0)


def test_wandb_gets_table_and_picture(run, monkeypatch):
    logged = {}
    logger = WandbLogger(offline=True)
    monkeypatch.setattr(WandbLogger, "log_table", lambda self, key, **data: logged.update({key: data}))
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, key, images: logged.update({key: images}))
    run(loggers=[logger])
    assert logged["offload/points"]["columns"][0] == "arm"
    assert logged["offload/curves"][0].endswith("curves.png")


def test_without_cameras_there_is_no_mean_to_tell_them_apart_by(run, tmp_path):
    run(gate=Random())
    assert not [row for row in rows(tmp_path) if row["arm"] == "camera mean"]
    with pytest.raises(
        ValueError, match=r"budget\.rate=0\.2 is met by no threshold .* nearest has 1 of the samples"
    ):
        run(gate=CameraMean())  # all or nothing
    assert [row for row in rows(tmp_path) if row["arm"] == "camera mean"]


def test_threads_are_as_before(run):
    before = torch.get_num_threads()
    run(threads=1)
    assert torch.get_num_threads() == before


def test_results_depend_on_the_seed_alone(run):
    lossy = Link(10.0, jitter_ms=20, loss=0.3, deadline_ms=200)
    first = run(link=lossy, seed=1)
    assert run(link=lossy, seed=1) == first
    assert replace(run(link=lossy, seed=2), arm="") != replace(first, arm="")
    assert np.isfinite(first.p95_ms)


def test_a_gate_of_ones_own_has_a_row_and_operates(run, tmp_path):
    point = run(gate=Mine())
    of = {(row["arm"], row["share"]): row["acc"] for row in rows(tmp_path)}
    assert point.arm == "mine" and of["mine", "0.2"] == of["entropy", "0.2"]


def test_chance_is_the_mean_of_draws_though_it_is_the_gate(run, tmp_path):
    run()
    mean = [row for row in rows(tmp_path) if row["arm"] == "random" and row["share"]]
    run(gate=Random(7))
    assert [row for row in rows(tmp_path) if row["arm"] == "random" and row["share"]] == mean


def test_a_missing_student_is_noticed_before_a_teacher_is_trained(run, digits, monkeypatch):
    monkeypatch.setattr(Teacher, "prepare", lambda self: pytest.fail("the teacher is trained"))
    with pytest.raises(FileNotFoundError, match="gone"):
        run(ckpt_path="gone.ckpt")
    with pytest.raises(ValueError, match="does not fit Classifier"):
        run(module=Classifier(torch.nn.Linear(64, 3), num_classes=3))


def test_other_thresholds_or_sizes_of_the_student_are_another_configuration(run, digits, monkeypatch):
    run()
    monkeypatch.setattr(Digits, "std", 2.0)
    with pytest.raises(ValueError, match=r"another configuration \(answers as\[0\]\.inputs"):
        run()
