"""RoundReport: its history against what was logged, also after a resume; the picture by its pixels."""

import csv

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from lkd.callbacks import RoundReport
from lkd.callbacks.pictures import over_rounds
from lkd.federated import SCARLET, Local

from .federation import Flaky, data, federation, fit
from .plain import Plain, digits, quick_trainer

RED, BLUE = (255, 0, 0), (31, 119, 180)


def colors(path):
    with Image.open(path) as image:
        return {color for _, color in image.convert("RGB").getcolors(1 << 20)}


def test_history_is_that_of_the_run(tmp_path):
    report, module = RoundReport(), federation()
    trainer = fit([report], 3, module, logger=CSVLogger(tmp_path, "run"))
    assert [row["round"] for row in report.history] == [1, 2, 3]
    assert (
        report.history[-1]["bytes"] == module.bytes_down + module.bytes_up == 3 * report.history[0]["bytes"]
    )
    for name in ("train/loss", "val/loss", "val/acc"):
        assert report.history[-1][name] == pytest.approx(float(trainer.callback_metrics[name]))
    found = colors(tmp_path / "run/version_0/report/rounds.png")
    assert BLUE in found and RED not in found


def test_a_round_that_was_not_validated_repeats_no_metric(tmp_path):
    report = RoundReport(str(tmp_path))
    fit([report], 3, check_val_every_n_epoch=2)
    assert ["val/acc" in row for row in report.history] == [False, True, False]


def test_a_server_that_nobody_trains_is_not_drawn(tmp_path):
    report = RoundReport(str(tmp_path))
    fit([report], 2, federation(Local()))
    assert ["val/acc" in row for row in report.history] == [False, False]
    assert "train/loss" in report.history[-1]


def test_a_cache_is_in_the_history_the_log_and_the_picture(tmp_path):
    report = RoundReport(str(tmp_path))
    module = federation(SCARLET(1, samples=None, epochs=1, measure=True))
    fit([report], 3, module, data(public=0.2), logger=CSVLogger(tmp_path, "run"), log_every_n_steps=1)
    assert [row["cache/hit_rate"] for row in report.history] == [0, 1, 0]
    assert ["cache/acc_hits" in row for row in report.history] == [False, True, False]
    assert ["cache/acc_misses" in row for row in report.history] == [True, False, True]
    with (tmp_path / "run/version_0/metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["cache/hit_rate"]]
    assert [float(row["cache/hit_rate"]) for row in logged] == [0, 1, 0]
    saved = module.cache.bytes_saved
    assert [float(row["bytes/saved"]) for row in logged] == [0, saved, saved]
    assert sum(row["cache/bytes_saved"] for row in report.history) == saved
    with Image.open(tmp_path / "rounds.png") as picture:
        assert picture.height == 3 * 360  # losses, metrics, shares


def test_failures_are_counted_and_marked(tmp_path):
    report = RoundReport(str(tmp_path))
    with pytest.warns(UserWarning, match="client 1 failed"):
        fit([report], 2, federation(module=Flaky), data(spoil=True))
    assert [row["failures"] for row in report.history] == [1, 1]
    assert RED in colors(tmp_path / "rounds.png")


def test_history_survives_a_resume(tmp_path):
    def run(folder, rounds, ckpt_path=None):
        report = RoundReport(str(tmp_path))
        saver = ModelCheckpoint(tmp_path / folder, save_top_k=-1)
        fit([report, saver], rounds, ckpt_path=ckpt_path, enable_checkpointing=True)
        return report.state_dict(), saver.best_model_path

    whole, _ = run("whole", 4)
    _, path = run("half", 2)
    saved = torch.load(path, weights_only=False)["callbacks"]["RoundReport"]["history"]
    assert len(saved) == 2 and "val/acc" in saved[-1]
    resumed, _ = run("half", 4, path)
    assert resumed == whole


def test_the_axes_are_rounds_and_bytes(tmp_path):
    history = [{"round": 1.0, "bytes": 10.0, "failures": 0.0, "train/loss": 1.0}]
    over_rounds(history, tmp_path / "losses.png")
    over_rounds([{**history[0], "val/acc": 0.5}], tmp_path / "both.png")
    sizes = [Image.open(tmp_path / f"{name}.png").size for name in ("losses", "both")]
    assert (
        sizes[0][0] == sizes[1][0] and sizes[1][1] == 2 * sizes[0][1]
    )  # a row each for losses and for metrics
    over_rounds([{"round": 1.0, "bytes": 10.0}], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


def test_only_federations_have_rounds():
    with pytest.raises(ValueError, match="not of Plain"):
        quick_trainer(callbacks=[RoundReport()]).fit(Plain(), digits())
