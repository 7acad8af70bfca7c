"""What Lightning's own `predict` leaves on disk."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.cli import main
from lkd.datamodules import YoloFolder
from lkd.edge.predict.writer import WritePredictions
from lkd.models import TorchvisionDetector
from lkd.modules import Classifier, Detector

from ...roads import write_roads
from ...test_cli import ALONE, DIGITS
from .test_command import read


def trained(tmp_path, **options):
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[WritePredictions(tmp_path / "predict")], **options,
    )  # fmt: skip


class Own(LightningModule):
    """Predicts what `say` makes of a batch."""

    def __init__(self, say):
        super().__init__()
        self.say = say

    def predict_step(self, batch, batch_idx):
        return self.say(batch[0])


class Theirs(BasePredictionWriter):
    """A writer of somebody's own."""

    def write_on_batch_end(self, *args):
        pass


def loader(count=5):
    return DataLoader(TensorDataset(torch.arange(3.0 * count).reshape(count, 3)), batch_size=2)


def test_boxes_lie_in_the_pictures_own_pixels(tmp_path):
    root = write_roads(tmp_path / "roads")
    torch.manual_seed(0)
    module = Detector(
        TorchvisionDetector("ssdlite", "test_resnet", num_classes=2, channels=16, class_names=["car", "bus"])
    )
    data = YoloFolder(str(root), image_size=64, fractions=(0.25, 0.0, 0.75), batch_size=4)
    found = trained(tmp_path).predict(module, datamodule=data)
    assert found is not None  # asked for by default in Python
    boxes, counts = read(tmp_path / "predict/boxes.csv"), read(tmp_path / "predict/counts.csv")
    assert len(counts) == 6 and all(row["source"].endswith(".png") for row in counts)
    assert [row["frame"] for row in counts] == ["0", "1", "2", "3", "4", "5"]
    first = next(one for batch in found for one in batch)
    mine = [row for row in boxes if row["frame"] == "0"]
    assert mine[0]["class"] in ("car", "bus") and float(mine[0]["score"]) == pytest.approx(
        float(first["scores"][0]), abs=1e-4
    )
    corners = np.array([[float(row[k]) for k in ("x1", "y1", "x2", "y2")] for row in mine])
    assert corners.max() > 64 and (corners <= [128, 96, 128, 96]).all()
    inside = first["boxes"][0].numpy() * 2
    np.testing.assert_allclose(corners[0], inside.clip(0, [128, 96, 128, 96]), atol=0.02)


def test_a_classifier_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [
        "--trainer.limit_predict_batches=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.logger=false",
    ]
    main(["predict", "--config", DIGITS, ALONE, "--data.batch_size=16", *options])
    rows = read("predict/predictions.csv")
    assert [row["frame"] for row in rows] == [str(k) for k in range(32)]
    assert all(sum(float(row[f"p_{k}"]) for k in range(10)) == pytest.approx(1, abs=1e-4) for row in rows)
    assert "predict: predictions.csv" in capsys.readouterr().out


def test_nothing_grows_in_memory_from_the_command_line(tmp_path, monkeypatch):
    from lkd.lightning_cli import run

    monkeypatch.chdir(tmp_path)
    options = [
        "predict",
        "--config",
        DIGITS,
        ALONE,
        "--trainer.logger=false",
        "--trainer.limit_predict_batches=1",
    ]
    assert run(options).trainer.predict_loop.return_predictions is False
    own = "--trainer.callbacks+=tests.edge.predict.test_writer.Theirs"
    cli = run([*options, "--return_predictions=true", own])
    assert cli.trainer.predict_loop.return_predictions is True
    assert not Path("predict_2").exists()  # a writer of the config's own is enough


def test_a_table_of_somebody_elses_tensors(tmp_path):
    trained(tmp_path).predict(Own(lambda x: x[:, :2].half()), loader())
    rows = read(tmp_path / "predict/outputs.csv")
    assert [(row["frame"], row["0"], row["1"]) for row in rows][3:] == [
        ("3", "9.0", "10.0"),
        ("4", "12.0", "13.0"),
    ]


