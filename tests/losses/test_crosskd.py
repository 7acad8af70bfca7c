"""CrossKD: the equations in loops, gradients through a frozen head, and what does not fit."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from scipy.special import expit, log_softmax, softmax
from torch import nn
from torch.utils.data import DataLoader

from lkd.callbacks import Distillation
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import CrossKD, FitNets, align_statistics, cross_predictions
from lkd.teachers import Ensemble, Teacher

from ..callbacks.plain import quick_trainer, seeded

BINS = 4
SIZES = [(3, 4), (2, 2)]
WIDTHS = {"scores": 6, "boxes": 5}  # the teacher's


def maps(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pyramid(seed, scores, boxes, batch=2, dtype=torch.float64):
    """Maps of two levels of the class branch, then two of the box branch."""
    widths = (scores, scores, boxes, boxes)
    return [
        3 * maps(10 * seed + k, batch, width, *SIZES[k % 2], dtype=dtype) - k for k, width in enumerate(widths)
    ]  # fmt: skip


def heads(nc=3, shift=0.0, dtype=torch.float64):
    """What a teacher goes on with, of other weights at every level and branch."""

    def head(seed, width, out):
        return seeded(
            seed, lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(width, 7, 1), nn.Tanh(), nn.Conv2d(7, out, 1))
        )

    made = [head(k, WIDTHS["scores"], nc) for k in range(2)]
    made += [head(k, WIDTHS["boxes"], 4 * BINS) for k in (2, 3)]
    for one in made[:2]:
        nn.init.constant_(one[-1].bias, shift)
    return [one.to(dtype).eval().requires_grad_(False) for one in made]


def term(**options):
    names = {
        f"{who}_{what}": [f"{what}.{level}.1" for level in range(2)]
        for who in ("student", "teacher")
        for what in ("scores", "boxes")
    }
    return CrossKD(**(names | options))


# The reference: numpy and loops over images, channels, positions, sides and bins; nothing of lkd.


def aligned_reference(student, teacher):
    """The authors' way, with the unbiased deviation, apart from their 1e-6."""
    out = np.empty_like(student)
    for c in range(student.shape[1]):
        s, t = student[:, c], teacher[:, c]
        out[:, c] = (s - s.mean()) / s.std(ddof=1) * t.std(ddof=1) + t.mean()
    return out


def head_reference(x, head):
    """A ReLU, a linear map, a tanh and a linear map at each position."""
    (w1, b1), (w2, b2) = ((head[k].weight.numpy()[:, :, 0, 0], head[k].bias.numpy()) for k in (1, 3))
    batch, _, height, width = x.shape
    out = np.empty((batch, len(b2), height * width))
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                hidden = np.tanh(w1 @ np.maximum(x[b, :, i, j], 0) + b1)
                out[b, :, i * width + j] = w2 @ hidden + b2
    return out


def reference(student, teacher, rest, adapter=None, temperature=1.0):
    """Sum of the QFL and of the KL, each over the sum of q."""
    if adapter is not None:
        student = [
            np.einsum("oc,bchw->bohw", m.weight.numpy()[:, :, 0, 0], s.numpy())
            if isinstance(m, nn.Conv2d)
            else s.numpy()
            for m, s in zip(adapter, student, strict=True)
        ]
    student, teacher = [np.asarray(s) for s in student], [np.asarray(t) for t in teacher]
    cross = [
        head_reference(aligned_reference(s, t), h) for s, t, h in zip(student, teacher, rest, strict=True)
    ]
    target = [head_reference(t, h) for t, h in zip(teacher, rest, strict=True)]
    qfl = kl = total = 0.0
    for level in range(2):
        for b, a in np.ndindex(cross[level].shape[0], cross[level].shape[2]):
            z, p, t = cross[level][b, :, a], expit(cross[level][b, :, a]), expit(target[level][b, :, a])
            for c in range(len(p)):
                entropy = -(t[c] * -np.logaddexp(0, -z[c]) + (1 - t[c]) * -np.logaddexp(0, z[c]))
                qfl += abs(p[c] - t[c]) * entropy
            q = t.max()
            total += q
            for side in range(4):
                rows = slice(side * BINS, (side + 1) * BINS)
                ours, theirs = cross[2 + level][b, rows, a], target[2 + level][b, rows, a]
                weights = softmax(theirs / temperature)
                logs = log_softmax(theirs / temperature) - log_softmax(ours / temperature)
                kl += q / 4 * temperature**2 * sum(w * d for w, d in zip(weights, logs, strict=True))
    return qfl / max(total, 1), kl / max(total, 1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 2), (4, 1, 1, 1)])
