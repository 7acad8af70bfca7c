"""What exits answer and cost."""

import numpy as np
import pytest
import torch
from torch import nn

from lkd.edge.offload.arms.exits import ExitArm, answers_of, costs
from lkd.edge.offload.arms.work import Work, work
from lkd.edge.offload.gates import Learned, Margin
from lkd.models import MultiExit


def network():
    body = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    return MultiExit(body, ["0", "1"], image_size=8, in_channels=1).eval()


def test_macs_of_each_exit_by_hand():
    stage = 2 * 1 * 9 * 64
    head = 2 * 1 * 64 + 1 * 1 * 4 * 16 + 1 * 4 * 16 + 4 * 3  # 1 x 1, 2 x 2 of stride 2, 1 x 1, linear
    rest = 4 * 2 * 9 * 16 + 4 * 3
    found = costs(network(), torch.zeros(1, 1, 8, 8))
    assert [one.macs for one in found] == [stage + head, stage + head + rest]
    assert all(one.ms > 0 for one in found)


def test_work_adds_up():
    twice = work(nn.Linear(3, 2), torch.zeros(1, 3)) + Work(4.0, 1.0)
    assert twice.macs == 10.0 and twice.ms > 1.0


def test_answers_of_all_exits_are_distributions_whatever_the_chunks():
    net, x = network(), torch.rand(130, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shallow, deep = answers_of(net, x)
    np.testing.assert_allclose(deep, net(x).double().softmax(1).detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(shallow, net.exits(x)[0][0].double().softmax(1).detach().numpy(), rtol=1e-5)


def test_doubt_is_a_gates():
    class Some(ExitArm):
        def points(self, data, conditions):
            return []

    answers = [np.array([[0.5, 0.3, 0.2]]), np.array([[0.9, 0.05, 0.05]])]
    np.testing.assert_allclose(Some("x.ckpt", gate=Margin()).doubts(answers), [[-0.2], [-0.85]])
    with pytest.raises(ValueError, match="gate=Learned: an exit knows its probabilities alone"):
        Some("x.ckpt", gate=Learned())
