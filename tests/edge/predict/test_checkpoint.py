"""`predict SOURCE` by a checkpoint: the numbers of its exported file."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from lkd.cli import main
from lkd.datamodules import ImageFolderData, YoloFolder
from lkd.edge import Exported
from lkd.edge.export.boxes import Decoded, DetectorKind
from lkd.edge.export.graph import to_graph
from lkd.edge.export.preprocessing import described_inputs
from lkd.edge.export.tail import with_suppression
from lkd.edge.predict.checkpoint import Checkpoint
from lkd.edge.predict.predictor import PARTS, Predictor
from lkd.edge.predict.sources import open_source
from lkd.edge.predict.timing import FrameTimes
from lkd.federated import Federation, load_client
from lkd.modules import Classifier, MultimodalClient

from ...roads import write_roads
from ..export.test_federated import clients, digits, net, trained
from ..files import finish, picture
from ..students import TINY, Plain, Samples, by_hand, detector, save
from .test_command import read

needs_yolo = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason='needs the extra: pip install "lightning-kd[yolo]"'
)


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"))


def data(root):
    return YoloFolder(str(root), image_size=64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A detector, its checkpoint, and a file with its network and suppression inside."""
    pytest.importorskip("onnxscript")
    folder, module = tmp_path_factory.mktemp("student"), detector().eval()
    kind = DetectorKind(module, "inside", score_threshold=0.3)
    kind.images = {"": torch.zeros(2, 3, 64, 64)}
    (part,) = kind.parts()
    assert isinstance(part.network, Decoded)
    graph = with_suppression(to_graph(part.network, part.inputs, part.outputs), *kind.thresholds)
    inputs = described_inputs(part, "boxes", data(folder), None, None)
    spec = {"kind": "boxes", "inputs": inputs, "classes": ["0", "1"], **kind.options()}
    return module, save(module, folder / "x.ckpt"), finish(graph, folder / "student.onnx", **spec)


@needs_yolo
def test_file_and_checkpoint_say_the_same(exported, roads):
    _, ckpt, path = exported
    frames = list(open_source([str(roads / "images")]))
    students = [Exported(path), Checkpoint(detector(seed=3), data(roads), ckpt)]
    both = [
        [Predictor(student, "it", 0.4)(frame, FrameTimes(PARTS)) for frame in frames] for student in students
    ]
    assert sum(len(found["scores"]) for found in both[0]) > 10
    for one, other in zip(*both, strict=True):
        assert one["labels"].tolist() == other["labels"].tolist()
        np.testing.assert_allclose(other["boxes"], one["boxes"], atol=0.02)
        np.testing.assert_allclose(other["scores"], one["scores"], atol=1e-4)
        assert (one["boxes"] <= [128, 96, 128, 96]).all()
    assert max(found["boxes"].max(initial=0) for found in both[0]) > 64  # the picture's own pixels


@needs_yolo
def test_the_same_from_the_command_line(exported, roads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, ckpt, path = exported
    Path("c.yaml").write_text(
        yaml.safe_dump({
            "model": {"class_path": "Detector", "init_args": {"network": TINY, "num_classes": 2}},
            "data": {"class_path": "YoloFolder", "init_args": {"root": "gone", "image_size": 64}},
            "trainer": {"accelerator": "cpu", "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "one"}}},
        })
    )  # fmt: skip
    main(
        ["predict", str(roads / "images"), "--config", "c.yaml", "--ckpt_path", ckpt, "--score_threshold=0.4"]
    )
    main(["predict", str(roads / "images"), "--model", str(path), "--score_threshold=0.4", "--folder=file"])
    one, other = read("runs/one/predict/boxes.csv"), read("file/boxes.csv")
    assert len(one) == len(other) > 10
    for a, b in zip(one, other, strict=True):
        assert (a["source"], a["class"]) == (b["source"], b["class"])
        assert float(a["x1"]) == pytest.approx(float(b["x1"]), abs=0.02)
    with pytest.raises(SystemExit, match=r"ckpt_path='no.ckpt' does not exist"):
        main(["predict", str(roads), "--config", "c.yaml", "--ckpt_path", "no.ckpt"])


@needs_yolo
def test_copies_for_each_camera(tmp_path, roads):
    module = detector(cameras=["A", "B"])
    ckpt = save(module, tmp_path / "x.ckpt")
    chosen = Checkpoint(detector(seed=1, cameras=["A", "B"]), data(roads), ckpt, camera="B")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            chosen.run({"x": x.numpy()})["outputs"]["scores"], module.eval()(x, ["B"])["scores"]
        )
    for camera in (None, "C"):
        with pytest.raises(ValueError, match=r"a copy for each of A, B; .*--camera A"):
            Checkpoint(detector(cameras=["A", "B"]), data(roads), ckpt, camera=camera)
    with pytest.raises(ValueError, match="one network for all cameras"):
        Checkpoint(detector(), data(roads), save(detector(), tmp_path / "y.ckpt"), camera="A")


def test_a_classifier_and_its_file(tmp_path):
    for number in range(8):
        for part in ("train", "test"):
            for name in ("cat", "dog"):
                picture(tmp_path / "data" / part / name / f"{number}.png", size=(2, 6))
    images = ImageFolderData(str(tmp_path / "data"), image_size=4, mean=[0.5], std=[0.2])
    torch.manual_seed(0)
    module = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), num_classes=2)
    student = Checkpoint(module, images, save(module, tmp_path / "x.ckpt"))
    assert student.spec["classes"] == ["cat", "dog"] and student.spec["inputs"][0]["shape"] == [
        "batch",
        3,
        4,
        4,
    ]
    graph = by_hand(module, {"x": torch.zeros(2, 3, 4, 4)}, ["logits"])
    path = finish(graph, tmp_path / "student.onnx", **student.spec)
    (frame,) = open_source([str(picture(tmp_path / "x.png", size=(30, 20)))])
    one, other = (
        Predictor(each, "it")(frame, FrameTimes(PARTS))["probabilities"] for each in (student, Exported(path))
    )
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.sum() == pytest.approx(1) and abs(one[0] - 0.5) > 0.01
    with pytest.raises(ValueError, match="x is a classifier: leave it out"):
        Predictor(student, "x", 0.3)