def test_alignment_in_loops(shape):
    student, teacher = 5 * maps(0, *shape) + 9, 0.3 * maps(1, *shape) - 2
    np.testing.assert_allclose(
        align_statistics(student, teacher).numpy(),
        aligned_reference(student.numpy(), teacher.numpy()),
        rtol=1e-9,
    )


def test_alignment_gives_the_teachers_statistics_and_keeps_its_own_pattern():
    teacher = maps(1, 2, 3, 4, 4)
    factors = torch.tensor([0.1, 2.0, 30.0])[:, None, None]
    torch.testing.assert_close(align_statistics(factors * teacher - 7, teacher), teacher)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_channel_becomes_the_teachers_mean_without_gradient(value):
    student, teacher = maps(0, 2, 2, 3, 3), maps(1, 2, 2, 3, 3)
    student[:, 0] = value
    aligned = align_statistics(student.requires_grad_(), teacher)
    torch.testing.assert_close(aligned[:, 0], teacher[:, 0].mean().expand(2, 3, 3))
    aligned.square().sum().backward()
    assert not student.grad[:, 0].any() and student.grad[:, 1].any() and student.grad.isfinite().all()
    flat = align_statistics(maps(0, 2, 2, 3, 3), torch.full((2, 2, 3, 3), value))  # and of the teacher
    torch.testing.assert_close(flat, torch.full_like(flat, value))


def test_nearly_constant_channels_do_not_blow_their_noise_up():
    aligned = align_statistics(1 + 1e-7 * maps(0, 2, 1, 3, 3), maps(1, 2, 1, 3, 3))
    assert aligned.std() == 0


def test_a_single_position_has_no_deviation():
    assert align_statistics(maps(0, 1, 3, 1, 1), maps(1, 1, 3, 1, 1)).equal(maps(1, 1, 3, 1, 1))


@pytest.mark.parametrize("shift", [1.0, -9.0])  # -9: the sum of q stays below its floor of 1
@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_both_parts_in_loops(nc, shift, temperature):
    rest = heads(nc, shift)
    student, teacher = pyramid(0, **WIDTHS), pyramid(1, **WIDTHS)
    qfl, kl = reference(student, teacher, rest, temperature=temperature)
    assert min(qfl, kl) > 1e-9
    parts = [
        term(ld=0.0, temperature=temperature),
        term(cls=0.0, ld=1.0, temperature=temperature),
        term(temperature=temperature, weight=7.0),  # the weight is the business of who attaches
        term(cls=0.5, ld=3.0, temperature=temperature),
    ]
    for part, expected in zip(parts, (qfl, kl, qfl + 4 * kl, 0.5 * qfl + 3 * kl), strict=True):
        assert part(student, teacher, rest=rest).item() == pytest.approx(expected, rel=1e-6)


def test_the_defaults_are_the_authors():
    made = term()
    assert (made.cls, made.ld, made.temperature, made.weight) == (1.0, 4.0, 1.0, 1.0)


def test_other_widths_go_through_a_learned_projection():
    rest = heads()
    student, teacher = pyramid(0, 4, WIDTHS["boxes"]), pyramid(1, **WIDTHS)
    adapter = term().adapter(student, teacher).double().requires_grad_(False)
    kinds = [type(m) for m in adapter]
    assert kinds == [nn.Conv2d, nn.Conv2d, nn.Identity, nn.Identity]
    assert (adapter[0].in_channels, adapter[0].out_channels, adapter[0].kernel_size) == (4, 6, (1, 1))
    assert adapter[0].bias is None  # the alignment would take it away
    qfl, kl = reference(student, teacher, rest, adapter)
    assert term()(student, teacher, adapter=adapter, rest=rest).item() == pytest.approx(
        qfl + 4 * kl, rel=1e-6
    )
    adapter.requires_grad_(True)
    term()(student, teacher, adapter=adapter, rest=rest).backward()
    assert all(p.grad.abs().max() > 1e-6 for p in adapter.parameters())


