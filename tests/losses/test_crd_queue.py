"""CRD with a queue: its loss against loops, first in first out, and what it leaves alone."""

import copy

import numpy as np
import pytest
import torch

from lkd.losses import QueueCRD, nce_loss


def features(seed, width, batch=3):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 1, 0])


def setup(**kwargs):
    term = QueueCRD(**({"queue": 7, "dim": 4} | kwargs))
    return term, term.adapter(features(0, 3), features(1, 5))


def reference(queue, past, batch, labels, log_noise, temperature):
    """`past`: the embeddings of what is queued, and its classes."""
    total = 0.0
    for direction in (0, 1):
        anchors, keys = batch[direction], batch[1 - direction]
        candidates = [*past[1 - direction], *keys]
        classes = [*past[2], *labels.tolist()]
        for b, anchor in enumerate(anchors):
            negative = [
                np.exp(float(anchor @ key) / temperature)
                for key, label in zip(candidates, classes, strict=True)
                if label != labels[b]
            ]
            positive = np.exp(float(anchor @ keys[b]) / temperature)
            noise = len(negative) * np.exp(log_noise[direction].item())
            total -= np.log(positive / (positive + noise)) / len(anchors)
            total -= sum(np.log(noise / (n + noise)) for n in negative) / len(anchors)
    return total


def test_loss_in_loops_over_two_steps_with_a_queue_that_is_half_full():
    term, queue = setup(temperature=0.3)
    with torch.no_grad():
        embedded = [
            [x.clone() for x in queue.embed(features(2 * k, 3), features(2 * k + 1, 5))] for k in range(2)
        ]
    first = term(features(0, 3), features(1, 5), LABELS, queue)
    log_noise = queue.log_noise.clone()
    empty = ([], [], [])
    expected = reference(queue, empty, embedded[0], LABELS, log_noise, 0.3)
    assert first.item() == pytest.approx(expected, rel=1e-5)
    labels = torch.tensor([1, 1, 2])
    second = term(features(2, 3), features(3, 5), labels, queue)
    expected = reference(queue, (*embedded[0], LABELS.tolist()), embedded[1], labels, log_noise, 0.3)
    assert second.item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(queue.log_noise, log_noise)


def test_noise_level_is_the_mean_score_of_the_first_batch():
    term, queue = setup(temperature=0.3)
    ours, theirs = queue.embed(features(0, 3), features(1, 5))
    term(features(0, 3), features(1, 5), LABELS, queue)
    table = (ours @ theirs.T / 0.3).exp()
    pairs = (LABELS[:, None] != LABELS) | torch.eye(3, dtype=torch.bool)
    for direction, scores in enumerate((table, table.T)):
        assert queue.log_noise[direction].exp().item() == pytest.approx(scores[pairs].mean().item(), rel=1e-5)


def test_first_in_first_out():
    term, queue = setup(queue=5)
    for step in range(3):
        labels = torch.arange(3) + 3 * step
        term(features(2 * step, 3), features(2 * step + 1, 5), labels, queue)
    assert sorted(queue.classes.tolist()) == [4, 5, 6, 7, 8] and queue.seen == 9
    last = queue.embed(features(4, 3), features(5, 5))
    for name, embedded in zip(("student", "teacher"), last, strict=True):
        for label, expected in zip((6, 7, 8), embedded, strict=True):
            place = queue.classes.tolist().index(label)
            torch.testing.assert_close(getattr(queue, name)[place], expected)


def test_a_batch_larger_than_the_queue_leaves_its_end():
    term, queue = setup(queue=2)
    term(features(0, 3), features(1, 5), torch.tensor([4, 5, 6]), queue)
    assert sorted(queue.classes.tolist()) == [5, 6]


def test_a_batch_of_one_class_only_pulls_and_sets_no_noise_level():
    term, queue = setup()
    student = features(0, 3).requires_grad_()
    value = term(student, features(1, 5), torch.zeros(3, dtype=torch.int64), queue)
    value.backward()
    assert value.isfinite() and student.grad.isfinite().all() and not queue.calibrated


def test_without_gradients_nothing_is_queued():
    term, queue = setup()
    before = copy.deepcopy(queue.state_dict())
    with torch.no_grad():
        term(features(0, 3), features(1, 5), LABELS, queue)
    for name, value in queue.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_gradient_reaches_student_and_embeddings_but_not_the_teacher():
    term, queue = setup()
    student, teacher = features(0, 3).requires_grad_(), features(1, 5).requires_grad_()
    term(student, teacher, LABELS, queue).backward()
    assert student.grad.any() and teacher.grad is None
    assert all(p.grad.any() for p in queue.parameters())


def test_the_student_moves_for_its_own_direction_only():
    """In the other one its embeddings are keys, which the queue holds as constants too."""
    term, queue = setup(temperature=0.3)
    student = features(0, 3).requires_grad_()
    ours, theirs = queue.embed(student, features(1, 5))
    scores = ours @ theirs.detach().T / 0.3
    different = LABELS[:, None] != LABELS
    log_noise = scores[different | torch.eye(3, dtype=torch.bool)].detach().exp().mean().log()
    own = nce_loss(scores.diagonal(), scores, log_noise, different)
    (expected,) = torch.autograd.grad(own, student)
    term(student, features(1, 5), LABELS, queue).backward()
    torch.testing.assert_close(student.grad, expected)


def test_loss_goes_down_and_samples_find_themselves():
    torch.manual_seed(0)
    teacher, labels = features(5, 8, 12), torch.arange(12) % 4
    student = torch.nn.Linear(8, 8)
    term = QueueCRD(queue=24, dim=8)
    queue = term.adapter(teacher, teacher)
    optimizer = torch.optim.Adam([*student.parameters(), *queue.parameters()], lr=0.02)
    values = []
    for _ in range(60):
        loss = term(student(teacher), teacher, labels, queue)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * max(values[:5])
    ours, theirs = queue.embed(student(teacher), teacher)
    negatives = (ours @ theirs.T).masked_fill(labels[:, None] == labels, -2)
    assert ((ours * theirs).sum(1) > negatives.amax(1)).all()


def test_bad_input():
    term, queue = setup()
    student, teacher = features(0, 3), features(1, 5)
    for labels in (None, LABELS[:2], LABELS.float()):
        with pytest.raises(ValueError, match=r"QueueCRD needs labels \(3,\), integers"):
            term(student, teacher, labels, queue)
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        term(student, teacher, LABELS)
    for name in ("queue", "dim", "temperature"):
        with pytest.raises(ValueError, match=rf"{name}=.* must be above 0"):
            QueueCRD(**{name: 0})
