"""FGD: the global context written out, the parts together, boxes and strides of the levels."""

import numpy as np
import pytest
import torch

from lkd.losses import FGD, box_masks, focal_loss
from lkd.losses.global_context import GlobalContext


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TARGETS = [
    {"boxes": torch.tensor([[3.0, 5.0, 40.0, 22.0]]), "labels": torch.tensor([0])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def context(block, x):
    """The block in numpy, image by image."""
    w = {name: value.detach().double().numpy() for name, value in block.state_dict().items()}
    out = []
    for image in x.double().numpy():
        flat = image.reshape(len(image), -1)
        score = w["weigh.weight"].reshape(1, -1) @ flat + w["weigh.bias"][:, None]
        attention = np.exp(score - score.max())
        pooled = flat @ (attention / attention.sum()).ravel()
        hidden = w["transform.0.weight"][:, :, 0, 0] @ pooled + w["transform.0.bias"]
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
        hidden = hidden * w["transform.1.weight"].ravel() + w["transform.1.bias"].ravel()
        added = w["transform.3.weight"][:, :, 0, 0] @ np.maximum(hidden, 0) + w["transform.3.bias"]
        out.append(image + added[:, None, None])
    return np.array(out)


def stir(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return module


def test_global_context_written_out():
    block = stir(GlobalContext(6, torch.Generator().manual_seed(0)), 1)
    x = maps(0, 2, 6, 3, 4)
    np.testing.assert_allclose(block(x).detach().numpy(), context(block, x), rtol=1e-4, atol=1e-5)


def test_global_context_starts_as_the_identity():
    x = maps(0, 2, 6, 3, 4)
    assert torch.equal(GlobalContext(6, torch.Generator().manual_seed(0))(x), x)


def test_term_is_the_focal_part_and_the_distance_of_the_contexts():
    student, teacher = maps(0, 2, 3, 4, 6), maps(1, 2, 6, 4, 6)
    term = FGD(strides=[8], lambda_=0.3)
    adapter = stir(term.adapter(student, teacher), 2)
    align = adapter[0].align
    weight, bias = align.weight[:, :, 0, 0], align.bias[:, None, None]
    aligned = torch.einsum("oi,bihw->bohw", weight, student) + bias
    masks = box_masks([t["boxes"] for t in TARGETS], (4, 6), (8.0, 8.0))
    expected = focal_loss(aligned, teacher, masks).item()
    ours, theirs = context(adapter[0].student, aligned.detach()), context(adapter[0].teacher, teacher)
    expected += 0.3 * np.sum((ours - theirs) ** 2) / 2
    assert term(student, teacher, TARGETS, adapter).item() == pytest.approx(expected, rel=1e-4)


def test_levels_have_their_strides_and_are_averaged():
    student = [maps(k, 2, 4, *size) for k, size in enumerate([(8, 12), (4, 6), (2, 3)])]
    teacher = [maps(k + 5, *x.shape) for k, x in enumerate(student)]
    term = FGD(lambda_=0.0, student_layer=["a", "b", "c"], teacher_layer=["a", "b", "c"])
    adapter = term.adapter(student, teacher)
    boxes = [t["boxes"] for t in TARGETS]
    expected = [
        focal_loss(s, t, box_masks(boxes, tuple(s.shape[2:]), (stride, stride)))
        for s, t, stride in zip(student, teacher, (8, 16, 32), strict=True)
    ]
    torch.testing.assert_close(term(student, teacher, TARGETS, adapter), sum(expected) / 3)


def test_a_smaller_map_of_the_teacher_makes_the_cells_larger():
    student, teacher = maps(0, 2, 4, 8, 12), maps(1, 2, 4, 4, 4)
    term = FGD(strides=[8], lambda_=0.0)
    pooled = student.reshape(2, 4, 4, 2, 4, 3).mean((3, 5))
    masks = box_masks([t["boxes"] for t in TARGETS], (4, 4), (16.0, 24.0))
    torch.testing.assert_close(
        term(student, teacher, TARGETS, term.adapter(student, teacher)), focal_loss(pooled, teacher, masks)
    )


def test_equal_maps_give_nothing_at_first_and_boxes_matter():
    x, teacher = maps(0, 2, 4, 4, 6), maps(1, 2, 4, 4, 6)
    term = FGD(strides=[8])
    assert term(x, x, TARGETS, term.adapter(x, x)) == 0
    without = [{"boxes": torch.zeros(0, 4)}] * 2
    adapter = term.adapter(x, teacher)
    assert (term(x, teacher, TARGETS, adapter) - term(x, teacher, without, adapter)).abs() > 1e-5


def test_gradient_reaches_student_and_adapter_but_not_the_teacher():
    student, teacher = maps(0, 2, 3, 4, 6).requires_grad_(), maps(1, 2, 6, 4, 6).requires_grad_()
    term = FGD(strides=[8])
    adapter = stir(term.adapter(student, teacher), 0)
    term(student, teacher, TARGETS, adapter).backward()
    assert student.grad.any() and teacher.grad is None
    # a bias before a softmax changes nothing
    assert all(p.grad.any() for name, p in adapter.named_parameters() if not name.endswith("weigh.bias"))


def test_gradcheck():
    student = maps(0, 2, 4, 2, 2).double().requires_grad_()
    teacher = maps(1, 2, 4, 2, 2).double()
    term = FGD(strides=[16], lambda_=0.1)
    adapter = stir(term.adapter(student, teacher), 0).double()
    assert torch.autograd.gradcheck(lambda s: term(s, teacher, TARGETS, adapter), student)


def test_bad_input():
    x = maps(0, 2, 4, 4, 6)
    term = FGD(strides=[8])
    adapter = term.adapter(x, x)
    for labels in (None, TARGETS[:1], torch.tensor([0, 1]), [{"labels": 0}] * 2):
        with pytest.raises(ValueError, match=r"FGD needs the boxes of all 2 images.*label_key"):
            term(x, x, labels, adapter)
    with pytest.raises(ValueError, match=r"strides=\[8, 16, 32\] must have one entry for each of 1 layers"):
        FGD()(x, x, TARGETS, adapter)
    with pytest.raises(ValueError, match=r"strides=0 must be above 0"):
        FGD(strides=[8, 0])
    with pytest.raises(ValueError, match=r"temperature=.* must be above 0"):
        FGD(temperature=0.0)
    with pytest.raises(ValueError, match=r"pass what the term's adapter\(\) returned"):
        term(x, x, TARGETS)
