"""The traps of published code on federated distillation; each test fails on the wrong version."""

import numpy as np
import pytest
import torch

from lkd.federated import DSFL, FD, FedMD
from lkd.federated.client.context import SCRATCH
from lkd.federated.knowledge.common.added_loss import add_loss
from lkd.federated.knowledge.common.client_ensemble import ClientEnsemble
from lkd.federated.knowledge.common.distill_public import distill, soft_cross_entropy
from lkd.federated.knowledge.common.forward import outputs
from lkd.taps import Call

from .public import Rows, model, net
from .test_feddf import Loop

LOSSES = (
    FedMD(of="probabilities").compare,
    FedMD(of="probabilities", temperature=2.0).compare,
    DSFL().compare,
)


def said(clients=3, n=4, c=5):
    g = torch.Generator().manual_seed(0)
    return 4 * torch.randn(clients, n, c, generator=g, dtype=torch.float64)


class Server:
    """As much of a round as an ensemble needs that has heard its clients."""

    models = ()

    def gather_objects(self, value):
        return [value]


def ensemble(of):
    found = ClientEnsemble(Server(), "", 8, of, 1.0)
    found._said = list(enumerate(said().float()))
    return found.answer()


@pytest.mark.parametrize(
    "targets",
    [
        lambda: FedMD(of="probabilities").agree(None, said(), []),
        lambda: DSFL().agree(None, said(), []),
        lambda: ensemble("logits"),
        lambda: ensemble("probabilities"),
    ],
)
def test_targets_of_a_cross_entropy_are_probabilities_not_raw_logits(targets):
    """Raw logits as targets pull without end: at no finite student is the gradient zero."""
    found = targets().double()
    torch.testing.assert_close(found.sum(1), torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)
    assert float(found.min()) >= 0
    student = found.clamp_min(1e-300).log().requires_grad_()
    soft_cross_entropy(student, found).backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-7)


@pytest.mark.parametrize("compare", LOSSES)
def test_the_loss_is_summed_over_classes(compare):
    """A class that nobody believes in changes nothing; a mean over classes would shrink the loss."""
    targets, logits = said()[0].softmax(1), said()[1]
    never = torch.full((4, 1), -1e3, dtype=torch.float64)
    wider = torch.cat([logits, never], 1), torch.cat([targets, torch.zeros(4, 1, dtype=torch.float64)], 1)
    assert float(compare(*wider)) == pytest.approx(float(compare(logits, targets)), rel=1e-12)


def test_the_loss_is_a_mean_over_samples():
    targets, logits = said()[0].softmax(1), said()[1]
    one = soft_cross_entropy(logits, targets, 2.0)
    two = soft_cross_entropy(torch.cat([logits] * 3), torch.cat([targets] * 3), 2.0)
    assert float(one) == pytest.approx(float(two), rel=1e-12)


def test_temperature_keeps_the_size_of_the_gradient():
    """d/dz = T (softmax(z / T) - q) / B, for large T (z - z_T) / (B C): without T^2 it would vanish."""
    z, teacher = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True), torch.tensor([[0.0, 2.0, -2.0]])
    soft_cross_entropy(z, (teacher / 1e3).softmax(1), 1e3).backward()
    torch.testing.assert_close(z.grad, (z.detach() - teacher) / 3, rtol=1e-2, atol=1e-3)


def test_no_gradient_reaches_what_teaches():
    """Targets that hang on a graph, as those of a live teacher would."""
    teacher, student, public = net(5), model(3), Rows()
    targets = teacher(public.x).softmax(1)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    steps = distill(
        student,
        optimizer,
        public,
        np.arange(10),
        targets,
        soft_cross_entropy,
        Loop(),
        seed=0,
        epochs=2,
        batch_size=4,
    )
    assert steps == 2 * 3
    assert all(p.grad is None for p in teacher.parameters())
    moved = zip(student.network.parameters(), net(3).parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in moved)


def test_what_a_class_is_told_is_detached_from_the_student():
    """Else the student would move its own teacher, and a graph would grow from batch to batch."""
    algorithm, labels = FD(), torch.tensor([0, 1, 1, 0])
    student = model(3)
    student.log = lambda *args, **kwargs: None
    add_loss(student, algorithm._extra, [""], "added")
    scratch = {"carried": {}}
    vars(student)[SCRATCH] = scratch
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        student.training_step((x, labels)).backward()  # a graph that went on would be freed by now
    assert not scratch["carried"]["mean"].requires_grad
    assert scratch["carried"]["count"].tolist() == [4.0, 4.0]
    torch.testing.assert_close(scratch["carried"]["mean"].sum(1), torch.tensor([4.0, 4.0]))


def test_predictions_are_made_in_eval_mode_and_leave_no_graph():
    student = model(3)
    student.network.insert(2, torch.nn.Dropout(0.5))
    student.train()
    loop, x = Loop(), Rows().x
    calls = [Call((part,), {}) for part in (x[:6], x[6:])]
    first, second = (outputs(student, calls, [""], loop.trainer)[0] for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad and student.training