def test_equal_widths_need_no_adapter():
    assert term().adapter(pyramid(0, **WIDTHS), pyramid(1, **WIDTHS)) is None


@pytest.mark.parametrize("factor", [1.0, 4.0])  # 4: only the statistics differ
def test_the_teachers_own_features_give_nothing(factor):
    teacher = pyramid(1, **WIDTHS)
    student = [(factor * t - 1).requires_grad_() for t in teacher]
    for part in (term(ld=0.0), term(cls=0.0)):
        value = part(student, teacher, rest=heads())
        assert 0 <= value + 1e-12 < 1e-9
    term(cls=0.0)(student, teacher, rest=heads()).backward()  # the QFL has a kink where it is 0
    assert all(s.grad is None or s.grad.abs().max() < 1e-9 for s in student)


def test_gradcheck():
    rest, teacher = heads(), pyramid(1, **WIDTHS, batch=1)
    student = [s.requires_grad_() for s in pyramid(0, 4, 5, batch=1)]
    adapter = term().adapter(student, teacher).double()
    weights = [m.weight for m in adapter if isinstance(m, nn.Conv2d)]

    def loss(*given):
        ours = [F.conv2d(s, w) for s, w in zip(given[:2], given[4:], strict=True)] + list(given[2:4])
        return term()(ours, teacher, rest=rest)

    assert torch.autograd.gradcheck(loss, (*student, *weights))
    assert torch.autograd.gradcheck(lambda s: align_statistics(s, teacher[2]), student[2])


def test_the_teacher_gets_no_gradient_and_the_students_maps_do():
    rest = heads()
    for head in rest:
        head.requires_grad_(True)  # were it not frozen: the targets still have no graph
    student, teacher = ([x.requires_grad_() for x in pyramid(k, **WIDTHS)] for k in (0, 1))
    term()(student, teacher, rest=rest).backward()
    assert all(s.grad.abs().max() > 1e-6 for s in student) and all(t.grad is None for t in teacher)
    cross, target = cross_predictions(student[0], teacher[0], rest[0])
    assert cross.requires_grad and not target.requires_grad
    torch.testing.assert_close(target, rest[0](teacher[0]).flatten(2).detach())


def test_gradient_descent_brings_the_students_maps_to_the_teachers_predictions():
    teacher = pyramid(1, **WIDTHS, dtype=torch.float32)
    rest = [
        h[1].requires_grad_(False) for h in heads(dtype=torch.float32)[:2]
    ]  # linear, so that none saturates
    rest += [seeded(k, lambda: nn.Conv2d(5, 4 * BINS, 1).requires_grad_(False)) for k in range(2)]
    student = [s.requires_grad_() for s in pyramid(0, **WIDTHS, dtype=torch.float32)]
    optimizer = torch.optim.Adam(student, lr=0.2)
    values = []
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
        optimizer.zero_grad()
        loss = term()(student, teacher, rest=rest)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.02 * values[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features(dtype):
    student, teacher = ([x.to(dtype) for x in pyramid(k, **WIDTHS)] for k in (0, 1))
    exact = term()([s.double() for s in student], [t.double() for t in teacher], rest=heads())
    rest, leaves = heads(dtype=torch.float32), [s.requires_grad_() for s in student]
    with torch.autocast("cpu", dtype=dtype):
        value = term()(leaves, teacher, rest=rest)
    value.backward()
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=5e-2)
    assert all(s.grad.dtype == dtype and s.grad.isfinite().all() for s in leaves)
    aligned = align_statistics(student[0], teacher[0])
    assert aligned.dtype == torch.float32


def test_a_teacher_whose_weights_are_in_half_precision():
    student = [s.requires_grad_() for s in pyramid(0, **WIDTHS, dtype=torch.float32)]
    teacher = pyramid(1, **WIDTHS, dtype=torch.bfloat16)
    value = term()(student, teacher, rest=heads(dtype=torch.bfloat16))
    value.backward()
    exact = term()([s.double() for s in student], [t.double() for t in teacher], rest=heads())
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=5e-2)
    assert all(s.grad.abs().max() > 1e-6 for s in student)


