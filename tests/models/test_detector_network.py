"""A detector of a user's own, which lkd does not know: it trains, is resumed, teaches, learns and is a client."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lkd.callbacks import BoxDistillation
from lkd.datamodules import FederatedDataModule, Natural
from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.models import TorchvisionDetector, detector_network
from lkd.modules import Detector
from lkd.teachers import Teacher

from ..callbacks.detection import first_batch, roads
from ..callbacks.plain import quick_trainer
from ..roads import oracle, write_roads


def test_the_one_of_the_docs(root):
    """docs/detectors.md has it."""
    page = (Path(__file__).parents[2] / "docs/detectors.md").read_text(encoding="utf-8")
    said: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, flags=re.S)[1], said)
    trainer = quick_trainer()
    trainer.fit(said["detector"], datamodule=roads(root))
    assert {"train/box", "train/cls"} <= trainer.callback_metrics.keys()
    found = said["detector"].eval().detect(first_batch(root)["images"])
    assert found[0]["boxes"].shape == (1, 4) and found[0]["labels"].dtype == torch.int64


class OneBox(nn.Module):
    """Of each image one box, where a small network says that it is."""

    num_classes = 1

    def __init__(self, width: int = 4):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(width, 5))

    def forward(self, images):
        maps = self.body[:3](images)
        found = self.head(self.body[3](maps))
        side = torch.tensor(images.shape[-2:][::-1], device=images.device).repeat(2)
        return {"boxes": found[:, :4].sigmoid() * side, "scores": found[:, 4:], "feats": [maps]}

    def loss(self, outputs, targets):
        there = torch.tensor([[float(len(one["boxes"]) > 0)] for one in targets])
        box = torch.stack([one["boxes"].mean(0) if len(one["boxes"]) else torch.zeros(4) for one in targets])
        return {
            "place": (there * (outputs["boxes"] - box)).abs().mean() / 100,
            "there": nn.functional.binary_cross_entropy_with_logits(outputs["scores"], there),
        }

    def decode(self, outputs, score_threshold, iou_threshold, max_detections):
        found = zip(outputs["boxes"].detach(), outputs["scores"].detach().sigmoid(), strict=True)
        one = [{"boxes": box[None], "scores": score, "labels": torch.zeros(1).long()} for box, score in found]
        return [{key: value[each["scores"] > score_threshold] for key, value in each.items()} for each in one]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"), count=4)


def test_it_trains_is_measured_and_saved(root, tmp_path):
    detector = Detector(OneBox(), freeze_batchnorm=True, class_names=["car"])
    trainer = quick_trainer()
    trainer.fit(detector, datamodule=roads(root))
    assert {"train/loss", "train/place", "train/there"} <= trainer.callback_metrics.keys()
    assert detector.network.body[1].num_batches_tracked == 0
    (logged,) = trainer.test(detector, datamodule=roads(root), verbose=False)
    assert "test/map50" in logged
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = Detector.load_from_checkpoint(tmp_path / "x.ckpt", network=OneBox(), weights_only=True).eval()
    x = first_batch(root)["images"]
    assert torch.equal(again(x)["boxes"], detector.eval()(x)["boxes"]) and again.class_names == ["car"]


@pytest.mark.parametrize("cameras", [None, ["camA", "camB"]])
def test_it_learns_from_boxes_and_features_and_teaches(root, cameras):
    wide = Teacher(OneBox(width=8).eval())
    wide.model.detect = oracle
    callback = BoxDistillation(wide, hard=1.0, feature=1.0)
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(Detector(OneBox(), cameras=cameras), datamodule=roads(root, unlabeled=True))
    assert trainer.callback_metrics["distillation/cwd"] > 0
    student = Detector(TorchvisionDetector("fcos", "test_resnet", channels=64))
    callback = BoxDistillation(Teacher(Detector(OneBox())), score_threshold=0.1)
    quick_trainer(callbacks=[callback]).fit(student, datamodule=roads(root, unlabeled=True))


def test_it_is_a_client(root):
    federation = Federation(Detector(OneBox()), FedAvg(), LocalTraining(epochs=1))
    before = federation.model.network.head[1].weight.detach().clone()
    data = FederatedDataModule(roads(root), Natural("camera"))
    quick_trainer(limit_val_batches=0).fit(federation, datamodule=data)
    assert not torch.equal(federation.model.network.head[1].weight, before)


def test_what_it_does_not_say_is_not_taken_for_granted(root):
    with pytest.raises(
        ValueError, match=r"freeze=1 must be between 0 and the network's 0 layers \(`layers` of OneBox\)"
    ):
        Detector(OneBox(), freeze=1)
    with pytest.raises(ValueError, match=r"OneBox does not weigh boxes .*does not say weighs_scores = True"):
        callback = BoxDistillation(Teacher(oracle), soft=True)
        quick_trainer(callbacks=[callback]).fit(Detector(OneBox()), datamodule=roads(root))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"network": nn.Linear(1, 1)},
            TypeError,
            r"network=Linear lacks num_classes, loss, decode.*DetectorNetwork",
        ),
        ({"network": OneBox(), "num_classes": 2}, ValueError, "num_classes=2, but the OneBox has 1"),
        (
            {"network": OneBox(), "class_map": {2: 0}},
            ValueError,
            r"class_map={2: 0} .*OneBox is a network already.*classes",
        ),
    ],
)
def test_what_is_no_such_network(arguments, error, message):
    with pytest.raises(error, match=message):
        detector_network(**arguments)


@pytest.mark.parametrize("names", [["car", "bus"], []])
def test_names_are_one_a_class(names):
    if names:
        with pytest.raises(ValueError, match=r"class_names=\['car', 'bus'\] must be 1 different names"):
            Detector(OneBox(), class_names=names)
    else:
        assert Detector(OneBox(), class_names=names).class_names is None


def test_batches_without_a_loader_of_lkds(root):
    loader = DataLoader([first_batch(root)], batch_size=None)
    quick_trainer().fit(Detector(OneBox()), loader)
