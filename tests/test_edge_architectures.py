"""The table of architectures as files, on generated pictures: four files a student, and a second call trains nothing."""

import importlib.util
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn

pytest.importorskip("openvino")
pytest.importorskip("lkd.edge.compress.quantize")

from lkd.modules import Classifier

from .edge.students import by_hand

PATH = Path(__file__).parents[1] / "benchmarks/edge_architectures.py"


def tiny(data):
    layers = nn.Linear(3 * 64 * 64, 8), nn.ReLU(), nn.Linear(8, 10)
    return Classifier(nn.Sequential(nn.Flatten(), *layers), num_classes=10)


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("edge_architectures", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CLASSIFIERS", [module.Student("tiny", tiny, 1)])
    monkeypatch.setattr("lkd.edge.export.files.to_graph", by_hand)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # the suite's own
    return module


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "cifar10_subset").mkdir()
    with tarfile.open(tmp_path / "cifar10_subset/cifar10_subset.tar", "w") as tar:
        for part, label, number in product(("train", "test"), range(10), range(8)):
            pixels = rng.integers(0, 100, (32, 32, 3), dtype=np.uint8) + np.uint8(15 * label)
            Image.fromarray(pixels).save(tmp_path / "one.png")
            tar.add(tmp_path / "one.png", f"{part}/class{label}/{number}.png")
    return tmp_path


def test_four_files_of_a_student(study, pictures, capsys, monkeypatch):
    given = ["--data", str(pictures), "--folder", str(pictures / "out"), "--only", "tiny", "--quick"]
    rows = study.main(given)
    runs = [(row["bits"], row["run by"]) for row in rows]
    assert runs == [(bits, by) for bits in ("float32", "int8") for by in ("ONNX Runtime", "OpenVINO")]
    assert rows[0]["value"] == rows[1]["value"] and rows[0]["lost"] == "+0.0000"
    assert float(rows[2]["MB"]) < 0.5 * float(rows[0]["MB"]) and all(float(row["CPU ms"]) > 0 for row in rows)
    assert "| tiny | acc | int8 | OpenVINO |" in capsys.readouterr().out
    monkeypatch.setattr(Trainer, "fit", None)
    assert [row["value"] for row in study.main(given)] == [row["value"] for row in rows]