def test_heads_that_give_vectors_or_flat_positions():
    student, teacher = maps(0, 2, 6, 3, 3), maps(1, 2, 6, 3, 3)
    pooled = lambda x: x.mean((2, 3))[:, :4]  # noqa: E731
    cross, target = cross_predictions(student, teacher, pooled)
    assert cross.shape == target.shape == (2, 4, 1)
    flat = cross_predictions(student, teacher, lambda x: x.flatten(2))
    assert flat[0].shape == (2, 6, 9)
    assert CrossKD("a.0", "a.0")([student], [teacher], rest=[pooled]) >= 0


def test_the_term_knows_its_layers_and_the_rest_holds_no_state_and_copies():
    made = CrossKD("h.0", "t.0.1", "g.0", "t.1.1", weight=3.0)
    for twin in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (twin.weight, twin.student_layer, twin.teacher_layer) == (
            3.0,
            ["h.0", "g.0"],
            ["t.0.1", "t.1.1"],
        )
        assert twin.rest == ["t.0[2:]", "t.1[2:]"]
        assert not twin.state_dict() and twin.relates_samples and not twin.needs_labels
    assert CrossKD("0", "1").rest == ["[2:]"]
    assert CrossKD("h", "t.conv", rest="t.predict").rest == ["t.predict"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_scores": ["a.0"]}, "name 2 and 2 layers, .* 1 and 2: name equally many"),
        ({"student_boxes": []}, "name 2 and 0 layers, .* 2 and 2: name equally many"),
        ({"student_scores": [], "teacher_scores": []}, "name equally many"),
        (
            {"student_boxes": ["a"], "teacher_boxes": ["a.0"]},
            "student_boxes names 1 layers, student_scores 2",
        ),
        ({"teacher_scores": ["a.0", "a.conv"]}, "teacher layer 'a.conv' does not end in its place"),
        ({"rest": ["a", "b"]}, "rest names 2 parts for 4 layers"),
        ({"cls": 0.0, "ld": 0.0}, "a weight in cls, or boxes and a weight in ld"),
        ({"cls": 0.0, "student_boxes": None, "teacher_boxes": None}, "a weight in cls, or boxes and"),
        ({"temperature": 0.0}, "temperature=.* must be above 0"),
        ({"weight": -1.0}, "weight=-1.0 of CrossKD must be 0 or more"),
    ],
)
def test_what_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        term(**options)


def test_what_does_not_fit():
    rest, student, teacher = heads(), pyramid(0, **WIDTHS), pyramid(1, **WIDTHS)
    with pytest.raises(ValueError, match="student has 4 channels, teacher 6: pass the term's adapter"):
        term()(pyramid(0, 4, 5), teacher, rest=rest)
    with pytest.raises(ValueError, match=r"of size \(3, 4\), the teacher's \(6, 8\): .*images of one size"):
        align_statistics(student[0], maps(1, 2, 6, 6, 8))
    with pytest.raises(ValueError, match=r"must be maps \(B, C, H, W\), got \(2, 6\)"):
        align_statistics(student[0], maps(1, 2, 6))
    with pytest.raises(ValueError, match=r"compares 4 layers .* and 0 functions as rest"):
        term()(student, teacher)
    with pytest.raises(ValueError, match=r"level 0 has 12 positions with scores and 4 with boxes"):
        term()([*student[:2], *student[:1:-1]], [*teacher[:2], *teacher[:1:-1]], rest=rest)
    with pytest.raises(TypeError, match=r"must give a tensor \(B, C, ...\), got dict"):
        cross_predictions(student[0], teacher[0], lambda x: {"scores": x})
    single = [*rest[:2], *(nn.Conv2d(5, 4, 1).double() for _ in range(2))]
    with pytest.raises(ValueError, match=r"reg_max 1 .*leave it out \(ld=0\)"):
        term()(student, teacher, rest=single)
    assert term(ld=0.0)(student, teacher, rest=single) > 0


