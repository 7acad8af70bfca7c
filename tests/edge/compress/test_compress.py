"""A trained student through steps, to a file and a table."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.edge import Exported
from lkd.edge.compress import Limits, Quantize, Stage, Step, _parameters, compress
from lkd.edge.compress.student import write
from lkd.modules import Classifier
from lkd.pruned import describe, remember, resize

from ..students import Plain, Samples, classifier, detector, save
from .processor import EXACT

pytestmark = pytest.mark.usefixtures("quick")


class Data(Samples):
    """With training data, whose labels are no classes."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, torch.full((len(self.x),), -7)), batch_size=2, shuffle=True)


class Spoil(Step):
    """Weights times a factor, as pruning spoils a student; it counts how often it ran."""

    name, breaks, removes = "spoil", True, True
    ran, note = 0, ""

    def __init__(self, factor=-1.0):
        self.factor = factor

    def run(self, stage, job):
        type(self).ran += 1
        checkpoint = torch.load(stage.checkpoint, weights_only=True)
        weights = checkpoint["state_dict"]
        for name in [name for name in weights if name.startswith("network.3")]:
            weights[name] *= self.factor
        torch.save(checkpoint, job.folder / "x.ckpt")
        return Stage(job.name, job.folder, job.folder / "x.ckpt", note=self.note)


class Mend(Spoil):
    name, breaks, removes, mends = "mend", False, False, True


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(Spoil, "ran", 0)
    monkeypatch.setattr(Mend, "ran", 0)
    ckpt = save(classifier(), tmp_path / "x.ckpt")

    def call(*steps, module=None, data=None, ckpt_path=ckpt, **kwargs):
        limits = Limits(**{"max_drop": 0.2, "allow_slower": True, **kwargs.pop("limits", {})})
        given = (module or classifier(seed=1), data or Data(), ckpt_path, steps, limits)
        return compress(*given, folder=str(tmp_path / "out"), **kwargs)

    return call


def rows(tmp_path):
    with (tmp_path / "out/stages.csv").open(newline="") as file:
        return {row["stage"]: row for row in csv.DictReader(file)}


def test_int8_of_a_trained_student_with_its_card_and_table(run, tmp_path, capsys):
    (path,) = run(Quantize(calibration=6))
    student, dense = Exported(path), Exported(tmp_path / "out/0_parent/student.onnx")
    x = Data().x.numpy()
    assert abs(student(x) - dense(x)).max() < (0.05 if EXACT else 0.25) and (student(x) != dense(x)).any()
    card = student.card
    assert card["metrics"]["file"]["test/acc"] == pytest.approx(0.9) and card["metrics"]["samples"] == 10
    assert card["compression"]["stage"] == "1 quantize" and "parity" not in card
    assert card["compression"]["limits"]["max_drop"] == 0.2
    assert [row["stage"] for row in card["compression"]["stages"]] == ["0 parent", "1 quantize"]
    assert card["size"]["bytes"] == path.stat().st_size
    found = rows(tmp_path)["1 quantize"]
    assert found["acc"] == "0.9000" and found["agrees"] == "100.0%" and found["kept"] == "yes"
    assert found["M MACs"] == "0.00012"
    assert (tmp_path / "out/stages.png").stat().st_size > 5000
    assert "| 1 quantize |" in (tmp_path / "out/stages.md").read_text()
    assert "1 quantize: test/acc 0.9000" in capsys.readouterr().out


def test_a_step_that_breaks_a_limit_is_reported_and_the_next_goes_on_from_the_last_that_is_kept(
    run, tmp_path
):
    (path,) = run(Spoil(), Quantize())
    found = rows(tmp_path)
    assert found["1 spoil"]["kept"].startswith("no: worse by 0.") and found["2 quantize"]["kept"] == "yes"
    assert json.loads((tmp_path / "out/2_quantize/stage.json").read_text())["start"].startswith("0 parent")
    assert Exported(path).card["compression"]["stage"] == "2 quantize"


def test_what_is_broken_is_judged_together_with_what_mends_it(run, tmp_path):
    run(Spoil(), Mend())
    found = rows(tmp_path)
    assert found["1 spoil"]["kept"] == "yes: judged with 2 mend" and float(found["1 spoil"]["lost"]) > 0.2
    assert found["2 mend"]["kept"] == "yes" and float(found["2 mend"]["lost"]) == 0


def test_if_it_is_not_mended_neither_is_kept(run, tmp_path):
    run(Spoil(), Mend(1.0), Quantize())
    found = rows(tmp_path)
    assert found["1 spoil"]["kept"] == "no: judged with 2 mend"
    assert found["2 mend"]["kept"].startswith("no: worse by") and found["3 quantize"]["kept"] == "yes"