@needs_yolo
def test_classes_are_called_as_in_the_file(tmp_path, roads):
    root = tmp_path / "named"
    shutil.copytree(roads, root)
    (root / "classes.txt").write_text("car\nbus\n")
    ckpt = save(detector(), tmp_path / "x.ckpt")
    assert Checkpoint(detector(), data(root), ckpt).spec["classes"] == ["car", "bus"]
    with pytest.warns(UserWarning, match="called 0, 1 and so on, as YoloFolder cannot be read"):
        assert Checkpoint(detector(), data("gone"), ckpt).spec["classes"] == ["0", "1"]
    named = Checkpoint(detector(), data("gone"), ckpt, classes=["car", "bus"])
    assert named.spec["classes"] == ["car", "bus"]


class Late(Classifier):
    """One whose head is made, and told what the checkpoint says, as late as Lightning allows."""

    def configure_model(self):
        if not hasattr(self, "late"):
            self.late = nn.Linear(1, 1)

    def on_load_checkpoint(self, checkpoint):
        super().on_load_checkpoint(checkpoint)
        self.told = checkpoint["more"]


def test_a_module_gets_lightnings_calls(tmp_path):
    def made():
        return Late(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), num_classes=3)

    module = made()
    module.configure_model()
    student = Checkpoint(made(), Samples(), save(module, tmp_path / "x.ckpt", more=7))
    assert student.module.told == 7 and student.module.late.weight == module.late.weight


def test_what_takes_no_pictures(tmp_path):
    module = MultimodalClient({"a": nn.Flatten(), "b": nn.Flatten()}, 2, {"a": [3], "b": [2]})
    student = Checkpoint(module, Samples(), save(module, tmp_path / "x.ckpt"))
    with pytest.raises(
        ValueError, match=r"takes several inputs \(a, b\), which no picture has: leave SOURCE out"
    ):
        Predictor(student, "x.ckpt")
    plain = Classifier(nn.Linear(3, 2), num_classes=2)
    other = save(Classifier(nn.Linear(4, 2), num_classes=2), tmp_path / "y.ckpt")
    with pytest.raises(ValueError, match="does not fit Classifier"):
        Checkpoint(plain, Samples(), other)
    with pytest.raises(ValueError, match="client='c1': Classifier is no federation"):
        Checkpoint(plain, Samples(), other, client="c1")


def test_models_of_a_federation(tmp_path):
    path = trained(tmp_path, personal_layers=["network.3"])
    made = Federation(net(8), personal_layers=["network.3"])
    for client in (None, "1"):
        student = Checkpoint(made, clients(), path, client=client)
        wanted = load_client(path, None if client is None else 1, net(8)).eval()
        with torch.no_grad():
            torch.testing.assert_close(
                torch.from_numpy(student.run({"x": digits().numpy()})["logits"]), wanted(digits())
            )
    with pytest.raises(ValueError, match="takes pixels from 0 to 16"):
        Predictor(student, "x.ckpt")
    with pytest.raises(ValueError, match="has no model of 7"):
        Checkpoint(made, clients(), path, client="7")


def test_a_module_of_ones_own_is_predicted_with_by_its_file(tmp_path):
    path = save(Plain(), tmp_path / "own.ckpt")
    with pytest.raises(ValueError, match="the model is Plain: export it, and give the file as --model"):
        Checkpoint(Plain(), Samples(), path)
