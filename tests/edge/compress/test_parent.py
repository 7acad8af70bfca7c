"""The dense student as a teacher is shown what the student sees."""

import torch
from torch import nn

from lkd.datamodules import YoloFolder
from lkd.edge.compress import Parent
from lkd.teachers import PseudoLabels, Teacher
from tests.roads import write_roads


class Seen(nn.Module):
    """A detector that finds a quarter of the picture, and keeps its size."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        raise AssertionError("it is asked by detect")

    def detect(self, images, cameras=None):
        height, width = images.shape[-2:]
        self.sizes.append((height, width))
        quarter = torch.tensor([[0.0, 0.0, width / 2, height / 2]])
        return [{"boxes": quarter, "scores": torch.ones(1), "labels": torch.zeros(1).long()} for _ in images]


def parent():
    teacher, seen = Parent(), Seen()
    teacher.become(seen)
    return teacher, seen


def test_where_the_data_have_a_larger_picture_for_a_teacher():
    batch = {
        "images": torch.zeros(1, 3, 32, 64),
        "sizes": [(32, 64)],
        "teacher_images": torch.zeros(1, 3, 128, 256),
        "teacher_sizes": [(128, 256)],
    }
    teacher, seen = parent()
    (target,) = PseudoLabels(teacher)(batch)["targets"]
    assert seen.sizes == [(32, 64)] and target["boxes"].tolist() == [[0, 0, 32, 16]]
    oracle = Seen()
    (target,) = PseudoLabels(Teacher(oracle))(batch)["targets"]
    assert oracle.sizes == [(128, 256)] and target["boxes"].tolist() == [[0, 0, 32, 16]]


def test_whole_frames(tmp_path):
    root = write_roads(tmp_path, count=3, size=(64, 64))
    data = YoloFolder(str(root), image_size=64, teacher_size=128, batch_size=2, fractions=(1.0, 0.0, 0.0))
    data.setup("fit")
    teacher, seen = parent()
    labels = PseudoLabels(teacher, sees="frame", frames=data.serve_whole_frames(of_student=True))
    labels(next(iter(data.train_dataloader())))
    assert seen.sizes == [(64, 64)]