def test_int8_that_is_slower_is_reported_and_not_kept(run, tmp_path, monkeypatch):
    def slow(paths, inputs, threads):
        times = [2.0 if "quantize" in str(path) else 1.0 for path in paths]
        return [{"p50_ms": t, "p95_ms": t, "cpu_ms": t, "threads": threads, "cpu": "x"} for t in times]

    monkeypatch.setattr("lkd.edge.compress.reference.latencies", slow)
    (path,) = run(Quantize(), limits={"allow_slower": False})
    assert rows(tmp_path)["1 quantize"]["kept"] == "no: slower on this machine than 0 parent (2.00x)"
    assert path.read_bytes() == (tmp_path / "out/0_parent/student.onnx").read_bytes()
    run(Quantize())  # what is kept is decided anew, from what was measured
    assert rows(tmp_path)["1 quantize"]["kept"] == "yes"


def test_if_nothing_obeys_the_table_is_there_and_no_student(run, tmp_path):
    with pytest.raises(ValueError, match=r"no stage obeys the limits .*max_mb=0.0001.*stages.md"):
        run(Spoil(1.0), limits={"max_mb": 0.0001})
    assert "max_mb=0.0001" in rows(tmp_path)["1 spoil"]["kept"]
    assert not (tmp_path / "out/student.onnx").exists()
    run(Spoil(1.0))
    with pytest.raises(ValueError, match=r"no student.onnx was written; what is there is of an earlier run"):
        run(Spoil(1.0), limits={"max_mb": 0.0001})


def test_finished_steps_are_not_run_again(run, tmp_path):
    first = run(Spoil(1.0), Quantize())[0].read_bytes()
    assert Spoil.ran == 1
    assert run(Spoil(1.0), Quantize())[0].read_bytes() == first and Spoil.ran == 1
    (tmp_path / "out/1_spoil/student.onnx").write_bytes(b"cut off")
    run(Spoil(1.0), Quantize())
    assert Spoil.ran == 2


def test_another_configuration_in_the_folder_is_refused_or_begins_anew(run, tmp_path):
    run(Spoil(1.0))
    with pytest.raises(
        ValueError, match=r"another configuration \(steps\[0\].factor: 1.0 there, 2.0 here\).*anew=true"
    ):
        run(Spoil(2.0))
    note = tmp_path / "out/mine"
    note.mkdir()
    run(Spoil(2.0), anew=True)
    assert Spoil.ran == 2 and note.is_dir()


def test_other_licenses_are_written_into_the_card_alone(run, tmp_path):
    run(Spoil(1.0), licenses={"data": "CC-BY-4.0"})
    (path,) = run(Spoil(1.0), licenses={"data": "CC0-1.0"})
    assert Spoil.ran == 1 and Exported(path).card["licenses"]["data"] == "CC0-1.0"
    with pytest.raises(ValueError, match="licenses: date is no part"):
        run(Spoil(1.0), licenses={"date": "MIT"})
    with pytest.raises(ValueError, match=r"export\.classes"):  # they stand in the file of every stage
        run(Spoil(1.0), classes=["a", "b", "c"])


def test_what_a_step_notes_is_in_the_table_of_later_runs_too(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Spoil, "note", "ended after 1 of 2 epochs")
    for _ in range(2):
        run(Spoil(1.0))
        assert rows(tmp_path)["1 spoil"]["kept"] == "yes: ended after 1 of 2 epochs"
    assert Spoil.ran == 1


def test_another_training_is_another_configuration_and_another_bar_is_not(run):
    options = {"precision": "32-true", "callbacks": None, "enable_progress_bar": True}
    run(Spoil(1.0), config={"trainer": options})
    run(Spoil(1.0), config={"trainer": {**options, "enable_progress_bar": False}})
    with pytest.raises(ValueError, match=r"trainer.gradient_clip_val: null there, 0.5 here"):
        run(Spoil(1.0), config={"trainer": {**options, "gradient_clip_val": 0.5}})
    assert Spoil.ran == 1


def test_another_start_is_run_again(run, tmp_path):
    """With wider limits the first step is kept, so that the second starts from it."""
    run(Spoil(), Mend(1.0), Quantize())
    run(Spoil(), Mend(1.0), Quantize(), limits={"max_drop": 1.0})
    assert Spoil.ran == Mend.ran == 1
    assert json.loads((tmp_path / "out/3_quantize/stage.json").read_text())["start"].startswith("2 mend")


