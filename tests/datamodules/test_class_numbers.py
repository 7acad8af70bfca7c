import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import TensorDataset

from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.datamodules.detection.detection_datamodule import DetectionDataModule
from lkd.datamodules.samples.class_numbers import check_class_numbers
from lkd.federated import Federation
from lkd.modules import Classifier

from .test_frames import frame


class Own(LightningModule):
    def __init__(self, num_classes):
        super().__init__()
        self.save_hyperparameters()


def trainer(module):
    return SimpleNamespace(lightning_module=module, world_size=1, global_rank=0)


def classifier(num_classes):
    return Classifier(nn.Linear(1, num_classes), num_classes=num_classes)


def federated(module, labels=(0, 1, 2, 7), **kwargs):
    data = TensorDataset(torch.zeros(len(labels), 1), torch.tensor(labels))
    federation = FederatedDataModule(data, IID(), clients=2, batch_size=2, **kwargs)
    federation.trainer = trainer(module)
    federation.setup("fit")


def test_labels_beyond_the_classes_are_refused_before_the_first_round():
    with pytest.raises(
        ValueError,
        match=r"the clients' data: 1 of 4 labels are beyond num_classes=3 of Classifier: they are from 0 to 7",
    ):
        federated(Federation(classifier(3)))
    with pytest.raises(ValueError, match="from -1 to 2, and must be from 0 to 7; number the classes from 0"):
        federated(Federation(classifier(8)), labels=(0, -1, 2, 0))
    federated(Federation(classifier(8)))
    federated(
        Federation(classifier(3), other_models=[classifier(8)])
    )  # whose clients these are is not known yet
    federated(None)


def test_sets_of_lkd_say_so_when_their_loader_is_made():
    data = Digits()
    data.trainer = trainer(classifier(9))
    data.setup("fit")
    with pytest.raises(
        ValueError,
        match=r"the train data of Digits: .* beyond num_classes=9 of Classifier.*set num_classes=10",
    ):
        data.train_dataloader()


def test_of_other_modules_it_is_a_warning_and_of_one_output_nothing():
    with pytest.warns(UserWarning, match="1 of 2 labels are beyond num_classes=3 of Own"):
        check_class_numbers(np.array([0, 255]), trainer(Own(3)), "data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_class_numbers(np.array([0, 1]), trainer(Own(1)), "data")
        check_class_numbers(np.array([-100, 2]), trainer(Own(3)), "data")
        check_class_numbers(np.array(["a", "b"]), trainer(Own(1)), "data")
        check_class_numbers(np.array([7]), trainer(LightningModule()), "data")


def test_boxes_to_measure_are_refused_and_those_to_train_on_warned_of(tmp_path):
    class Boxes(DetectionDataModule):
        def frames(self):
            made = [frame(tmp_path / f"{k}.png") for k in range(10)]
            return [replace(one, time=str(k), labels=one.labels + 4) for k, one in enumerate(made)]

    class Net(LightningModule):
        num_classes = 2

    Net.__module__ = "lkd.modules.detector"
    data = Boxes()
    data.trainer = trainer(Net())
    with (
        pytest.warns(UserWarning, match="the train frames of Boxes: 6 of 6 labels are beyond num_classes=2"),
        pytest.raises(ValueError, match="the val frames of Boxes: 2 of 2 labels"),
    ):
        data.setup("fit")
    data.trainer.limit_val_batches = 0  # nobody validates
    with pytest.warns(UserWarning, match="the val frames of Boxes: 2 of 2 labels"):
        data.setup("fit")


def test_a_prediction_does_not_look_at_labels():
    data = Digits()
    data.trainer = trainer(classifier(9))
    data.setup("predict")
    with pytest.raises(ValueError, match=r"the test data of Digits: .* beyond num_classes=9"):
        data.test_dataloader()
    data.trainer.predicting = True
    assert len(data.predict_dataloader())
