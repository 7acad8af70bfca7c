"""Pictures of a classifier: sent as bytes, and refused where they are none."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.datamodules import Digits
from lkd.edge.offload.payload import Payload
from lkd.edge.offload.samples import PictureAnswerSource
from lkd.edge.predict.predictor import softmax
from lkd.teachers import Teacher


class Student:
    """A linear student whose metadata are given."""

    def __init__(self, shape=(1, 8, 8), classes=10, mean=(0.0,), std=(1.0,), layout="NCHW, pixels, gray"):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))
        how = None if mean is None else {"scale": 255.0, "mean": list(mean), "std": list(std)}
        entry = {"name": "x", "shape": ["batch", *shape], "layout": layout, "normalization": how}
        self.spec = {"kind": "logits", "inputs": [entry]}

    @torch.inference_mode()
    def run(self, inputs):
        return {"logits": self.network(torch.from_numpy(inputs["x"])).numpy()}


class Colors(LightningDataModule):
    """Six pictures in color, normalized, of two cameras."""

    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)

    def __init__(self, validation=True, plain=False):
        super().__init__()
        pixels = torch.randint(0, 256, (6, 3, 9, 7), generator=torch.Generator().manual_seed(0)) / 255
        x = (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]
        self.held = TensorDataset(x, torch.arange(6) % 2)
        self.held.columns = {"camera": ["a", "b"] * 3}
        self.validation, self.trained = validation, self.held if plain else [self.held[0]]

    def train_dataloader(self):
        return DataLoader(self.trained)

    def val_dataloader(self):
        return DataLoader(self.held) if self.validation else []

    def test_dataloader(self):
        return DataLoader(self.held, batch_size=4)


def of_colors(teacher=None, **options):
    student = Student((3, 9, 7), 2, Colors.mean, Colors.std, "NCHW, pixels, RGB")
    return PictureAnswerSource(
        student, Teacher(teacher or student.network), Colors(**options), Payload("png")
    )


def test_what_is_sent_without_loss_arrives_as_it_was():
    source = of_colors()
    found = source.ask("test", 0, 6)
    for local, (remote,) in zip(found.local, found.remote, strict=True):
        assert remote["probabilities"] == pytest.approx(local["probabilities"], abs=1e-5)
    assert found.nbytes.min() > 60 and found.sizes.tolist() == [[9, 7]] * 6
    assert source.cameras("test") == ["a", "b"] * 3
    assert [one["label"].tolist() for one in source.truth("test", found)][:2] == [[0], [1]]
    assert source.truth("calibration", found) is None


def test_digits_survive_bytes():
    student = Student()
    source = PictureAnswerSource(student, Teacher(student.network), Digits(), Payload("png"))
    found = source.ask("test", 0, 20)
    x = source.sets["test"].tensors[0][:20]
    wanted = softmax(student.run({"x": x.numpy()})["logits"])
    assert np.stack([r[0]["probabilities"] for r in found.remote]) == pytest.approx(wanted, abs=2e-3)
    assert source.cameras("test") == [""] * 360


def test_where_to_calibrate():
    assert "6 validation pictures, without their labels" in of_colors().calibrated_on
    assert (
        "6 training pictures, as there are no validation pictures"
        in of_colors(validation=False, plain=True).calibrated_on
    )
    with pytest.raises(
        ValueError, match="Colors has no validation pictures, and thresholds are never chosen on test data"
    ):
        of_colors(validation=False)


def test_other_samples_have_another_digest():
    source = of_colors()
    before = source.digest("test")
    source.sets["test"].tensors[0][3, 0, 0, 0] += 1
    assert source.digest("test") != before


def test_teachers_that_do_not_fit():
    with pytest.raises(ValueError, match="the teacher answers with 3 classes and the student with 2"):
        of_colors(nn.Sequential(nn.Flatten(), nn.Linear(189, 3))).ask("test", 0, 2)
    with pytest.raises(
        ValueError, match=r"the teacher answers with Tensor, and a cascade .* needs logits \(B, C\)"
    ):
        of_colors(nn.Flatten(0)).ask("test", 0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "NF"}, "Digits gives NF, and what is sent are pictures"),
        ({"mean": None}, "Digits does not say how its pictures are normalized"),
    ],
)
def test_students_that_take_no_pictures(options, message):
    with pytest.raises(ValueError, match=message):
        PictureAnswerSource(Student(**options), Teacher(nn.Flatten()), Digits(), Payload("png"))


def test_a_wrong_mean_is_noticed():
    source = PictureAnswerSource(
        Student(mean=(0.5,), std=(0.9,)), Teacher(Student().network), Digits(), Payload("png")
    )
    with pytest.raises(ValueError, match=r"pixels of Digits lie in \[0\.50, 1\.40\]"):
        source.ask("test", 0, 3)


def test_pictures_that_a_hook_changes_are_refused():
    class Hooked(Colors):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return [2 * batch[0], batch[1]]

    student = Student((3, 9, 7), 2, Colors.mean, Colors.std, "NCHW, pixels, RGB")
    with pytest.raises(
        ValueError, match=r"Hooked.on_after_batch_transfer changes batches .* in the data set"
    ):
        PictureAnswerSource(student, Teacher(student.network), Hooked(), Payload("png"))