def test_stopped_by_hand_it_keeps_what_is_finished(run, tmp_path, monkeypatch):
    def stop(self, stage, job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Quantize, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            run(Spoil(1.0), Quantize())
    assert list(rows(tmp_path)) == ["0 parent", "1 spoil"]
    run(Spoil(1.0), Quantize())
    assert Spoil.ran == 1 and rows(tmp_path)["2 quantize"]["kept"] == "yes"


def test_the_module_is_left_as_it_was(run):
    module = classifier(seed=1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    run(Quantize(), module=module)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_sensitivity_table_where_int8_loses_more_than_asked(run, tmp_path, monkeypatch):
    losses = iter([0.5, 0.0, 0.3])  # int8, float, one group alone
    monkeypatch.setattr("lkd.edge.compress.reference.Reference.drop", lambda *_: next(losses))
    run(Quantize(), limits={"max_drop": 0.05})
    with (tmp_path / "out/1_quantize/sensitivity.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["lost alone"] == "+0.3000" and int(row["nodes"]) >= 1
    assert not list((tmp_path / "out/1_quantize").glob(".group_*"))


def test_no_data_to_calibrate_on(run, tmp_path):
    with pytest.raises(ValueError, match=r"Samples has no training data .*no train_dataloader.*calibrated"):
        run(Quantize(), data=Samples())
    assert not (tmp_path / "out").exists()

    class Empty(Data):
        def train_dataloader(self):
            return DataLoader(TensorDataset(self.x[:0]), batch_size=2)

    with pytest.raises(ValueError, match="no training frames to calibrate on"):
        run(Quantize(), data=Empty())


def test_a_checkpoint_of_another_class_or_none(run, tmp_path):
    other = save(Plain(), tmp_path / "p.ckpt", hyper_parameters={"_class_path": "mine.Plain"})
    with pytest.raises(
        ValueError, match=r"is of the class mine.Plain, and the model is lkd.modules.Classifier"
    ):
        run(Quantize(), ckpt_path=other)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run(Quantize(), ckpt_path="gone.ckpt")
    assert not Path(tmp_path / "out").exists()


def test_limits_and_steps_that_cannot_be_are_refused_before_anything_runs(run, tmp_path):
    wide = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 8000), nn.Tanh(), nn.Linear(8000, 3)), 3)
    with pytest.raises(ValueError, match=r"max_mb=0.01 contradicts the steps"):
        run(Quantize(), module=wide, limits={"max_mb": 0.01})
    with pytest.raises(ValueError, match="quantized once"):
        run(Quantize(), Quantize())
    with pytest.raises(ValueError, match="mends what a step before it has broken"):
        run(Mend())
    assert not Path(tmp_path / "out").exists()


def test_a_size_is_compared_with_a_pruned_student_as_it_is(run, tmp_path):
    def wide():
        layers = nn.Flatten(), nn.Linear(12, 4000), nn.Tanh(), nn.Linear(4000, 3)
        return Classifier(nn.Sequential(*layers), num_classes=3)

    module, dense = wide(), wide()
    first, last = module.network[1], module.network[3]
    resize(module, "network.1.weight", first.weight[:100])
    resize(module, "network.1.bias", first.bias[:100])
    resize(module, "network.3.weight", last.weight[:, :100])
    first.out_features = last.in_features = 100
    remember(module, describe(module, dense))
    given = {"module": wide(), "limits": {"max_mb": 0.03, "max_drop": 1.0}}
    before = save(dense, tmp_path / "dense.ckpt")
    with pytest.raises(ValueError, match=r"max_mb=0.03 contradicts the steps"):
        run(Quantize(), ckpt_path=before, **given)
    write(module, tmp_path / "narrow.ckpt", like=before)
    (path,) = run(Quantize(), ckpt_path=str(tmp_path / "narrow.ckpt"), **given)
    assert path.stat().st_size < 30_000


def test_anew_does_not_delete_the_checkpoint_that_it_is_given(run, tmp_path):
    run(Spoil(1.0))
    made = tmp_path / "out/1_spoil/x.ckpt"
    with pytest.raises(
        ValueError, match=r"1_spoil/x.ckpt' lies in a stage of folder=.*anew=true would delete"
    ):
        run(Quantize(), ckpt_path=str(made), anew=True)
    assert made.is_file()


def test_anew_deletes_nothing_for_a_metric_that_is_not_there(run, tmp_path):
    run(Spoil(1.0))
    with pytest.raises(ValueError, match="metric='accuracy' is not among what the test measures"):
        run(Spoil(2.0), anew=True, limits={"metric": "accuracy"})
    assert (tmp_path / "out/1_spoil/x.ckpt").is_file()


def test_a_size_is_compared_with_what_is_in_one_file():
    """Copies for each camera are files of their own, and a teacher inside of a module is in none."""
    pytest.importorskip("ultralytics")
    one, nine = detector(), detector(cameras=[f"C{k}" for k in range(9)])
    assert _parameters(one) == _parameters(nine) == sum(p.numel() for p in one.networks()[0].parameters())
    assert _parameters(Plain()) == 0


def test_a_metric_that_is_not_measured(run):
    with pytest.raises(
        ValueError, match="metric='test/f1' is not among what the test measures: test/loss, test/acc"
    ):
        run(Quantize(), limits={"metric": "test/f1"})
