"""How far two answers are apart: by row, with infinities, and for detections."""

import math

import pytest
import torch

from lkd.edge.cache.distance import alike, distance, distances


def test_every_row_counts_for_itself():
    one = torch.ones(1000, 4)
    other = one.clone()
    other[700] *= 1.15
    assert distance(one, other) == pytest.approx(0.15) and distances(one, other).count_nonzero() == 1


def test_a_row_of_nearly_nothing_counts_as_a_tenth_of_a_usual_one():
    one = torch.tensor([[1.0, 0.0], [1e-9, 0.0]])
    other = torch.tensor([[1.0, 0.0], [2e-9, 0.0]])
    assert distance(one, other) == pytest.approx(1e-9 / (0.1 * math.sqrt(0.5)))
    assert distance(one[1:], other[1:]) == pytest.approx(1.0)
    assert distance(one[1:], other[1:], among=one) == distance(one, other)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ([math.inf, 2.0], [math.inf, 2.0], 0.0),
        ([math.nan, 2.0], [math.nan, 2.0], 0.0),
        ([-math.inf, 2.0], [-math.inf, 3.0], 0.5),
        ([math.nan, 2.0], [0.0, 2.0], math.inf),
        ([math.inf, 2.0], [-math.inf, 2.0], math.inf),
        ([0.0, 0.0], [0.0, 1.0], math.inf),
    ],
)
def test_what_is_not_finite_hides_nothing(one, other, apart):
    assert distance(torch.tensor([one]), torch.tensor([other])) == apart


def test_numbers_of_other_kinds():
    assert distance(torch.tensor(2), torch.tensor(3)) == 0.5
    assert distance(torch.zeros(0, 3), torch.zeros(0, 3)) == 0.0
    assert distance(torch.zeros(3, 0), torch.zeros(3, 0)) == 0.0
    assert distance(torch.tensor([[3.0 + 4.0j]]), torch.tensor([[3.0 + 3.0j]])) == pytest.approx(0.2)


def found(count, **changed):
    generator = torch.Generator().manual_seed(0)
    corner = 500 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + 20 + 40 * torch.rand(count, 2, generator=generator)], 1)
    scores = torch.linspace(0.95, 0.3, count)
    return {"boxes": boxes, "scores": scores, "labels": torch.arange(count) % 3} | changed


def test_detections_in_another_order_and_up_to_rounding_are_the_same():
    one, order = found(20), torch.randperm(20)
    assert alike(one, {name: tensor[order] for name, tensor in one.items()})
    assert alike(one, one | {"boxes": one["boxes"] + 0.3, "scores": one["scores"] + 0.01})
    assert alike(found(0), found(0)) and alike(found(0), found(1)) and not alike(found(0), found(2))


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(("name", "by"), [("boxes", 9.0), ("labels", 1), ("scores", -0.2)])
def test_other_boxes_classes_or_scores_are_other_detections(count, name, by):
    one = found(count)
    assert not alike(one, one | {name: one[name] + by})


def test_what_has_no_boxes_is_compared_as_it_is():
    one = {"points": torch.ones(3, 2)}
    assert alike(one, {"points": torch.ones(3, 2)}) and not alike(one, {"points": torch.zeros(3, 2)})
    assert not alike(one, {"points": torch.ones(2, 2)}) and not alike(one, {"lines": torch.ones(3, 2)})
