"""CRD: its loss on a memory that is known, and how the memory changes."""

import copy

import numpy as np
import pytest
import torch

from lkd.losses import CRD

M, DIM = 6, 4
CLASSES = torch.tensor([0, 0, 0, 1, 1, 1])
LABELS = torch.tensor([[0, 1], [1, 5]])  # class and place


def features(seed, width, batch=2):
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed))


def setup(negatives=3, **kwargs):
    """With classes known and as many negatives as there are, what is drawn is known too."""
    term = CRD(num_data=M, negatives=negatives, dim=DIM, **kwargs)
    memory = term.adapter(features(0, 3), features(1, 5))
    memory.classes.copy_(CLASSES)
    return term, memory


def reference(memory, student, teacher, temperature):
    """The authors' densities, with their constant from this batch, over all negatives."""
    with torch.no_grad():
        embedded = memory.embed(student, teacher)
    total = 0.0
    for anchors, bank in zip(embedded, (memory.teacher, memory.student), strict=True):
        rows = []
        for anchor, (label, place) in zip(anchors, LABELS.tolist(), strict=True):
            places = [place] + [j for j in range(M) if CLASSES[j] != label]
            rows.append([np.exp(float(anchor @ bank[j]) / temperature) for j in places])
        density = np.array(rows)
        density = density / (density.mean() * M)
        noise = 3 / M
        total -= np.log(density[:, 0] / (density[:, 0] + noise)).sum() / len(LABELS)
        total -= np.log(noise / (density[:, 1:] + noise)).sum() / len(LABELS)
    return total


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_loss_in_loops(temperature):
    term, memory = setup(temperature=temperature)
    student, teacher = features(0, 3), features(1, 5)
    expected = reference(memory, student, teacher, temperature)
    assert term(student, teacher, LABELS, memory).item() == pytest.approx(expected, rel=1e-4)


def test_the_noise_level_is_that_of_the_first_batch():
    term, memory = setup()
    term(features(0, 3), features(1, 5), LABELS, memory)
    first = memory.log_noise.clone()
    assert memory.calibrated and first.all()
    term(features(2, 3), features(3, 5), LABELS, memory)
    assert torch.equal(memory.log_noise, first)


def test_memory_is_a_running_average_of_unit_length():
    term, memory = setup(momentum=0.25)
    student, teacher = features(0, 3), features(1, 5)
    before = copy.deepcopy(memory)
    term(student, teacher, LABELS, memory)
    new = before.embed(student, teacher)
    for name, embedded in zip(("student", "teacher"), new, strict=True):
        old, now = getattr(before, name), getattr(memory, name)
        for row, place in enumerate(LABELS[:, 1].tolist()):
            mixed = 0.25 * old[place] + 0.75 * embedded[row].detach()
            torch.testing.assert_close(now[place], mixed / mixed.norm())
        others = [j for j in range(M) if j not in LABELS[:, 1].tolist()]
        assert torch.equal(now[others], old[others])


def test_classes_become_known_and_keep_samples_of_the_same_class_apart():
    term, memory = setup()
    memory.classes.fill_(-1)
    term(features(0, 3), features(1, 5), LABELS, memory)
    assert memory.classes.tolist() == [-1, 0, -1, -1, -1, 1]
    # the negatives of a sample, were they of its class, would change the loss
    term, memory = setup(negatives=3)
    changed = copy.deepcopy(memory)
    changed.teacher[[0, 2]] *= -1  # both of class 0
    labels = LABELS[:1]
    torch.testing.assert_close(
        term(features(0, 3, 1), features(1, 5, 1), labels, memory),
        term(features(0, 3, 1), features(1, 5, 1), labels, changed),
    )


def test_negatives_depend_on_seed_and_step_and_never_on_the_global_state():
    def losses(seed):
        term, memory = setup(negatives=2, seed=seed)
        return [term(features(0, 3), features(1, 5), LABELS, memory).item() for _ in range(4)]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = losses(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert losses(0) == first != losses(1)


def test_more_negatives_than_there_are_are_drawn_with_replacement():
    term, memory = setup(negatives=50)
    assert term(features(0, 3), features(1, 5), LABELS, memory).isfinite()


def test_without_gradients_nothing_is_remembered():
    term, memory = setup()
    before = copy.deepcopy(memory.state_dict())
    with torch.no_grad():
        term(features(0, 3), features(1, 5), LABELS, memory)
    for name, value in memory.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_gradient_reaches_student_and_embeddings_but_not_the_teacher():
    term, memory = setup()
    student, teacher = features(0, 3).requires_grad_(), features(1, 5).requires_grad_()
    term(student, teacher, LABELS, memory).backward()
    assert student.grad.any() and teacher.grad is None
    assert all(p.grad.any() for p in memory.parameters())


def test_loss_goes_down_and_samples_find_themselves():
    torch.manual_seed(0)
    teacher = features(5, 8, M)
    labels = torch.stack([CLASSES, torch.arange(M)], 1)
    student = torch.nn.Linear(8, 8)
    term = CRD(num_data=M, negatives=3, dim=DIM)
    memory = term.adapter(teacher, teacher)
    optimizer = torch.optim.Adam([*student.parameters(), *memory.parameters()], lr=0.02)
    values = []
    for _ in range(60):
        loss = term(student(teacher), teacher, labels, memory)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    ours, theirs = memory.embed(student(teacher), teacher)
    table = ours @ theirs.T
    different = CLASSES[:, None] != CLASSES
    assert (table.diagonal() > table.masked_fill(~different, -2).amax(1)).all()


def test_bad_input():
    term, memory = setup()
    student, teacher = features(0, 3), features(1, 5)
    for labels in (None, CLASSES[:2], LABELS.float()):
        with pytest.raises(ValueError, match=r"CRD needs labels \(2, 2\).*QueueCRD"):
            term(student, teacher, labels, memory)
    with pytest.raises(ValueError, match=r"sample indices from 1 to 6 do not fit num_data=6"):
        term(student, teacher, torch.tensor([[0, 1], [1, 6]]), memory)
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        term(student, teacher, LABELS)
    memory.classes.fill_(0)
    with pytest.raises(ValueError, match="a sample has no negatives"):
        term(student, teacher, torch.tensor([[0, 1], [0, 5]]), memory)
    for arguments, words in (
        ({"num_data": 1}, "num_data=1 must be 2 or more"),
        ({"num_data": 9, "negatives": 0}, "negatives=.* must be above 0"),
        ({"num_data": 9, "dim": 0}, "dim=.* must be above 0"),
        ({"num_data": 9, "temperature": 0.0}, "temperature=.* must be above 0"),
        ({"num_data": 9, "momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            CRD(**arguments)
