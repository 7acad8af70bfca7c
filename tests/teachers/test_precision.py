"""A teacher runs in the precision of its own weights, whatever the student's is."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation
from lkd.losses import KD, FitNets, LogitMatching
from lkd.teachers import EMATeacher, PseudoLabels, Teacher
from lkd.teachers.precision import running

X, Y = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


class Student(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Creates(nn.Module):
    """Makes tensors of the default type by itself."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(9, 3)

    def forward(self, x):
        return self.head(torch.cat([x, torch.full((len(x), 1), 0.5)], 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bfloat16])
def test_inputs_are_cast_to_the_weights(dtype, given):
    model = net().to(dtype)
    teacher = Teacher(model)
    output = teacher.tapped(X.to(given), ["", "0"])
    assert output[""].dtype == output["0"].dtype == dtype
    torch.testing.assert_close(output[""], model(X.to(given).to(dtype)).detach())
    part = teacher.part("[2:]")(output["0"].to(given))
    assert part.dtype == dtype


def test_indices_and_masks_are_not_cast():
    model = nn.EmbeddingBag(10, 4, mode="sum").double()
    assert Teacher(model)(torch.tensor([[1, 2], [3, 4]])).dtype == torch.float64


@pytest.mark.parametrize("precision", ["64-true", "32-true", "bf16-mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_fit_in_any_precision(precision, dtype):
    teacher = Teacher(net().to(dtype))
    features = {"student_layer": "net.0", "teacher_layer": "0"}
    terms = [KD(), LogitMatching(), FitNets(**features)]
    options = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    student = Student()
    trainer = Trainer(
        precision=precision,
        max_epochs=1,
        enable_model_summary=False,
        callbacks=[Distillation(teacher, terms)],
        **options,
    )
    trainer.fit(student, DataLoader(TensorDataset(X, Y), batch_size=8))
    assert trainer.callback_metrics["distillation/kd"].isfinite()
    assert teacher.loaded[0].weight.dtype == dtype


def test_an_average_follows_a_student_that_a_trainer_made_double():
    student = net()
    teacher = EMATeacher(student, decay=0.9)
    student.double()[0].weight.data.fill_(3.0)
    teacher.update(student)  # the mean of both, for the first step
    torch.testing.assert_close(teacher.loaded[0].weight, (net()[0].weight + 3.0).detach() / 2)


def test_tensors_that_the_model_makes_are_of_its_type():
    teacher = Teacher(Creates())
    expected = teacher(X)
    try:
        torch.set_default_dtype(torch.float64)  # as a Trainer does under 64-true
        torch.testing.assert_close(teacher(X.double()), expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert Teacher(Creates().double())(X).dtype == torch.float64


def test_autocast_is_for_weights_in_single_precision():
    with torch.autocast("cpu", torch.bfloat16):
        assert Teacher(net())(X).dtype == torch.bfloat16
        assert Teacher(net().half())(X).dtype == torch.float16
        assert Teacher(net().double())(X).dtype == torch.float64
        with running(net(), "32", "cpu"):
            assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32", torch.float16), ("32", torch.float64), ("bf16", torch.float64), ("int8", torch.float64)],
)
def test_a_precision_that_the_weights_are_not_of_is_refused(precision, dtype):
    with pytest.raises(
        ValueError, match=f"precision='{precision}', but the teacher Sequential has weights in {dtype}"
    ):
        Teacher(net().to(dtype), precision=precision)


@pytest.mark.parametrize("precision", ["16-true", "64", 16, "fp16", "bf16-mixed"])
def test_an_unknown_precision_is_refused(precision):
    with pytest.raises(ValueError, match=r"precision=.* must be '32', 'bf16', 'int8' or None"):
        Teacher(net(), precision=precision)


def test_weights_of_two_types_that_do_not_meet_are_told():
    model = net()
    model[3].half()
    with pytest.raises(RuntimeError, match=r"weights are \[torch.float32, torch.float16\]; see precision"):
        Teacher(model)(X)


def test_boxes_of_a_detector_in_half_precision():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4).half())

        def forward(self, images):
            assert images.dtype == torch.float16
            boxes = self.scale[None] * torch.tensor([[0.0, 0.0, 4.0, 4.0]]).half()
            one = {"boxes": boxes, "scores": torch.ones(1).half(), "labels": torch.zeros(1).long()}
            return [one] * len(images)

    batch = PseudoLabels(Teacher(Half(), batch_size=2))({"images": torch.rand(3, 3, 8, 8)})
    assert len(batch["targets"]) == 3 and batch["targets"][0]["boxes"].dtype == torch.float32
