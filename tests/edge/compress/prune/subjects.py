"""Tiny students with batches to prune them on."""

import pytest
import torch
from torch import nn

pytest.importorskip("torch_pruning")

from lkd.models import TorchvisionDetector
from lkd.modules import Classifier, Detector, MultimodalClient

from ...students import detector

BOXES = torch.tensor([[4.0, 8.0, 36.0, 40.0]])


class Net(nn.Module):
    """Two branches that are joined, a residual, a depthwise and a grouped convolution, and batch norms."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.left, self.right = nn.Conv2d(12, 8, 1), nn.Conv2d(12, 8, 3, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU())
        self.mix = nn.Conv2d(16, 16, 1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.back = nn.Conv2d(16, 12, 1)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.stem(x)
        joined = self.deep(torch.cat([self.left(x), self.right(x)], 1))
        return self.head((x + self.back(self.grouped(self.mix(joined)))).mean((2, 3)))


def classifier(seed=0, **kwargs):
    torch.manual_seed(seed)
    made = Classifier(Net(), num_classes=3, **kwargs)
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return made


def images(count=2, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 1, 8, 8, generator=drawn), torch.arange(8) % 3) for _ in range(count)]


def frames(labeled=True, cameras=("C1", "C1"), size=(64, 64)):
    batch = {
        "images": torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)),
        "cameras": list(cameras),
    }
    targets = [
        {"boxes": BOXES, "labels": torch.tensor([1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return [{**batch, "targets": targets}] if labeled else [batch]


def yolo(**kwargs):
    return detector(**kwargs)


def pyramid(head="ssdlite"):
    torch.manual_seed(0)
    return Detector(TorchvisionDetector(head, "test_resnet", num_classes=2, channels=64))


def of_sensors():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 3))
    recurrent = Recurrent()
    return MultimodalClient(
        {"acc": encoder, "gyro": recurrent}, 3, {"acc": [3, 16], "gyro": [3, 16]}, embedding=8
    )


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 6, 1), nn.GRU(6, 5, batch_first=True)

    def forward(self, x):
        return self.second(self.first(x).transpose(1, 2))[0].transpose(1, 2)


def windows():
    drawn = torch.Generator().manual_seed(0)
    x = {m: torch.randn(6, 3, 16, generator=drawn) for m in ("acc", "gyro")}
    return [(x, torch.arange(6) % 3)]


def share(module, batches, dense):
    from lkd.edge.compress.prune.subject import subject_of

    one, other = (subject_of(m, batches[0]) for m in (module, dense))
    return one.macs(one.first) / other.macs(other.first)
