"""Dense detector distillation against loops in numpy, and its degenerate batches."""

import math

import numpy as np
import pytest
import torch

from lkd.losses import DenseDetection, decode_boxes, dense_box_loss, dense_class_loss, localization_loss

GRID = [(8, 4), (16, 2)]  # stride and cells a side: an image of 32 pixels, 20 anchors
A = 20


def raw(seed, nc=2, bins=4, batch=2, shift=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    anchors = [
        ((x + 0.5) * stride, (y + 0.5) * stride) for stride, n in GRID for y in range(n) for x in range(n)
    ]
    boxes = torch.randn(batch, 4 * bins, A, generator=generator, dtype=torch.float64)
    return {
        "scores": (2 * torch.randn(batch, nc, A, generator=generator, dtype=torch.float64) + shift).to(dtype),
        "boxes": (boxes if bins > 1 else boxes.abs() + 0.2).to(dtype),
        "anchors": torch.tensor(anchors, dtype=torch.float32),
        "strides": torch.tensor([float(stride) for stride, n in GRID for _ in range(n * n)]),
        "feats": [],
    }


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def softmax(row):
    e = np.exp(row - np.max(row))
    return e / e.sum()


def decoded_reference(outputs):
    boxes = outputs["boxes"].double().numpy()
    batch, channels, _ = boxes.shape
    bins = channels // 4
    result = np.zeros((batch, A, 4))
    for b in range(batch):
        for a in range(A):
            sides = []
            for side in range(4):
                row = boxes[b, side * bins : (side + 1) * bins, a]
                sides.append(sum(k * p for k, p in enumerate(softmax(row))) if bins > 1 else row[0])
            (x, y), stride = outputs["anchors"][a].tolist(), outputs["strides"][a].item()
            left, top, right, bottom = (side * stride for side in sides)
            result[b, a] = (x - left, y - top, x + right, y + bottom)
    return result


def confidence(outputs):
    return np.vectorize(sigmoid)(outputs["scores"].double().numpy()).max(1)


def class_reference(student, teacher):
    q, total = confidence(teacher), 0.0
    s, t = student["scores"].double().numpy(), teacher["scores"].double().numpy()
    for (b, c, a), z in np.ndenumerate(s):
        p, target = sigmoid(z), sigmoid(t[b, c, a])
        entropy = -(target * math.log(p) + (1 - target) * math.log(1 - p))
        total += abs(p - target) * entropy
    return total / max(q.sum(), 1)


def localization_reference(student, teacher, temperature):
    q, total = confidence(teacher), 0.0
    s, t = student["boxes"].numpy(), teacher["boxes"].numpy()
    bins = s.shape[1] // 4
    for b in range(len(s)):
        for a in range(A):
            for side in range(4):
                rows = slice(side * bins, (side + 1) * bins)
                p, target = softmax(s[b, rows, a] / temperature), softmax(t[b, rows, a] / temperature)
                total += q[b, a] * np.sum(target * np.log(target / p)) / 4
    return temperature**2 * total / max(q.sum(), 1)


def ciou(p, t):
    width, height = min(p[2], t[2]) - max(p[0], t[0]), min(p[3], t[3]) - max(p[1], t[1])
    inter = max(width, 0) * max(height, 0)
    (pw, ph), (tw, th) = (p[2:] - p[:2]), (t[2:] - t[:2])
    iou = inter / (pw * ph + tw * th - inter)
    center = np.sum(((p[:2] + p[2:]) / 2 - (t[:2] + t[2:]) / 2) ** 2)
    diagonal = np.sum((np.maximum(p[2:], t[2:]) - np.minimum(p[:2], t[:2])) ** 2)
    v = 4 / math.pi**2 * (math.atan(tw / th) - math.atan(pw / ph)) ** 2
    return iou - center / diagonal - v * v / (1 - iou + v)


def box_reference(student, teacher, threshold=0.05):
    q, total = confidence(teacher), 0.0
    ours, theirs = decoded_reference(student), decoded_reference(teacher)
    for (b, a), weight in np.ndenumerate(q):
        if weight > threshold:
            total += weight * (1 - ciou(ours[b, a], theirs[b, a]))
    return total / max(q.sum(), 1)


@pytest.mark.parametrize("bins", [1, 4, 16])
def test_decoded_boxes_in_loops(bins):
    outputs = raw(0, bins=bins)
    boxes = decode_boxes(outputs)
    assert boxes.shape == (2, A, 4)
    np.testing.assert_allclose(boxes.numpy(), decoded_reference(outputs), rtol=1e-12)


def test_a_certain_distribution_decodes_to_its_bin():
    outputs = raw(0, batch=1, bins=16)
    outputs["boxes"] = torch.zeros(1, 64, A)
    for side, distance in enumerate((1, 2, 3, 4)):
        outputs["boxes"][0, side * 16 + distance] = 200.0
    boxes = decode_boxes(outputs)
    assert boxes[0, 0].tolist() == pytest.approx([4 - 8, 4 - 16, 4 + 24, 4 + 32])
    assert boxes[0, 16].tolist() == pytest.approx([8 - 16, 8 - 32, 8 + 48, 8 + 64])  # first cell of stride 16


@pytest.mark.parametrize("shift", [0.0, -9.0])  # -9: the sum of q stays below its floor of 1
@pytest.mark.parametrize("nc", [1, 3])
def test_each_part_in_loops(nc, shift):
    student, teacher = raw(0, nc), raw(1, nc, shift=shift)
    assert (confidence(teacher).sum() < 1) == (shift < 0)
    parts = [
        (dense_class_loss(student, teacher), class_reference(student, teacher)),
        (localization_loss(student, teacher, 3.0), localization_reference(student, teacher, 3.0)),
        (dense_box_loss(student, teacher, 0.001), box_reference(student, teacher, 0.001)),
        (dense_box_loss(student, teacher), box_reference(student, teacher)),
    ]
    for value, expected in parts:
        assert value.item() == pytest.approx(expected, rel=1e-5)


def test_boxes_are_compared_across_heads():
    student, teacher = raw(0, bins=4), raw(1, bins=1)
    assert dense_box_loss(student, teacher).item() == pytest.approx(box_reference(student, teacher), rel=1e-5)
    assert DenseDetection(ld=0.0)(student, teacher) > 0
    for pair in ((student, teacher), (teacher, teacher), (student, raw(1, bins=8))):
        bins = [outputs["boxes"].shape[1] // 4 for outputs in pair]
        with pytest.raises(ValueError, match=rf"reg_max {bins[0]} and teacher {bins[1]}: leave it out"):
            localization_loss(*pair)


def test_the_term_sums_its_weighted_parts():
    student, teacher = raw(0), raw(1)
    cls, ld, iou = (
        class_reference(student, teacher),
        localization_reference(student, teacher, 2.0),
        box_reference(student, teacher),
    )
    assert DenseDetection()(student, teacher).item() == pytest.approx(cls + 0.5 * ld + 2 * iou, rel=1e-5)
    assert DenseDetection(cls=3.0, ld=0, iou=0)(student, teacher).item() == pytest.approx(3 * cls, rel=1e-5)
    term = DenseDetection(temperature=5.0, cls=0, ld=1.0, iou=0)
    assert term(student, teacher).item() == pytest.approx(
        localization_reference(student, teacher, 5.0), rel=1e-9
    )
    assert not DenseDetection.needs_labels and term.adapter(student, teacher) is None


def gradients(student, teacher, loss=None):
    for key in ("scores", "boxes"):
        student[key] = student[key].clone().requires_grad_()
    value = (loss or DenseDetection())(student, teacher)
    value.backward()
    return value, student["scores"].grad, student["boxes"].grad


@pytest.mark.parametrize("part", [dense_class_loss, localization_loss])
def test_gradcheck(part):
    teacher = raw(1, batch=1)

    def loss(scores, boxes):
        return part({**raw(0, batch=1), "scores": scores, "boxes": boxes}, teacher)

    student = raw(0, batch=1)
    assert torch.autograd.gradcheck(
        loss, (student["scores"].requires_grad_(), student["boxes"].requires_grad_())
    )


def test_gradcheck_of_boxes_with_equal_shapes():
    # torchvision holds the aspect term's factor constant, so its gradient is exact only where aspects agree.
    student, teacher = raw(0, bins=1, batch=1), raw(1, bins=1, batch=1)
    sizes = student["boxes"].clone()
    left, top = 0.3 * (sizes[:, :1] + 0.5), 0.4 * (sizes[:, 1:2] + 0.5)
    side = 1 + sizes[:, 2:3]
    student["boxes"] = torch.cat([left, top, side - left, side - top], 1)
    teacher["boxes"] = torch.ones_like(teacher["boxes"])
    value = torch.autograd.gradcheck(
        lambda boxes: dense_box_loss({**student, "boxes": boxes}, teacher), student["boxes"].requires_grad_()
    )
    assert value


def test_a_single_class_learns():
    """A softmax over one class would be constant."""
    value, scores, _ = gradients(raw(0, nc=1), raw(1, nc=1), dense_class_loss)
    assert value > 0 and scores.any()


def test_equal_outputs_give_no_loss_and_no_gradient():
    value, scores, boxes = gradients(raw(0), raw(0))
    assert value.abs() < 1e-7
    assert scores.abs().max() < 1e-14 and boxes.abs().max() < 1e-7


@pytest.mark.parametrize("logit", [-30.0, -200.0])
def test_a_teacher_that_finds_nothing(logit):
    student, teacher = raw(0, dtype=torch.float32), raw(1, dtype=torch.float32)
    teacher["scores"] = torch.full_like(teacher["scores"], logit)
    value, scores, boxes = gradients(student, teacher)
    assert value.isfinite() and value > 0
    assert scores.isfinite().all() and boxes.isfinite().all()
    assert (scores > 0).all()  # the student is taught to see nothing either
    for silent in (localization_loss, dense_box_loss):
        assert silent(student, teacher).abs() < 1e-9
    assert dense_box_loss(raw(0), raw(1, shift=-100.0)) == 0


def test_no_image_at_all():
    value, scores, boxes = gradients(raw(0, batch=0), raw(1, batch=0))
    assert value == 0 and scores.shape[0] == boxes.shape[0] == 0


def test_inverted_and_empty_boxes_have_finite_gradients_and_recover():
    student, teacher = raw(0, bins=1, dtype=torch.float32), raw(1, bins=1, shift=3.0, dtype=torch.float32)
    boxes = torch.zeros_like(student["boxes"])
    boxes[:, :, ::2] = -1.0
    student["boxes"] = boxes.requires_grad_()
    before = dense_box_loss(student, teacher)
    optimizer = torch.optim.Adam([boxes], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = dense_box_loss(student, teacher)
        loss.backward()
        assert boxes.grad.isfinite().all()
        optimizer.step()
    assert loss < 0.1 * before


def test_gradient_descent_reproduces_the_teacher():
    student, teacher = raw(0, dtype=torch.float32), raw(1, dtype=torch.float32)
    parameters = [student[key].requires_grad_() for key in ("scores", "boxes")]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    for step in range(300):
        if step == 200:
            optimizer.param_groups[0]["lr"] = 0.005
        optimizer.zero_grad()
        DenseDetection()(student, teacher).backward()
        optimizer.step()
    weight = torch.from_numpy(confidence(teacher))
    error = (student["scores"].sigmoid() - teacher["scores"].sigmoid()).abs().amax(1)
    assert error[weight > 0.5].mean() < 0.03 and error[weight > 0.5].max() < 0.15  # from .52 and .88
    assert (decode_boxes(student) - decode_boxes(teacher)).abs().amax(2)[weight > 0.5].max() < 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs(dtype):
    student, teacher = raw(0, dtype=dtype), raw(1, dtype=dtype)
    double = [{**x, "scores": x["scores"].double(), "boxes": x["boxes"].double()} for x in (student, teacher)]
    exact = DenseDetection()(*double)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, scores, boxes = gradients(student, teacher)
    assert value.dtype == torch.float32 and scores.dtype == boxes.dtype == dtype
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert scores.isfinite().all() and boxes.isfinite().all()


def test_teacher_gets_no_gradient():
    teacher = raw(1)
    for key in ("scores", "boxes"):
        teacher[key].requires_grad_()
    gradients(raw(0), teacher)
    assert teacher["scores"].grad is None and teacher["boxes"].grad is None


def cropped(outputs, anchors):
    return {
        key: (value[..., :anchors] if key in ("scores", "boxes") else value[:anchors])
        for key, value in outputs.items()
    }


@pytest.mark.parametrize("part", [dense_class_loss, localization_loss, dense_box_loss, DenseDetection()])
def test_grids_and_classes_must_agree(part):
    with pytest.raises(ValueError, match=r"student has 20 anchors, teacher 16: .*images of one size"):
        part(raw(0), cropped(raw(1), 16))
    with pytest.raises(ValueError, match="student has 1 classes, teacher 3"):
        part(raw(0, nc=1), raw(1, nc=3))
    with pytest.raises(ValueError, match="2 samples, the teacher's 3"):
        part(raw(0), raw(1, batch=3))
    with pytest.raises(ValueError, match="need the entries scores; found Tensor"):
        part(raw(0)["scores"], raw(1))


def test_other_bad_input():
    outputs = raw(0)
    with pytest.raises(ValueError, match="need the entries boxes, anchors, strides; found scores, boxes"):
        decode_boxes({key: outputs[key] for key in ("scores", "boxes")})
    with pytest.raises(ValueError, match=r"boxes must have the shape \(B, 4 \* reg_max, A\)"):
        decode_boxes({**outputs, "boxes": outputs["boxes"][:, :15]})
    with pytest.raises(ValueError, match="20 anchors need anchors"):
        decode_boxes({**outputs, "anchors": outputs["anchors"][:4]})
    with pytest.raises(ValueError, match="at least one of cls, ld and iou"):
        DenseDetection(cls=0, ld=0, iou=0)
    with pytest.raises(ValueError, match=r"temperature=.* must be above 0"):
        DenseDetection(temperature=0.0)
