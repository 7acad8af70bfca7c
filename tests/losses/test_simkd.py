"""SimKD: the projector, its loss, and the student that reuses the teacher's classifier."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from lkd.losses import Projector, ReusedClassifier, SimKD


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_projector_is_a_bottleneck_of_three_convolutions():
    projector = Projector(6, 10, factor=2)
    convolutions = [m for m in projector.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions] == [
        (6, 5, 1),
        (5, 5, 3),
        (5, 10, 1),
    ]
    assert all(c.bias is None for c in convolutions)
    assert [type(m) for m in projector.layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
    assert (projector(maps(0, 2, 6, 4, 4)) >= 0).all()


@pytest.mark.parametrize(("student_side", "teacher_side"), [(4, 4), (8, 4), (4, 8)])
def test_loss_is_the_mean_square_at_the_smaller_size(student_side, teacher_side):
    student, teacher = maps(0, 2, 6, student_side, student_side), maps(1, 2, 10, teacher_side, teacher_side)
    term = SimKD()
    projector = term.adapter(student, teacher).eval()
    value = term(student, teacher, adapter=projector)

    def small(x):
        k = x.shape[2] // 4
        return x.reshape(*x.shape[:2], 4, k, 4, k).mean((3, 5))

    expected = np.mean((projector(small(student)).detach().numpy() - small(teacher).numpy()) ** 2)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gradient_reaches_student_and_projector_but_not_the_teacher():
    student, teacher = maps(0, 2, 6, 4, 4).requires_grad_(), maps(1, 2, 10, 4, 4).requires_grad_()
    term = SimKD()
    projector = term.adapter(student, teacher)
    term(student, teacher, adapter=projector).backward()
    assert student.grad.any() and teacher.grad is None
    assert all(p.grad.any() for p in projector.parameters())


def test_gradcheck():
    student = maps(0, 2, 3, 2, 2).double().requires_grad_()
    projector = Projector(3, 4).double()
    teacher = maps(1, 2, 4, 2, 2).double()
    assert torch.autograd.gradcheck(lambda s: SimKD()(s, teacher, adapter=projector), student)


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 10, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(10, 7)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


def test_deployed_student_is_the_teachers_head_on_projected_features():
    torch.manual_seed(0)
    teacher, backbone, projector = Teacher(), nn.Conv2d(3, 6, 3, padding=1), Projector(6, 10).eval()
    student = ReusedClassifier(backbone, projector, teacher.fc).eval()
    x = maps(0, 4, 3, 8, 8)
    projected = projector(backbone(x))
    expected = [[projected[b, c].mean().item() for c in range(10)] for b in range(4)]
    torch.testing.assert_close(student(x), teacher.fc(torch.tensor(expected)))
    whole = ReusedClassifier(
        backbone, projector, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), teacher.fc), pool=False
    )
    torch.testing.assert_close(whole.eval()(x), student(x))


def test_with_the_teachers_features_it_has_the_teachers_logits():
    """What the paper promises for a loss of 0."""
    torch.manual_seed(0)
    teacher, x = Teacher(), maps(0, 4, 3, 8, 8)
    features = teacher.body(x)
    student = ReusedClassifier(teacher.body, nn.Identity(), teacher.fc)
    assert SimKD()(features, features, adapter=nn.Identity()) == 0
    torch.testing.assert_close(student(x), teacher(x))


def test_deployed_head_is_a_frozen_copy_and_the_maps_shrink_as_in_training():
    teacher, backbone = Teacher(), nn.Conv2d(3, 6, 3, padding=1)
    projector = Projector(6, 10).eval()
    student = ReusedClassifier(backbone, projector, teacher.fc, size=(4, 4)).eval()
    assert all(p.requires_grad for p in teacher.fc.parameters())
    assert not any(p.requires_grad for p in student.head.parameters())
    x = maps(0, 2, 3, 8, 8)
    before = student(x)
    small = backbone(x).reshape(2, 6, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(before, teacher.fc(projector(small).mean((2, 3))))
    with torch.no_grad():
        teacher.fc.weight.zero_()
    torch.testing.assert_close(student(x), before)


@pytest.mark.parametrize(("width", "factor"), [(10, 2), (16, 3), (10, 4), (3, 8), (5, 1)])
def test_projector_comes_out_of_a_checkpoint_with_its_batch_statistics(width, factor):
    term = SimKD(factor=factor)
    projector = term.adapter(maps(0, 2, 6, 4, 4), maps(1, 2, width, 4, 4))
    projector(maps(2, 8, 6, 4, 4))  # moves the statistics
    adapters = nn.ModuleDict({"fitnets": nn.Conv2d(1, 1, 1), "simkd": projector}).state_dict()
    again = Projector.from_state(adapters, "simkd.").eval()
    torch.testing.assert_close(again(maps(3, 2, 6, 4, 4)), projector.eval()(maps(3, 2, 6, 4, 4)))
    with pytest.raises(ValueError, match=r"prefix='simkd_2.' leads to no projector"):
        Projector.from_state(adapters, "simkd_2.")


def test_backbone_can_be_cut_out_of_a_network_without_its_own_classifier():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 7)
    )
    backbone = create_feature_extractor(net, {"1": "maps"})
    student = ReusedClassifier(backbone, Projector(6, 10), nn.Linear(10, 7))
    x = maps(0, 2, 3, 8, 8)
    torch.testing.assert_close(backbone(x)["maps"], net[:2](x))
    assert student(x).shape == (2, 7)
    assert "4.weight" not in student.backbone.state_dict()
    assert copy.deepcopy(student)(x).shape == (2, 7)


def test_training_brings_the_deployed_student_to_the_teachers_answers():
    torch.manual_seed(0)
    teacher, backbone = Teacher().eval(), nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
    x = maps(0, 64, 3, 4, 4)
    target = teacher.body(x).detach()
    term = SimKD()
    projector = term.adapter(backbone(x), target)
    student = ReusedClassifier(backbone, projector, teacher.fc)
    answers = teacher(x).argmax(1)

    def agreement():
        student.eval()
        with torch.no_grad():
            return (student(x).argmax(1) == answers).float().mean().item()

    before = agreement()
    student.train()
    optimizer = torch.optim.Adam([*backbone.parameters(), *projector.parameters()], lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        term(backbone(x), target, adapter=projector).backward()
        optimizer.step()
    assert agreement() > max(before, 0.6)


def test_bad_input():
    student, teacher = maps(0, 2, 6, 4, 4), maps(1, 2, 10, 4, 4)
    with pytest.raises(ValueError, match=r"factor=0 must be above 0"):
        SimKD(factor=0)
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        SimKD()(student, teacher)
    with pytest.raises(ValueError, match="teacher's features must be maps"):
        SimKD().adapter(student, maps(1, 2, 10))