def test_other_tensors_are_a_file_a_batch(tmp_path):
    trained(tmp_path).predict(Own(lambda x: {"a": x, "maps": [x[:, None, None], "word"]}), loader(3))
    files = sorted((tmp_path / "predict/outputs").iterdir())
    assert [path.name for path in files] == ["000000.safetensors", "000001.safetensors"]
    held = load_file(files[1])
    assert held["a"].tolist() == [[6, 7, 8]] and held["maps.0"].shape == (1, 1, 1, 3)


def test_plain_numbers_and_words_are_columns(tmp_path):
    def say(x):
        names = [f"name {int(row[0])}" for row in x]
        return {"name": names, "sure": x[:, 0].tolist(), "logits": x, "note": "all", "odd": [1, 2, 3]}

    with pytest.warns(UserWarning) as said:
        trained(tmp_path).predict(Own(say), loader())
    rows = read(tmp_path / "predict/values.csv")
    assert [(row["frame"], row["name"], row["sure"]) for row in rows] == [
        (str(k), f"name {3 * k}", str(3.0 * k)) for k in range(5)
    ]
    held = load_file(tmp_path / "predict/outputs/000002.safetensors")
    assert list(held) == ["logits"] and held["logits"].tolist() == [[12, 13, 14]]
    told = [str(w.message) for w in said if "predict_step gives dict" in str(w.message)]
    assert len(told) == 1 and "of which note, odd.0, odd.1, odd.2 is not written" in told[0]


def test_plain_lists_need_no_tensor(tmp_path):
    trained(tmp_path).predict(Own(lambda x: x[:, 0].tolist()), loader())
    assert [row["output"] for row in read(tmp_path / "predict/values.csv")] == [
        f"{3.0 * k}" for k in range(5)
    ]
    assert not (tmp_path / "predict/outputs").exists()


def test_what_holds_no_tensor_is_said_once(tmp_path):
    with pytest.warns(UserWarning) as said:
        trained(tmp_path).predict(Own(lambda x: "words"), loader())
    assert (
        len([w for w in said if "predict_step gives str, in which there is no tensor" in str(w.message)]) == 1
    )
    assert not list((tmp_path / "predict").iterdir())


def test_every_rank_has_files_of_its_own(tmp_path):
    writer = WritePredictions(tmp_path / "predict")
    strategy = SimpleNamespace(broadcast=lambda x: x, barrier=lambda: None)
    trainer = SimpleNamespace(
        strategy=strategy, global_rank=1, world_size=2, is_global_zero=False, datamodule=None
    )
    module = Classifier(nn.Linear(3, 2), num_classes=2)
    writer.on_predict_start(trainer, module)
    writer.write_on_batch_end(trainer, module, torch.zeros(2, 2), [1, 3], torch.zeros(2, 3), 0, 0)
    writer.on_predict_end(trainer, module)
    assert [row["frame"] for row in read(tmp_path / "predict/predictions.rank1.csv")] == ["1", "3"]


def test_what_was_done_before_an_error_is_whole(tmp_path, capsys):
    def say(x):
        if x[0, 0] > 5:
            raise KeyboardInterrupt
        return x

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trained(tmp_path).predict(Own(say), loader())
    assert len(read(tmp_path / "predict/outputs.csv")) == 2
    assert "Predictions: " in capsys.readouterr().out


def test_a_subclass_that_predicts_something_else(tmp_path):
    class Sure(Classifier):
        def predict_step(self, batch, batch_idx=0):
            return super().predict_step(batch).argmax(1)

    trained(tmp_path).predict(Sure(nn.Linear(3, 2), num_classes=2), loader())
    assert {row["0"] for row in read(tmp_path / "predict/outputs.csv")} <= {"0", "1"}


def test_boxes_of_pictures_that_are_no_files_are_in_the_networks_pixels(tmp_path):
    torch.manual_seed(0)
    module = Detector(TorchvisionDetector("ssdlite", "test_resnet", num_classes=1, channels=16))
    batch = {"images": torch.rand(1, 3, 64, 64), "paths": ["memory:1"], "sizes": [(64, 64)]}
    with pytest.warns(UserWarning, match="boxes are in pixels of the network's input"):
        ((found,),) = trained(tmp_path).predict(module, DataLoader([batch], batch_size=None))
    rows = read(tmp_path / "predict/boxes.csv")
    assert rows[0]["source"] == "memory:1" and len(rows) == len(found["scores"])
