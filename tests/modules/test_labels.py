"""A label outside the classes gets one sentence, in training as in validation and test."""

import warnings

import pytest
import torch
from torch import nn

from lkd.models import CIFARResNet, MultiExit
from lkd.modules import (
    Classifier,
    MultiExitClassifier,
    MultiHeadClassifier,
    MultimodalClient,
    MutualLearning,
    PrivateSharedClassifier,
)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


MODULES = {
    "classifier": lambda: Classifier(linear(), 3),
    "heads": lambda: MultiHeadClassifier(nn.Flatten(), 3, heads=1, example=[3, 4, 4]),
    "exits": lambda: MultiExitClassifier(MultiExit(CIFARResNet(8, classes=3), ["layer1", "layer2"]), 3),
    "mutual": lambda: MutualLearning([linear(), linear()], 3),
    "private": lambda: PrivateSharedClassifier(linear(), linear(), 3),
    "modalities": lambda: MultimodalClient({"rgb": nn.Flatten()}, 3, example={"rgb": [3, 4, 4]}),
}


@pytest.mark.parametrize("stage", ["training", "validation", "test"])
@pytest.mark.parametrize("name", MODULES)
def test_labels_outside_the_classes(name, stage):
    module, x = MODULES[name](), torch.rand(4, 3, 4, 4)
    given = {"rgb": x} if name == "modalities" else x
    step = getattr(module, f"{stage}_step")
    for labels in ([0, 1, 3, 2], [0, -1, 1, 2]):
        with pytest.raises(
            ValueError, match=r"labels from .* num_classes is 3, so they must be from 0 to 2; set"
        ):
            step((given, torch.tensor(labels)), 0)
    for labels in (torch.tensor([0.0, 1.0, 2.0, 1.0]), torch.tensor([[0], [1], [2], [1]])):
        with pytest.raises(ValueError, match=r"labels are torch.* but classes are int64 of shape \(B,\)"):
            step((given, labels), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is logged without a Trainer
        step((given, torch.tensor([0, 1, 2, 1])), 0)


def test_probabilities_teach_as_before():
    module, x = Classifier(linear(), 3), torch.rand(4, 3, 4, 4)
    soft = torch.full((4, 3), 1 / 3)
    expected = nn.functional.cross_entropy(module(x), soft)
    torch.testing.assert_close(module.loss(module(x), soft), expected)
