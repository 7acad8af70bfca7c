"""A classifier as a file: what it says, what its card says, and what is refused."""

import json

import numpy as np
import onnx
import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from lkd.edge import Exported
from lkd.edge.export import export
from lkd.modules import MutualLearning

from ..students import Plain, Samples, classifier, save


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file, and the module that it was made of."""
    folder = tmp_path_factory.mktemp("classifier")
    module = classifier()
    path = save(module, folder / "x.ckpt")
    licenses = {"data": "CC0-1.0", "teacher": "none", "weights": "none"}
    (file,) = export(classifier(seed=1), Samples(), path, str(folder / "out"), licenses=licenses)
    return module, file


def test_it_answers_as_the_module_does_for_any_number_of_samples(made):
    module, file = made
    student = Exported(file)
    for count in (1, 2, 7):
        x = Samples(count, seed=5).x
        with torch.no_grad():
            np.testing.assert_allclose(student(x.numpy()), module(x).numpy(), atol=1e-6)


def test_the_file_says_how_it_is_used(made):
    spec = Exported(made[1]).spec
    (entry,) = spec["inputs"]
    assert entry["shape"] == ["batch", 3, 2, 2] and entry["layout"] == "NCHW, pixels, RGB"
    assert entry["normalization"] == {"scale": 255.0, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    assert spec["classes"] == ["cat", "dog", "cow"] and spec["kind"] == "logits"


def test_the_card_is_measured_on_the_file(made):
    card = Exported(made[1]).card
    assert card["metrics"]["file"]["test/acc"] == pytest.approx(0.9)
    assert card["metrics"]["checkpoint"].keys() == card["metrics"]["file"].keys() == {"test/acc", "test/loss"}
    assert (
        card["metrics"]["samples"] == card["parity"]["samples"] == 10 and card["parity"]["difference"] < 1e-5
    )
    assert card["size"] == {"bytes": made[1].stat().st_size, "parameters": 12 * 8 + 8 + 8 * 3 + 3}
    assert 0 < card["latency"]["p50_ms"] <= card["latency"]["p95_ms"] and card["latency"]["threads"] == 1
    assert card["latency"]["cpu"] and len(card["provenance"]["checkpoint"]["sha256"]) == 64
    assert card["licenses"]["data"] == "CC0-1.0" and "lkd: Apache-2.0" in card["licenses"]["code"]
    assert sorted(p.name for p in made[1].parent.iterdir()) == ["student.json", "student.onnx"]


def test_a_card_or_file_of_another_version_is_refused(made, tmp_path):
    file, card = tmp_path / "student.onnx", tmp_path / "student.json"
    file.write_bytes(made[1].read_bytes())
    content = json.loads(made[1].with_suffix(".json").read_text())
    with pytest.raises(FileNotFoundError, match=r"student\.json does not exist"):
        _ = Exported(file).card
    card.write_text(json.dumps({**content, "version": 99}))
    with pytest.raises(ValueError, match="has the version 99 of lkd's format, and this lkd reads version 1"):
        _ = Exported(file).card
    card.write_text(json.dumps({**content, "sha256": "0"}))
    with pytest.raises(ValueError, match="is the card of another file"):
        _ = Exported(file).card
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {"lkd": json.dumps({"version": 2})})
    onnx.save(graph, file)
    with pytest.raises(ValueError, match="has the version 2"):
        Exported(file)
    onnx.helper.set_model_props(graph, {})
    onnx.save(graph, file)
    with pytest.raises(ValueError, match="was not exported by lkd"):
        Exported(file)
    file.write_bytes(b"none")
    with pytest.raises(ValueError, match="cannot be run by ONNX Runtime"):
        Exported(file)


@pytest.mark.parametrize("x", [
    np.zeros((1, 3, 2, 3), np.float32), np.zeros((3, 2, 2), np.float32), np.zeros((1, 3, 2, 2)), [1.0],
    np.zeros((0, 3, 2, 2), np.float32),
])  # fmt: skip
def test_an_array_that_the_file_does_not_take_is_refused(made, x):
    with pytest.raises(ValueError, match=r"'x' must be a float32 array of shape \(batch, 3, 2, 2\), not"):
        Exported(made[1])(x)


@pytest.mark.parametrize(("disturbed", "options", "sentence"), [
    (0.5, {}, r"the file's logits differ from the module's by .*, and tolerance=0\.001"),
    (50.0, {"tolerance": 1e9}, r"test/loss of the file is .*: worse by .*, and max_drop=0\.01"),
])  # fmt: skip
def test_a_file_that_is_not_as_good_is_not_left(tmp_path, quick, monkeypatch, disturbed, options, sentence):
    original = Exported.run

    def run(self, inputs):
        return {"logits": original(self, inputs)["logits"] + disturbed * np.eye(3, dtype=np.float32)[0]}

    monkeypatch.setattr(Exported, "run", run)
    path = save(classifier(), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=sentence):
        export(classifier(), Samples(), path, str(tmp_path / "out"), **options)
    assert not list((tmp_path / "out").iterdir())


def test_a_module_of_somebodys_own_stays_as_it_is(tmp_path, quick):
    torch.manual_seed(0)
    module = Plain()
    (file,) = export(module, Samples(), save(module, tmp_path / "x.ckpt"), str(tmp_path / "out"))
    assert Exported(file).card["metrics"]["file"] == Exported(file).card["metrics"]["checkpoint"]
    assert "forward" not in vars(module) and "test_step" not in vars(module)


class AsksItsLayer(Plain):
    def test_step(self, batch, batch_idx):
        self(batch[0])
        self.log("test/mean", self.net(batch[0]).mean())


class NeverAsks(Plain):
    def test_step(self, batch, batch_idx):
        self.log("test/mean", batch[0].mean())


class GivesTwo(Plain):
    def forward(self, x):
        return self.net(x), x

    def test_step(self, batch, batch_idx):
        self.log("test/mean", self(batch[0])[0].mean())


class LogsNothing(Plain):
    def test_step(self, batch, batch_idx):
        self(batch[0])


class Untested(Plain):
    test_step = None


class NoTestData(LightningDataModule):
    pass


class Sizes(Samples):
    def test_dataloader(self):
        return DataLoader([(torch.zeros(3, 2, side), 0) for side in (2, 3)], batch_size=1)


@pytest.mark.parametrize(("module", "data", "sentence"), [
    (AsksItsLayer, Samples, r"the test of AsksItsLayer runs its layer 'net' itself"),
    (NeverAsks, Samples, "the test of NeverAsks never called its forward"),
    (GivesTwo, Samples, "GivesTwo.forward gives a tuple, and export takes modules that give logits"),
    (LogsNothing, Samples, "logs nothing, so nothing is known of the file"),
    (Plain, NoTestData, r"NoTestData has no test data"),
    (Plain, lambda: Samples(0), "on the test data logs nothing"),
    (lambda: Plain(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), Sizes, "but a file takes one"),
    (lambda: MutualLearning([nn.Sequential(nn.Flatten(), nn.Linear(12, 3)) for _ in range(2)], num_classes=3), Samples, "gives a list"),
])  # fmt: skip
def test_what_a_file_cannot_stand_in_for_is_refused(tmp_path, module, data, sentence):
    one = module()
    with pytest.raises(ValueError, match=sentence):
        export(one, data(), save(one, tmp_path / "x.ckpt"), str(tmp_path / "out"))


class Precise(Samples):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.x = self.x.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_precision_are_refused(tmp_path, dtype):
    module = Plain().to(dtype)
    said = rf"weights of Plain are {str(dtype)[6:]} \(such as net\.1\.weight\), and a file is in float32"
    with pytest.raises(ValueError, match=said):
        export(module, Precise(dtype), save(module, tmp_path / "x.ckpt"), str(tmp_path / "out"))
    path = save(Plain().double(), tmp_path / "double.ckpt")
    (file,) = export(Plain(), Samples(), path, str(tmp_path / "out"))
    assert Exported(file).spec["kind"] == "logits"


def test_a_checkpoint_of_another_class_or_shape_is_refused(tmp_path):
    other = {"hyper_parameters": {"_class_path": "lkd.modules.Detector"}}
    path = save(classifier(), tmp_path / "x.ckpt", **other)
    with pytest.raises(
        ValueError, match=r"is of the class lkd\.modules\.Detector, and the model is lkd\.modules\.Classifier"
    ):
        export(classifier(), Samples(), path)
    path = save(Plain(), tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match=r"plain\.ckpt' does not fit Classifier: .*network\.1\.weight"):
        export(classifier(), Samples(), path)
    path = save(classifier(), tmp_path / "y.ckpt", federation={})
    with pytest.raises(ValueError, match="is of a federation, and the model is Classifier"):
        export(classifier(), Samples(), path)
    (tmp_path / "cut.ckpt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is damaged, or no checkpoint"):
        export(classifier(), Samples(), str(tmp_path / "cut.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"ckpt_path='gone\.ckpt' does not exist"):
        export(classifier(), Samples(), "gone.ckpt")


@pytest.mark.parametrize(("options", "sentence"), [
    ({"format": "tflite"}, "format='tflite' must be 'onnx'"),
    ({"nms": "both"}, "nms='both' must be"),
    ({"max_drop": -1.0}, r"max_drop=-1\.0 must be 0 or more"),
    ({"tolerance": float("nan")}, "tolerance=nan"),
    ({"threads": 0}, "threads=0"),
    ({"mean": [0.5]}, r"mean=\[0\.5\] and std=None must be given together"),
    ({"licenses": {"music": "CC0"}}, "licenses: music is no part"),
    ({"only": ["C1"]}, "Classifier is one file"),
    ({"score_threshold": 0.5}, "score_threshold=0.5 is of detectors"),
])  # fmt: skip
def test_bad_options(tmp_path, options, sentence):
    path = save(classifier(), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=sentence):
        export(classifier(), Samples(), path, str(tmp_path / "out"), **options)
