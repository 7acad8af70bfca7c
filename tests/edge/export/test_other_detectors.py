"""Detectors without Ultralytics as files: torchvision's, one of a federation, and one that lkd does not know."""

import copy

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from lkd.datamodules import FederatedDataModule, Natural, YoloFolder
from lkd.edge import Exported
from lkd.edge.export import export
from lkd.edge.export.graph import to_graph
from lkd.edge.export.measure import _Tables
from lkd.federated import FedAvg, Federation, load_client
from lkd.models import TorchvisionDetector, suppressed
from lkd.modules import Detector

from ...callbacks.plain import quick_trainer
from ...roads import write_roads
from ..students import save

LICENSES = dict.fromkeys(("data", "teacher", "weights"), "none")
CHANNELS = {"ssdlite": 16, "fcos": 64, "retinanet": 16}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"))


def data(root):
    return YoloFolder(str(root), image_size=64, fractions=(0.25, 0.0, 0.75), batch_size=4)


def torchvisions(head, seed=0):
    """One that scores its boxes differently."""
    torch.manual_seed(seed)
    network = TorchvisionDetector(head, "test_resnet", num_classes=2, channels=CHANNELS[head])
    with torch.no_grad():
        for weight in network.net.head.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.05)
    return Detector(network, class_names=["car", "bus"], freeze_batchnorm=True).eval()


def same(student, module, images):
    """Whether a file finds what the module does, and something at all."""
    with torch.no_grad():
        wanted = module.networks()[0].decode(module(images), *limits(student))
    for one, other in zip(wanted, student(images.numpy()), strict=True):
        assert len(one["labels"]) > 1 and one["labels"].tolist() == other["labels"].tolist()
        np.testing.assert_allclose(other["boxes"], one["boxes"], atol=1e-3)
        np.testing.assert_allclose(other["scores"], one["scores"], atol=1e-5)


def limits(student):
    return [student.spec[name] for name in ("score_threshold", "iou_threshold", "max_detections")]


@pytest.fixture
def once(monkeypatch):
    """Exports to a graph once in a test, as that takes long."""
    known = []

    def graph(*arguments):
        if not known:
            known.append(to_graph(*arguments))
        return copy.deepcopy(known[0])

    monkeypatch.setattr("lkd.edge.export.files.to_graph", graph)


# the third, SSDLite, is the federation's below
@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcos", "retinanet"])
def test_torchvisions(head, root, tmp_path, once):
    module = torchvisions(head)
    path = save(module, tmp_path / "x.ckpt")
    check_both(torchvisions(head, seed=1), module, data(root), path, tmp_path)


def check_both(fresh, module, given, path, folder):
    """Files with suppression inside and beside find what a trained module does."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = module.networks()[0]
    with torch.no_grad():
        usual = network.boxes_and_scores(network(images))[1].median().item()
    for nms in ("inside", "beside"):
        options = {"nms": nms, "licenses": LICENSES, "score_threshold": round(usual, 3)}
        (file,) = export(fresh, given, path, str(folder / nms), **options)
        student = Exported(file)
        assert student.spec["classes"] == ["car", "bus"]  # the module's own names
        assert student.spec["multi_label"] and student.card["metrics"]["samples"] == 6
        assert "ultralytics" not in student.card["licenses"]["code"]
        for size in (1, 3):
            same(student, module, torch.rand(size, 3, 64, 64, generator=torch.Generator().manual_seed(size)))


def test_one_of_a_federation(root, tmp_path, once):
    """The server's, after a round."""
    federation = Federation(torchvisions("ssdlite"), algorithm=FedAvg())
    clients = FederatedDataModule(data(root), Natural("camera"))
    trainer = quick_trainer()
    trainer.fit(federation, datamodule=clients)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    fresh, path = torchvisions("ssdlite", seed=1), str(tmp_path / "x.ckpt")
    module = load_client(path, module=torchvisions("ssdlite", seed=2)).eval()
    check_both(Federation(fresh, algorithm=FedAvg()), module, clients, path, tmp_path)


class OneBox(nn.Module):
    """Of each image one box."""

    num_classes = 1

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        return {"found": self.head(self.body(images))}

    def loss(self, outputs, targets):
        return {"nothing": outputs["found"].sum() * 0}

    def decode(self, outputs, *limits):
        return suppressed(*Exportable.boxes_and_scores(self, outputs), *limits)


class Exportable(OneBox):
    def boxes_and_scores(self, outputs):
        corner, side = (outputs["found"][:, None, k : k + 2].sigmoid() * 32 for k in (0, 2))
        return torch.cat([corner, corner + side], 2), outputs["found"][:, 4:, None].sigmoid()


def test_one_that_lkd_does_not_know(root, tmp_path):
    module = Detector(Exportable()).eval()
    path = save(module, tmp_path / "x.ckpt")
    (file,) = export(Detector(Exportable()), data(root), path, str(tmp_path / "out"), licenses=LICENSES)
    student, images = Exported(file), torch.rand(3, 3, 64, 64)
    assert not student.spec["multi_label"]
    for one, other in zip(module.detect(images), student(images.numpy()), strict=True):
        assert one["labels"].tolist() == other["labels"].tolist() == [0]
        np.testing.assert_allclose(other["boxes"], one["boxes"], atol=1e-3)


class Frames(LightningDataModule):
    """Which do not say what camera they are of."""

    def test_dataloader(self):
        target = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([0])}
        return DataLoader([{"images": torch.rand(2, 3, 64, 64), "targets": [target] * 2}], batch_size=None)


def test_the_only_camera_need_not_be_named_by_the_frames(tmp_path):
    module = Detector(Exportable(), cameras=["C1"])
    path = save(module, tmp_path / "x.ckpt")
    (file,) = export(module, Frames(), path, str(tmp_path / "out"), licenses=LICENSES)
    assert file.name == "student_C1.onnx" and Exported(file).card["metrics"]["file"]["map"] >= 0


def test_as_many_detections_count_as_in_the_detectors_own_test():
    for most in (50, 900):
        assert _Tables(Detector(Exportable(), max_detections=most)).table.max_detections == most


class Other(Exportable):
    """Whose `decode` has rules of its own."""

    def decode(self, outputs, *limits):
        found = super().decode(outputs, *limits)
        return [{**one, "boxes": one["boxes"] + 3} for one in found]


class Flat(Exportable):
    def boxes_and_scores(self, outputs):
        boxes, scores = super().boxes_and_scores(outputs)
        return boxes, scores.squeeze(2)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            OneBox,
            r"network=OneBox lacks boxes_and_scores\(outputs\), by which .*see lkd.models.DetectorNetwork",
        ),
        (Other, r"Other.decode finds other boxes than .*: 4 of 4 on 2 pictures have no partner"),
        (Flat, r"Flat.boxes_and_scores gives \(2, 1, 4\) and \(2, 1\), but boxes are .*scores \(B, A, 1\)"),
    ],
)
def test_what_cannot_be_a_file(kind, sentence, root, tmp_path):
    path = save(Detector(kind()), tmp_path / "x.ckpt")
    for nms in ("inside", "beside"):
        options = {"nms": nms, "licenses": LICENSES, "max_drop": 1.0}
        with pytest.raises(ValueError, match=sentence):
            export(Detector(kind()), data(root), path, str(tmp_path / "out"), **options)
