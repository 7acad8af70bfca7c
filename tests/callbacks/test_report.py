"""DetectionReport: rows against a table computed here, pictures by their pixels, curves, W&B, resume."""

import csv
import json
import math
from types import SimpleNamespace
from unittest.mock import MagicMock, PropertyMock

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from torch import nn

from lkd.callbacks import DetectionReport, Distillation
from lkd.callbacks.pictures import curves, side_by_side
from lkd.datamodules import YoloFolder
from lkd.losses import KD
from lkd.metrics import DetectionTable
from lkd.teachers import Teacher

from ..roads import oracle, write_roads
from .plain import quick_trainer

NAMES = ["Role", "Camera", "Precision", "Recall", "mAP50", "mAP50-95"]


def sloppy(images):
    """A detector that is worse on the right half: boxes there are shifted by a third of their width."""
    found = oracle(images)
    for each in found:
        right = (each["boxes"][:, 0] > images.shape[3] / 2).unsqueeze(1)
        shift = (each["boxes"][:, 2:3] - each["boxes"][:, :1]) / 3
        each["boxes"] = each["boxes"] + right * shift * torch.tensor([1.0, 0.0, 1.0, 0.0])
    return found


class Found(LightningModule):
    """The least that a report needs of a student: `test_step` returns detections."""

    def __init__(self, detector=sloppy):
        super().__init__()
        self.detector, self.weight = detector, nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return self.weight.expand(len(images), 3)

    def training_step(self, batch, batch_idx):
        loss = (self(batch["images"]) - 1).square().mean()
        self.log("train/loss", loss, batch_size=2)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/map50", self.weight.sum(), batch_size=2)

    def test_step(self, batch, batch_idx):
        return self.detector(batch["images"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"), count=8)


def roads(root, **options):
    defaults = {"image_size": 128, "teacher_size": 256, "batch_size": 3, "fractions": (0.25, 0.25, 0.5)}
    return YoloFolder(str(root), **(defaults | options))


def measured_by(root, report, module=None, callbacks=(), **options):
    trainer = quick_trainer(callbacks=[report, *callbacks])
    trainer.test(module or Found(), datamodule=roads(root, **options), verbose=False)
    return report


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_equal_tables_computed_from_the_same_detections(root, tmp_path, capsys):
    sizes = []

    def teacher(images):
        sizes.append(tuple(images.shape[1:]))
        return oracle(images)

    report = measured_by(root, DetectionReport(Teacher(teacher), folder=str(tmp_path / "out")))
    wanted = {"Teacher": DetectionTable(["camA", "camB"]), "Student": DetectionTable(["camA", "camB"])}
    data = roads(root, batch_size=1)
    data.setup("test")
    for batch in data.test_dataloader():
        (big,) = oracle(batch["teacher_images"])
        big["boxes"] = big["boxes"] / 2  # 256 pixels to 128
        wanted["Teacher"].update([big], batch["targets"], batch["cameras"])
        wanted["Student"].update(sloppy(batch["images"]), batch["targets"], batch["cameras"])
    rows = read(tmp_path / "out/table.csv")
    assert list(rows[0]) == NAMES
    assert [(r["Role"], r["Camera"]) for r in rows] == [
        (role, camera) for role in ("Teacher", "Student") for camera in ("camA", "camB", "all")
    ]
    measured = [row for role in ("Teacher", "Student") for row in wanted[role].compute()]
    for row, reference in zip(rows, measured, strict=True):
        keys = ("precision", "recall", "map50", "map")
        values = [float(row[name]) for name in NAMES[2:]]
        assert values == pytest.approx([reference[key] for key in keys], abs=1e-6)
    assert float(rows[2]["mAP50"]) > 0.99 > 0.9 > float(rows[5]["mAP50-95"])  # the two do differ
    assert set(sizes) == {(3, 192, 256)}  # the teacher's own resolution
    assert [r["Role"] for r in report.rows] == [r["Role"] for r in rows]
    table = (tmp_path / "out/table.md").read_text().splitlines()
    assert table[0] == "| " + " | ".join(NAMES) + " |" and len(table) == 8
    assert table[4].split(" | ")[4] == f"{measured[2]['map50']:.3f}"
    assert "Student" in capsys.readouterr().out


def test_the_teacher_is_that_of_the_attached_distillation(root, tmp_path):
    attached = Distillation(Teacher(oracle), [KD()])
    report = measured_by(root, DetectionReport(folder=str(tmp_path)), callbacks=[attached])
    assert [row["Role"] for row in report.rows] == ["Teacher"] * 3 + ["Student"] * 3
    own = DetectionReport(Teacher(sloppy), folder=str(tmp_path))  # unless another is given
    measured_by(root, own, callbacks=[attached], teacher_size=None)
    assert own.rows[2]["mAP50-95"] == own.rows[5]["mAP50-95"]


def test_without_a_teacher_and_without_a_validation_split(root, tmp_path):
    report = DetectionReport(folder=str(tmp_path))
    trainer = quick_trainer(callbacks=[report])
    data = roads(root, fractions=(0.5, 0.0, 0.5), teacher_size=None)
    trainer.fit(Found(), datamodule=data)
    trainer.test(Found(), datamodule=data, verbose=False)
    assert [row["Role"] for row in report.rows] == ["Student"] * 3
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_measures_again_from_nothing(root, tmp_path):
    report = DetectionReport(folder=str(tmp_path))
    first = measured_by(root, report).rows
    assert measured_by(root, report).rows == first


@pytest.mark.parametrize(("pictures", "names"), [
    (0, []), (1, ["camA", "camB"]), (2, ["camA", "camA_1", "camB", "camB_1"]),
    (99, [f"cam{c}{n}" for c in "AB" for n in ("", "_1", "_2", "_3")]),
])  # fmt: skip
def test_as_many_pictures_as_asked(root, tmp_path, pictures, names):
    measured_by(root, DetectionReport(Teacher(oracle), pictures=pictures, folder=str(tmp_path)))
    files = sorted(tmp_path.glob("*.jpg"))
    assert [path.stem for path in files] == names
    for path in files:
        with Image.open(path) as image:
            assert image.size == (3 * 2 * 128, 2 * 96 + 22)  # truth, teacher, student; small frames twice


def test_the_pictures_show_the_middle_of_the_test_data_without_padding(root, tmp_path):
    measured_by(root, DetectionReport(pictures=1, folder=str(tmp_path)), image_size=120)
    with Image.open(tmp_path / "camA.jpg") as image:
        drawn = image.convert("L").crop((0, 22, 240, 22 + 180))
        assert image.size == (2 * 240, 180 + 22)
    distances = {}
    for number in range(8):
        with Image.open(root / "images" / f"camA_{number}.png") as frame:
            expected = np.asarray(frame.convert("L").resize((240, 180)), dtype=float)
        distances[number] = np.abs(np.asarray(drawn, dtype=float) - expected).mean()
    assert min(distances, key=distances.get) == 5  # frames 4 to 7 are the test data


def colors_at(sheet, left):
    """Bounds x1, y1, x2, y2 of what is not black below the title of a panel of 240 pixels."""
    panel = sheet.crop((left, 22, left + 240, sheet.height))
    return panel.getbbox(), panel


def test_boxes_are_drawn_where_they_are_in_their_roles_color():
    boxes = {"Truth": torch.tensor([[30.0, 20.0, 90.0, 70.0]]), "Student": torch.zeros(0, 4)}
    sheet = side_by_side(torch.zeros(3, 90, 120), boxes, "C1")
    assert sheet.size == (480, 202)
    (x1, y1, x2, y2), panel = colors_at(sheet, 0)
    for edge, wanted in zip((x1, y1, x2, y2), (60, 40, 180, 140), strict=True):
        assert abs(edge - wanted) <= 2  # drawn twice as large, two pixels thick
    green = (0x2E, 0xCC, 0x71)
    assert panel.getpixel((120, 40)) == green and panel.getpixel((60, 90)) == green
    assert panel.getpixel((120, 90)) == (0, 0, 0)  # the inside stays clear
    assert colors_at(sheet, 240)[0] is None
    large = side_by_side(torch.zeros(3, 30, 500), {"Teacher": torch.zeros(0, 4)}, "C1")
    assert large.size == (500, 52)


def test_only_sure_detections_are_drawn(root, tmp_path):
    def unsure(images):
        return [{**found, "scores": found["scores"] / 10} for found in oracle(images)]

    pictures = {}
    for threshold in (0.05, 0.3):
        folder = tmp_path / str(threshold)
        measured_by(root, DetectionReport(score_threshold=threshold, folder=str(folder)), Found(unsure))
        with Image.open(folder / "camA.jpg") as image:
            panel = np.asarray(image.crop((256, 22, 512, 214)), dtype=int)
        orange = np.abs(panel - [0xF3, 0x9C, 0x12]).sum(2) < 90
        pictures[threshold] = int(orange.sum())
    assert pictures[0.05] > 100 > 10 > pictures[0.3]


def fitted(root, folder, epochs, checkpoint=None, logger=False):
    report = DetectionReport()
    trainer = quick_trainer(
        callbacks=[report],
        max_epochs=epochs,
        default_root_dir=folder,
        logger=logger,
        enable_checkpointing=True,
    )
    module = Found()
    trainer.fit(module, datamodule=roads(root), ckpt_path=checkpoint)
    trainer.test(module, datamodule=roads(root), verbose=False)
    return report, trainer


def test_curves_of_two_epochs_beside_the_logs(root, tmp_path):
    _, trainer = fitted(root, tmp_path, 2, logger=CSVLogger(tmp_path, name="logs"))
    path = tmp_path / "logs/version_0/report/curves.png"
    assert str(path.parent.parent) == trainer.log_dir
    with Image.open(path) as image:
        assert image.width > 800 and image.height > 300  # two panels: losses and metrics
        drawn = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
    assert (31, 119, 180) in drawn  # a line in matplotlib's first color
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "camA.jpg", "camB.jpg", "curves.png", "table.csv", "table.md",
    ]  # fmt: skip


def test_history_survives_a_resume(root, tmp_path):
    whole, _ = fitted(root, tmp_path / "whole", 4)
    half, trainer = fitted(root, tmp_path / "half", 2)
    resumed, _ = fitted(root, tmp_path / "half", 4, trainer.checkpoint_callback.best_model_path)
    epochs = [row["epoch"] for row in resumed.state_dict()["history"]]
    assert epochs == [1, 2, 3, 4] and len(half.state_dict()["history"]) == 2
    assert resumed.state_dict() == whole.state_dict()
    assert {"epoch", "train/loss", "val/map50"} == set(epoch_of(whole))


def epoch_of(report):
    return report.state_dict()["history"][-1]


def test_nothing_to_draw_writes_no_curves(tmp_path):
    curves([], tmp_path / "curves.png")
    curves([{"epoch": 0.0, "other": 1.0}], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
    curves([{"epoch": 0.0, "train/loss": math.nan}, {"epoch": 1.0}], tmp_path / "new" / "curves.png")
    assert (tmp_path / "new/curves.png").is_file()


def test_table_and_pictures_reach_wandb(root, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="test", save_dir=tmp_path)
    report = DetectionReport(Teacher(oracle), pictures=2, folder=str(tmp_path / "report"))
    trainer = quick_trainer(callbacks=[report], logger=logger)
    trainer.test(Found(), datamodule=roads(root), verbose=False)
    summary, folder = dict(logger.experiment.summary), logger.experiment.dir
    wandb.finish()
    assert summary["report/table"]["nrows"] == 6 and summary["report/table"]["ncols"] == 6
    stored = json.loads((tmp_path / folder / summary["report/table"]["path"]).read_text())
    assert stored["columns"] == NAMES
    assert stored["data"][5][:2] == ["Student", "all"]
    assert stored["data"][5][4] == pytest.approx(report.rows[5]["mAP50"])
    for camera in ("camA", "camB"):
        assert summary[f"report/{camera}"]["count"] == 2


def test_a_datamodule_without_cameras_is_one_clear_error(root):
    class Other(LightningDataModule):
        def test_dataloader(self):
            return torch.utils.data.DataLoader([0])

    with pytest.raises(ValueError, match="needs a datamodule with a list `cameras`"):
        quick_trainer(callbacks=[DetectionReport()]).test(Found(), datamodule=Other(), verbose=False)
    with pytest.raises(ValueError, match="needs a datamodule"):
        quick_trainer(callbacks=[DetectionReport()]).test(Found(), torch.utils.data.DataLoader([0]))


def test_a_datamodule_of_somebody_else(root, tmp_path):
    """It says its cameras and gives batches in lkd's form; more is not asked."""
    data = roads(root)
    data.setup("test")
    batches = list(data.test_dataloader())

    class Other(LightningDataModule):
        cameras = ("camA", "camB")

        def test_dataloader(self):
            return torch.utils.data.DataLoader(batches, batch_size=None)

    report = DetectionReport(folder=str(tmp_path))
    quick_trainer(callbacks=[report]).test(Found(), datamodule=Other(), verbose=False)
    assert report.rows == measured_by(root, DetectionReport(folder=str(tmp_path))).rows
    assert (tmp_path / "camB.jpg").is_file()


def test_every_rank_asks_for_the_log_folder(root, tmp_path, monkeypatch):
    """Lightning broadcasts it, so a rank that does not ask leaves the first one waiting for ever."""
    report = measured_by(root, DetectionReport(folder=str(tmp_path / "first")))
    second = MagicMock(is_global_zero=False, loggers=[])
    asked = PropertyMock(return_value=str(tmp_path / "second"))
    type(second).log_dir = asked
    report.folder = None
    report.on_test_end(second, Found())
    asked.assert_called()
    assert not (tmp_path / "second").exists()  # but only the first one writes


def test_bad_options():
    with pytest.raises(ValueError, match="pictures=-1 must be 0 or more"):
        DetectionReport(pictures=-1)


def test_an_epoch_without_validation_repeats_no_metric():
    report = DetectionReport()
    trainer = SimpleNamespace(
        callback_metrics={"train/loss": 1.0, "val/map50": 0.5}, current_epoch=0, sanity_checking=False
    )
    report.on_validation_end(trainer, None)
    report.on_train_epoch_end(trainer, None)
    trainer.current_epoch = 1
    report.on_train_epoch_end(trainer, None)
    first, second = report.state_dict()["history"]
    assert first == {"epoch": 1.0, "train/loss": 1.0, "val/map50": 0.5}
    assert second == {"epoch": 2.0, "train/loss": 1.0}


class Learns(Found):
    """Finds nothing until it has trained."""

    def predict_step(self, batch, batch_idx):
        none = torch.zeros(0)
        found = self.detector(batch["images"])
        if not self.weight.any():
            found = [{"boxes": torch.zeros(0, 4), "scores": none, "labels": none.long()} for _ in found]
        return found

    def test_step(self, batch, batch_idx):
        return self.predict_step(batch, batch_idx)


def test_the_student_before_is_measured_on_the_test_data(root, tmp_path, capsys):
    """And the run is the same as without."""
    weights, drawn = [], []
    for before in (True, False):
        report = DetectionReport(Teacher(oracle), before=before, folder=str(tmp_path / str(before)))
        trainer = quick_trainer(callbacks=[report], max_epochs=1)
        module, data = Learns(), roads(root)
        torch.manual_seed(3)
        trainer.fit(module, datamodule=data)
        drawn.append(torch.rand(1))
        weights.append(module.weight.item())
        trainer.test(module, datamodule=data, verbose=False)
    assert weights[0] == weights[1] and torch.equal(*drawn)
    rows = {(row["Role"], row["Camera"]): row["mAP50"] for row in read(tmp_path / "True/table.csv")}
    assert list(dict.fromkeys(role for role, _ in rows)) == ["Teacher", "Before", "Student"]
    assert float(rows["Before", "all"]) == 0.0 < 0.5 < float(rows["Student", "all"])
    assert {p.name for p in (tmp_path / "True").glob("bars.*")} == {"bars.png", "bars.svg"}
    assert "Before" not in (tmp_path / "False/table.csv").read_text()


def test_before_counts_the_batches_that_the_test_counts(root, tmp_path):
    seen = []

    class Counts(Learns):
        def predict_step(self, batch, batch_idx):
            seen.append(len(batch["images"]))
            return super().predict_step(batch, batch_idx)

    for limit, batches in ((1, 1), (0.7, 2), (1.0, 3)):
        seen.clear()
        report = DetectionReport(before=True, measure_teacher=False, folder=str(tmp_path))
        trainer = quick_trainer(callbacks=[report], max_epochs=1, limit_test_batches=limit)
        trainer.fit(Counts(), datamodule=roads(root))
        assert len(seen) == batches


def test_a_test_alone_has_no_before(root, tmp_path):
    """Its checkpoint knows what the student was before, on other data perhaps."""
    report = DetectionReport(before=True, folder=str(tmp_path))
    report.load_state_dict({"history": [], "start": [{"camera": "all"}]})
    assert [row["Role"] for row in measured_by(root, report, Learns()).rows] == ["Student"] * 3
    assert not (tmp_path / "bars.png").exists()  # nothing to compare it to


def test_before_needs_predictions(root, tmp_path):
    report = DetectionReport(before=True, folder=str(tmp_path))
    with pytest.raises(ValueError, match="Found has no predict_step that gives them"):
        quick_trainer(callbacks=[report], max_epochs=1).fit(Found(), datamodule=roads(root))


def test_the_twin_of_the_run_is_a_role(root, tmp_path):
    """Its own run's student, and not what else that run has measured."""
    trainer = quick_trainer(callbacks=[report := DetectionReport()], default_root_dir=tmp_path)
    twin = tmp_path / "twin/report"
    twin.mkdir(parents=True)
    columns = ",".join(NAMES)
    (twin / "table.csv").write_text(f"{columns}\nBefore,camA,0,0,0,0\nStudent,camA,.5,.25,.75,nan\n")
    trainer.test(Found(), datamodule=roads(root), verbose=False)
    assert [row["Role"] for row in report.rows] == ["Student"] * 3 + ["Twin"]
    assert [report.rows[-1][name] for name in NAMES[1:5]] == ["camA", 0.5, 0.25, 0.75]
    assert "| Twin | camA | 0.500 | 0.250 | 0.750 | - |" in (tmp_path / "report/table.md").read_text()


def test_the_curves_begin_before_training_if_all_of_the_validation_was_looked_at(root, tmp_path):
    for steps, first in ((-1, 0.0), (1, 1.0)):
        report = DetectionReport(folder=str(tmp_path))
        trainer = quick_trainer(callbacks=[report], max_epochs=1, num_sanity_val_steps=steps)
        trainer.fit(Found(), datamodule=roads(root))
        assert report.state_dict()["history"][0]["epoch"] == first
