"""Pixel-wise distillation against KD on each pixel, with pixels left out, and on maps of two sizes."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation
from lkd.losses import KD, PixelKD, kd_loss, pixel_kd_loss
from lkd.teachers import Teacher


def maps(seed, *size):
    return 2 * torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(value):
    return value.movedim(1, -1).reshape(-1, value.shape[1])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_is_kd_of_each_pixel(temperature):
    student, teacher = maps(0, 3, 4), maps(1, 3, 4)
    expected = sum(
        kd_loss(student[:, :, i, j], teacher[:, :, i, j], temperature) for i in range(3) for j in range(4)
    )
    torch.testing.assert_close(pixel_kd_loss(student, teacher, temperature), expected / 12)


def test_gradient_is_that_of_the_authors_soft_cross_entropy():
    student, teacher = maps(0, 3, 4).requires_grad_(), maps(1, 3, 4).requires_grad_()
    soft = F.softmax(rows(teacher.detach()), 1)
    published = -(soft * F.log_softmax(rows(student), 1)).sum() / 3 / 4  # summed over the batch of 2
    (expected,) = torch.autograd.grad(published, student)
    pixel_kd_loss(student, teacher).backward()
    torch.testing.assert_close(student.grad, expected / 2)
    assert teacher.grad is None


def test_ignored_pixels_count_neither_above_nor_below_the_line():
    student, teacher = maps(0, 3, 4).requires_grad_(), maps(1, 3, 4)
    labels = torch.randint(5, (2, 3, 4), generator=torch.Generator().manual_seed(2))
    labels[0, 1], labels[1, 2, 3] = 255, 255
    kept = (labels != 255).flatten()
    expected = kd_loss(rows(student)[kept], rows(teacher)[kept], 1.0)
    term = PixelKD(ignore_index=255)
    assert term.needs_labels and not PixelKD().needs_labels
    value = term(student, teacher, labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(term(student, teacher, labels[:, None]), expected)
    value.backward()
    assert not student.grad[0, :, 1].any() and student.grad[0, :, 0].all()
    assert term(student, teacher, torch.full_like(labels, 255)).item() == 0


def test_labels_of_another_size_are_looked_up_at_the_nearest_pixel():
    student, teacher = maps(0, 2, 2), maps(1, 2, 2)
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[:, :2, :2] = -100
    kept = torch.tensor([False, True, True, True] * 2)
    expected = kd_loss(rows(student)[kept], rows(teacher)[kept], 1.0)
    torch.testing.assert_close(PixelKD(ignore_index=-100)(student, teacher, labels), expected)


def test_maps_of_other_sizes_are_refused_or_resized():
    student, teacher = maps(0, 4, 6), maps(1, 2, 3)
    with pytest.raises(ValueError, match=r"have \(4, 6\) pixels, the teacher's \(2, 3\): give resize=True"):
        pixel_kd_loss(student, teacher)
    resized = F.interpolate(teacher, (4, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(PixelKD(resize=True)(student, teacher), pixel_kd_loss(student, resized))


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(B, C, H, W\) with the same classes.*got \(2, 5, 3\)"):
        pixel_kd_loss(maps(0, 3), maps(0, 3))
    with pytest.raises(ValueError, match="same classes in the same order"):
        pixel_kd_loss(maps(0, 3, 3), maps(0, 3, 3)[:, :4])
    with pytest.raises(ValueError, match=r"softmax over 1 class is always 1 .*SigmoidKD"):
        pixel_kd_loss(maps(0, 3, 3)[:, :1], maps(0, 3, 3)[:, :1])
    with pytest.raises(ValueError, match=r"ignore_index=255 needs labels \(B, H, W\), got none"):
        PixelKD(ignore_index=255)(maps(0, 3, 3), maps(0, 3, 3))
    with pytest.raises(ValueError, match="give no one-hot maps"):
        PixelKD(ignore_index=255)(maps(0, 3, 3), maps(0, 3, 3), torch.zeros(2, 5, 3, 3))
    with pytest.raises(ValueError, match=r"got \(2, 5, 3, 3\) .*give PixelKD for maps"):
        KD()(maps(0, 3, 3), maps(0, 3, 3))


class Segmenter(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return {"out": self.net(x)}

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0])["out"], batch[1], ignore_index=255)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_segmenter_is_distilled_with_its_label_maps():
    torch.manual_seed(0)
    x, y = torch.rand(4, 3, 6, 6), torch.randint(4, (4, 6, 6))
    y[:, :3] = 255
    teacher = Teacher(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)), batch_size=3)
    term = PixelKD(resize=True, ignore_index=255, student_layer=":out")
    student = Segmenter()
    expected = term(student(x)["out"], teacher(x), y).item()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Distillation(teacher, [term])],
    )  # fmt: skip
    trainer.fit(student, DataLoader(TensorDataset(x, y), batch_size=4))
    assert trainer.callback_metrics["distillation/pixelkd"].item() == pytest.approx(expected, rel=1e-5)