# Attached: a module that knows nothing of lkd, and a teacher of another width.


class Dense(LightningModule):
    """A body, and a branch for scores and one for boxes."""

    def __init__(self, width=4, depth=1):
        super().__init__()
        self.body = nn.Conv2d(1, width, 3, padding=1)
        self.scores = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2, 1),
        )
        self.boxes = nn.Sequential(nn.Conv2d(width, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 4 * BINS, 1))

    def forward(self, x):
        x = self.body(x)
        return {"scores": self.scores(x), "boxes": self.boxes(x)}

    def training_step(self, batch, batch_idx=0):
        out = self(batch[0])
        return out["scores"].square().mean() + out["boxes"].square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def dense_term(**options):
    return CrossKD(**({"student_scores": "scores.1", "teacher_scores": "scores.1", "student_boxes": "boxes.0",
                       "teacher_boxes": "boxes.0"} | options))  # fmt: skip


def images(count=4):
    return maps(5, count, 1, 6, 6, dtype=torch.float32)


def loader():
    return DataLoader([(x,) for x in images(8)], batch_size=4)


def dense_teacher():
    teacher = seeded(1, lambda: Dense(width=7))
    teacher(images(16))  # batch statistics other than 0 and 1
    return teacher


def attached(callback, module):
    logs = {}
    module.log = lambda name, value, **_: logs.update({name: value.item()})
    callback.distiller.attach(module, [images()])
    return module, logs


def by_torch(pairs):
    """The loss of one level, written out with torch's own functions: scores and boxes as (cross, target)."""
    (z, t), (b, c) = pairs
    t, target = t.sigmoid(), c.unflatten(1, (4, BINS)).softmax(2)
    q = t.amax(1)
    weighted = (z.sigmoid() - t).abs() * F.binary_cross_entropy_with_logits(z, t, reduction="none")
    kl = (target * (target.log() - b.unflatten(1, (4, BINS)).log_softmax(2))).sum(2).mean(1)
    return (weighted.sum() + 4 * (kl * q).sum()) / q.sum().clamp_min(1)


def test_attached_loss_and_gradients_equal_those_by_hand():
    teacher, student = dense_teacher().eval(), seeded(0, Dense)
    by_hand = copy.deepcopy(student)
    callback = Distillation(Teacher(copy.deepcopy(teacher)), [dense_term(weight=0.7)], alpha=0.3)
    module, logs = attached(callback, student)
    project = copy.deepcopy(getattr(module, ADAPTERS)["crosskd"][0])
    assert isinstance(getattr(module, ADAPTERS)["crosskd"][1], nn.Identity)  # both have 6 there
    loss = module.training_step([images()])
    loss.backward()

    x = by_hand.body(images())
    features = [project(by_hand.scores[:2](x)), by_hand.boxes[:1](x)]
    with torch.no_grad():
        y = teacher.body(images())
        theirs = [teacher.scores[:2](y), teacher.boxes[:1](y)]
    pairs = []
    for s, t, rest in zip(features, theirs, (teacher.scores[2:], teacher.boxes[1:]), strict=True):
        axes = (0, 2, 3)
        aligned = (s - s.mean(axes, keepdim=True)) / s.std(axes, keepdim=True)
        aligned = aligned * t.std(axes, keepdim=True) + t.mean(axes, keepdim=True)
        pairs.append((rest(aligned), rest(t).detach()))
    term_value = by_torch(pairs)
    own = by_hand.scores(x).square().mean() + by_hand.boxes(x).square().mean()
    wanted = 0.3 * own + 0.7 * term_value
    wanted.backward()
    assert logs["distillation/crosskd"] == pytest.approx(term_value.item(), rel=1e-4)
    assert logs["distillation/total"] == pytest.approx(wanted.item(), rel=1e-4)
    for name, expected in by_hand.named_parameters():
        got = dict(module.named_parameters())[name].grad
        torch.testing.assert_close(got, expected.grad, rtol=1e-3, atol=1e-6, msg=name)
    torch.testing.assert_close(
        getattr(module, ADAPTERS)["crosskd"][0].weight.grad, project.weight.grad, rtol=1e-3, atol=1e-6
    )


