"""A distilled student beats its twin on real data that neither has seen: same seed, labels and budget."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import LogitDistillation
from lkd.teachers import Teacher

from .plain import Plain, quick_trainer, seeded


def split():
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(data.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return (x[order[:900]], y[order[:900]]), (x[order[900:]], y[order[900:]])


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def train(seed, width, x, y, callbacks, epochs):
    def run():
        student = Plain(width)
        loader = DataLoader(
            TensorDataset(x, y), batch_size=30, shuffle=True, generator=torch.Generator().manual_seed(seed)
        )
        quick_trainer(callbacks=callbacks, max_epochs=epochs).fit(student, loader)
        return student

    return seeded(seed, run)


def test_student_beats_its_undistilled_twin_on_digits():
    (x, y), held_out = split()
    teacher = train(0, 128, x, y, [], epochs=20)
    few_x, few_y = x[:90], y[:90]  # the students have few labels
    alone, taught = [], []
    for seed in range(3):
        alone.append(accuracy(train(seed, 16, few_x, few_y, [], epochs=40), *held_out))
        callback = LogitDistillation(Teacher(teacher), alpha=0.1, temperature=4.0)
        taught.append(accuracy(train(seed, 16, few_x, few_y, [callback], epochs=40), *held_out))
    assert accuracy(teacher, *held_out) > max(alone)
    assert sum(taught) / 3 > sum(alone) / 3 + 0.01, (taught, alone)


def test_a_student_learns_from_the_teacher_alone():
    (x, y), held_out = split()
    teacher = train(0, 128, x, y, [], epochs=20)
    nonsense = torch.zeros_like(y)
    callback = LogitDistillation(Teacher(teacher), alpha=0.0)
    student = train(1, 32, x, nonsense, [callback], epochs=10)
    assert accuracy(student, *held_out) > 0.9
    assert F.one_hot(nonsense).sum() == len(y)  # the labels it was given say nothing
