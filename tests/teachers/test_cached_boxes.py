"""CachedTeacher of a detector: pseudo-labels, dense terms and features, and a federation with one store."""

import copy

import pytest
import torch
from lightning.pytorch import Callback

from lkd.callbacks import BoxDistillation, LogitDistillation
from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.models import YOLO, PerCamera, TorchvisionDetector
from lkd.modules import Detector
from lkd.teachers import CachedTeacher, Teacher

from ..callbacks import federation
from ..callbacks.detection import roads
from ..callbacks.plain import quick_trainer, seeded
from ..detectors import needs_yolo
from ..roads import write_roads


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"), count=4)


def narrow(seed):
    architecture = copy.deepcopy(YOLO("yolov8n.yaml").architecture)
    return seeded(seed, lambda: YOLO(architecture | {"scales": {"n": [0.33, 0.0625, 1024]}}, num_classes=1))


def fcos(seed):
    return seeded(seed, lambda: TorchvisionDetector("fcos", "test_resnet", num_classes=1, channels=64))


class Losses(Callback):
    def __init__(self):
        self.all = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.all.append(float(outputs["loss"]))


def trained(teacher, network, root, **weights):
    module, losses = Detector(network(0)), Losses()
    callback = BoxDistillation(teacher, score_threshold=0.01, **weights)
    trainer = quick_trainer(callbacks=[callback, losses], max_epochs=2)
    trainer.fit(module, datamodule=roads(root, unlabeled=True, crop=(1.0, 1.0), flip=0.0))
    return losses.all, module.state_dict()


KINDS = [
    pytest.param(narrow, {"hard": 1.0}, marks=needs_yolo, id="yolo-hard"),
    pytest.param(narrow, {"hard": 0.0, "dense": 1.0, "feature": 1.0}, marks=needs_yolo, id="yolo-dense"),
    pytest.param(fcos, {"hard": 1.0, "sees": "frame"}, id="fcos-frame"),
]


@pytest.mark.parametrize(("network", "weights"), KINDS)
def test_training_on_boxes_is_the_same_with_a_cold_and_a_warm_cache(root, tmp_path, network, weights):
    live = trained(Teacher(network(1)), network, root, **weights)
    for run in ("cold", "warm"):
        teacher = CachedTeacher(network(1), tmp_path)
        losses, state = trained(teacher, network, root, **weights)
        assert losses == live[0], run
        assert all(torch.equal(state[name], value) for name, value in live[1].items()), run
    assert len(teacher.store.stat()) == 1 and teacher.answers.found == teacher.answers.asked


def test_boxes_in_half_precision_come_back_in_pixels(tmp_path):
    images = torch.rand(3, 3, 64, 64)
    teacher = CachedTeacher(fcos(1), tmp_path, dtype="float16")
    teacher.detect(images)
    for kept, live in zip(teacher.detect(images), Teacher(fcos(1)).detect(images), strict=True):
        assert {k: v.dtype for k, v in kept.items()} == {k: v.dtype for k, v in live.items()}
        torch.testing.assert_close(kept["boxes"], live["boxes"], atol=0.05, rtol=1e-3)
    with pytest.raises(ValueError, match="dtype='uint8' is too coarse for boxes in pixels"):
        CachedTeacher(fcos(1), tmp_path, dtype="uint8").detect(images)


def test_a_threshold_is_part_of_the_fingerprint(tmp_path):
    images, sure = torch.rand(3, 3, 64, 64), fcos(1)
    CachedTeacher(sure, tmp_path).detect(images)
    sure.net.score_thresh = 0.9
    with pytest.warns(UserWarning, match="none of this one"):
        found = CachedTeacher(sure, tmp_path).detect(images)
    assert [len(one["boxes"]) for one in found] == [len(one["boxes"]) for one in sure.detect(images)]


def test_three_clients_with_one_store_learn_what_they_learn_without(tmp_path):
    net = seeded(5, lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))

    def fit(teacher):
        module = federation.federation(FedAvg(), local=LocalTraining(epochs=2))
        federation.fit([LogitDistillation(teacher)], 2, module, federation.data(3, (1.0, 0.0, 0.0)))
        return module.state_dict()

    live = fit(Teacher(copy.deepcopy(net)))
    for _ in range(2):
        teacher = CachedTeacher(copy.deepcopy(net), tmp_path)
        weights = fit(teacher)
        assert all(torch.equal(weights[name], value) for name, value in live.items())
    assert isinstance(federation.federation(), Federation) and teacher.answers.found == teacher.answers.asked


class Copies(torch.nn.Module):
    """A detector of cameras, each of which finds boxes of its own class in the same picture."""

    def __init__(self):
        super().__init__()
        self.network = PerCamera(torch.nn.Conv2d(3, 1, 1), ["C1", "C2"])

    def detect(self, images, cameras=None):
        self.network(images, cameras)
        box, score = torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([0.9])
        return [{"boxes": box, "scores": score, "labels": torch.tensor([int(c[1])])} for c in cameras]


def test_the_camera_is_part_of_the_key(tmp_path):
    torch.manual_seed(0)
    net, images = Copies(), torch.zeros(3, 3, 8, 8)
    for _ in range(2):
        teacher = CachedTeacher(net, tmp_path)
        for cameras in (["C2", "C1", "C2"], ["C1", "C1", "C2"]):
            assert [int(one["labels"]) for one in teacher.detect(images, cameras)] == [
                int(c[1]) for c in cameras
            ]