def test_the_teacher_is_frozen_and_only_the_students_layers_before_get_gradient():
    callback = Distillation(Teacher(dense_teacher()), [dense_term()], alpha=0.0)
    before = {name: value.clone() for name, value in callback.teacher.state_dict().items()}
    module, _ = attached(callback, seeded(0, Dense))
    module.training_step([images()]).backward()
    trained = [*module.named_parameters(), *getattr(module, ADAPTERS).named_parameters()]
    touched = {n for n, p in trained if p.grad is not None and p.grad.abs().max() > 1e-6}
    assert touched == {
        "body.weight", "body.bias", "scores.0.weight", "scores.1.weight", "boxes.0.weight", "crosskd.0.weight"
    }  # fmt: skip  # biases before the alignment count for nothing
    for name, p in callback.teacher.named_parameters():
        assert p.grad is None and not p.requires_grad, name
    assert all(torch.equal(before[name], value) for name, value in callback.teacher.state_dict().items())


def fit(path, epochs, ckpt=None):
    student = seeded(0, Dense)
    callback = Distillation(Teacher(dense_teacher()), [dense_term()])
    trainer = quick_trainer(
        max_epochs=epochs, callbacks=[callback], default_root_dir=path, enable_checkpointing=True
    )
    trainer.fit(student, loader(), ckpt_path=ckpt)
    return student, trainer.checkpoint_callback.best_model_path


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    whole, path = fit(tmp_path / "whole", 3)
    resumed, _ = fit(tmp_path / "resumed", 3, fit(tmp_path / "part", 1)[1])
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    kept = torch.load(path, weights_only=True)
    assert kept[ADAPTERS].keys() == {"crosskd.0.weight"}
    assert kept["state_dict"].keys() == seeded(0, Dense).state_dict().keys()


def test_together_with_another_term_and_an_ensemble():
    ensemble = Ensemble([Teacher(seeded(2, Dense)), Teacher(dense_teacher())])
    names = {"teacher_scores": "1.scores.1", "teacher_boxes": "1.boxes.0"}
    terms = [FitNets(student_layer="body", teacher_layer="1.body"), dense_term(**names)]
    module, logs = attached(Distillation(ensemble, terms), seeded(0, Dense))
    module.training_step([images()])
    alone, single = attached(Distillation(Teacher(dense_teacher()), [dense_term()]), seeded(0, Dense))
    alone.training_step([images()])
    assert logs["distillation/crosskd"] == pytest.approx(single["distillation/crosskd"], rel=1e-6)


def test_the_rest_by_the_name_of_a_method():
    class Named(Dense):
        def predict(self, x):
            return self.scores[2:](x)

    teacher = seeded(1, lambda: Named(width=7))
    values = []
    for options in ({}, {"rest": ["scores[2:]"]}, {"rest": "predict"}):
        only = CrossKD("scores.1", "scores.1", **options)
        module, logs = attached(Distillation(Teacher(copy.deepcopy(teacher)), [only]), seeded(0, Dense))
        module.training_step([images()])
        values.append(logs["distillation/crosskd"])
    assert values[0] == values[1] == values[2] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student_scores": "score.1"}, "student_layer='score.1' is not a layer of Dense; did you mean"),
        (
            {"teacher_boxes": "box.0"},
            "teacher_layer='box.0' is not a layer of Dense; did you mean one of 'boxes",
        ),
        ({"rest": ["scores[9:]", "boxes[1:]"]}, r"rest='scores\[9:\]': nothing is left"),
        ({"teacher_boxes": "boxes.2"}, r"rest='boxes\[3:\]': nothing is left"),
    ],
)
def test_mistakes_are_named_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        attached(Distillation(Teacher(dense_teacher()), [dense_term(**options)]), seeded(0, Dense))


def test_a_rest_that_takes_other_maps_is_named():
    with pytest.raises(
        RuntimeError, match=r"rest='boxes\[1:\]' of the teacher failed on an input of shape \(4, 14, 6, 6\)"
    ):
        attached(
            Distillation(Teacher(dense_teacher()), [dense_term(rest=["boxes[1:]", "boxes[1:]"])]),
            seeded(0, Dense),
        )
