"""A teacher's own normalization: the student's is taken back, the teacher's applied, by closed form."""

import pytest
import torch
from torch import nn

from lkd.taps import Call
from lkd.teachers import Ensemble, Teacher

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OURS, SCALE = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
RAW = torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))


def standardized(raw, mean, std):
    return torch.stack([(raw[:, c] - mean[c]) / std[c] for c in range(3)], 1)


@pytest.mark.parametrize(
    ("kwargs", "given", "expected"),
    [
        ({"mean": MEAN, "std": STD}, RAW, standardized(RAW, MEAN, STD)),
        ({"student_mean": OURS, "student_std": SCALE}, standardized(RAW, OURS, SCALE), RAW),
        (
            {"mean": MEAN, "std": STD, "student_mean": OURS, "student_std": SCALE},
            standardized(RAW, OURS, SCALE),
            standardized(RAW, MEAN, STD),
        ),
        ({"student_mean": 0.5, "student_std": 0.5}, 2 * RAW - 1, RAW),
        ({"mean": 0.0, "std": 1 / 255}, RAW, 255 * RAW),
        ({"mean": MEAN, "std": STD, "student_mean": 0, "student_std": 1}, RAW, standardized(RAW, MEAN, STD)),
    ],
)
def test_the_teacher_sees_its_own_statistics(kwargs, given, expected):
    teacher = Teacher(nn.Identity(), batch_size=3, **kwargs)
    torch.testing.assert_close(teacher(given), expected)
    assert not teacher.state_dict()


def test_images_among_other_arguments_and_in_a_dict():
    def forward(images, mask, scale=1.0, lengths=None):
        return images * scale

    call = Call((RAW, torch.ones(4, 7)), {"scale": 2.0, "lengths": torch.arange(4)})
    expected = 2 * standardized(RAW, MEAN, STD)
    torch.testing.assert_close(Teacher(forward, mean=MEAN, std=STD)(call), expected)
    batch = {"pixel_values": RAW, "labels": torch.zeros(4).long()}
    torch.testing.assert_close(
        Teacher(lambda b: b["pixel_values"], mean=MEAN, std=STD)(batch), standardized(RAW, MEAN, STD)
    )
    assert torch.equal(batch["pixel_values"], RAW)  # the student's own


def test_members_of_an_ensemble_have_their_own():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ensemble = Ensemble([Teacher(pooled), Teacher(pooled, mean=MEAN, std=STD)])
    raw, other = ensemble(RAW).unbind(1)
    torch.testing.assert_close(other, (raw - torch.tensor(MEAN)) / torch.tensor(STD))


def test_detections_see_it_and_half_weights_come_after():
    seen = []

    def detect(images):
        seen.append(images)
        return [
            {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
        ] * len(images)

    Teacher(detect, mean=MEAN, std=STD).detect(RAW)
    torch.testing.assert_close(seen[0], standardized(RAW, MEAN, STD))
    model = nn.Conv2d(3, 2, 1).half()
    expected = model(standardized(RAW, MEAN, STD).half()).detach()
    torch.testing.assert_close(Teacher(model, mean=MEAN, std=STD)(RAW), expected)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"mean": MEAN}, "mean is given without std; give both"),
        ({"student_std": SCALE}, "student_std is given without student_mean"),
        ({"mean": MEAN, "std": [0.2, 0.2]}, r"mean=.* has 3 channels and std=.* 2"),
        ({"mean": MEAN, "std": [0.2, 0.0, 0.2]}, r"std=\[0.2, 0.0, 0.2\] must be above 0"),
        ({"mean": MEAN, "std": -1.0}, "std=-1.0 must be above 0"),
        ({"mean": float("nan"), "std": 1.0}, "mean=nan must be a finite number"),
        ({"mean": "imagenet", "std": 1.0}, "mean='imagenet' must be a number, or a list"),
        ({"mean": [], "std": []}, r"mean=\[\] must be a finite number"),
        (
            {"mean": MEAN, "std": STD, "student_mean": [0.5], "student_std": [0.5, 0.5]},
            "mean=.* 3 channels .* of 2",
        ),
    ],
)
def test_nonsense_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Teacher(nn.Identity(), **kwargs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            RAW[:, :1],
            r"statistics of 3 channels, but the teacher is given \(4, 1, 5, 6\), with 1 in dimension 1",
        ),
        (RAW.permute(0, 2, 3, 1), r"with 5 in dimension 1"),
        ((255 * RAW).byte(), r"0 tensors are floating-point images"),
        ({"rgb": RAW, "heat": RAW}, r"2 tensors are floating-point images"),
    ],
)
def test_inputs_that_it_is_not_of_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        Teacher(nn.Identity(), mean=MEAN, std=STD)(inputs)
