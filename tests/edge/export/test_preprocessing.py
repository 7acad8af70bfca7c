import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule

from lkd.datamodules import IID, Digits, FederatedDataModule, ImageFolderData, YoloFolder
from lkd.datamodules.modalities.modality_set import ChannelMoments
from lkd.edge.export.kind import ExportPart
from lkd.edge.export.preprocessing import class_names, described_inputs

from ..students import Samples


def part(**shapes):
    inputs = {name: torch.zeros(2, *shape) for name, shape in shapes.items()}
    return ExportPart("", torch.nn.Identity(), inputs, ["y"], 3)


def described(data, mean=None, std=None, kind="logits", **shapes):
    return described_inputs(part(**shapes), kind, data, mean, std)


def test_data_say_how_they_are_normalized(tmp_path):
    (digits,) = described(Digits(), x=(1, 8, 8))
    assert digits["normalization"] == {"scale": 16.0, "mean": [0.0], "std": [1.0]}
    federated = FederatedDataModule(Digits(), IID(), clients=2)
    assert described(federated, x=(1, 8, 8)) == [digits]
    (folder,) = described(ImageFolderData(str(tmp_path), mean=[0.5], std=[0.25]), x=(3, 8, 8))
    assert folder["normalization"] == {"scale": 255.0, "mean": [0.5], "std": [0.25]}
    assert folder["resize"]["how"] == "stretch"
    (frames,) = described(YoloFolder(str(tmp_path), image_size=300), kind="boxes", images=(3, 192, 320))
    assert frames["normalization"] == {"scale": 255.0, "mean": [0.0], "std": [1.0]}
    assert frames["resize"]["longer_side"] == 300 and frames["resize"]["pad_value"] == 114


def test_moments_of_signals():
    class Wearables(Samples):
        @property
        def moments(self):
            return {"acc": ChannelMoments(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))}

    with pytest.warns(UserWarning, match="Wearables does not say how gyro is .* where values are"):
        acc, gyro = described(Wearables(), acc=(2, 50), gyro=(2, 50))
    assert gyro["normalization"] is None
    assert acc["layout"] == "NCT" and acc["normalization"] == {
        "scale": 1.0,
        "mean": [1.0, 2.0],
        "std": [3.0, 4.0],
    }


def test_what_nobody_says_is_null_with_a_warning_and_can_be_given():
    class Bare(Samples):
        def __getattribute__(self, name):
            if name in ("mean", "std", "classes"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    with pytest.warns(UserWarning, match=r"Bare does not say how x is .* where pixels / 255 are"):
        assert described(Bare(), x=(3, 2, 2))[0]["normalization"] is None
    (given,) = described(Bare(), mean=[0.5], std=[0.5], x=(3, 2, 2))
    assert given["normalization"]["mean"] == [0.5]
    with pytest.raises(ValueError, match="for each of the 3 channels"):
        described(Bare(), mean=[0.5, 0.5], std=[1.0, 1.0], x=(3, 2, 2))


@pytest.mark.parametrize("numbers", [torch.tensor, np.array, list, lambda found: found[0]])
def test_data_of_ones_own_say_it_in_any_form(numbers):
    class Own(Samples):
        mean, std = numbers([0.5, 0.5, 0.5]), numbers([0.25, 0.25, 0.25])

    (found,) = described(Own(), x=(3, 2, 2))
    assert set(found["normalization"]["mean"]) == {0.5} and set(found["normalization"]["std"]) == {0.25}


def test_names_of_classes():
    assert class_names(None, Samples(), 3) == ["cat", "dog", "cow"]
    assert class_names(["a", "b"], Samples(), 2) == ["a", "b"]
    assert class_names(None, Digits(), 2) == ["0", "1"]
    with pytest.warns(UserWarning, match="has 3 classes and the student 4"):
        assert class_names(None, Samples(), 4) == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match=r"classes=\['a'\] are 1 names, but the student has 3 classes"):
        class_names(["a"], Samples(), 3)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"classes": {"truck": 1, "car": 0}}, ["car", "truck"]),  # in the order of their numbers
        ({"classes": {"car": 0, "van": 0, "truck": 1}}, ["0", "truck"]),
        ({"class_map": {2: 0, 0: 1}, "names": ["car", "bus", "truck"]}, ["truck", "car"]),
        ({"class_map": {0: 0, 1: 0, 2: 1}, "names": []}, ["0", "1"]),
        ({"classes": None, "names": ["car", "bus"]}, ["car", "bus"]),
    ],
)
def test_names_stand_at_the_numbers_that_the_data_give_them(said, names):
    data = LightningDataModule()
    for name, value in said.items():
        setattr(data, name, value)
    assert class_names(None, data, 2) == names
