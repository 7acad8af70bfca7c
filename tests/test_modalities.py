"""The format of multimodal batches, and modality dropout."""

import pytest
import torch

from lkd.modalities import check_names, drop, split


def test_without_masks_everybody_has_everything_that_is_given():
    x = {"a": torch.zeros(3, 2), "b": torch.ones(3, 4, 5)}
    inputs, present = split(x)
    assert inputs == x and inputs is not x
    assert {m: mask.tolist() for m, mask in present.items()} == {"a": [True] * 3, "b": [True] * 3}


def test_masks_are_taken_and_those_left_out_are_filled_in():
    mask = torch.tensor([True, False])
    inputs, present = split({"a": torch.zeros(2, 1), "b": torch.zeros(2, 1), "present": {"b": mask}})
    assert list(inputs) == list(present) == ["a", "b"]
    assert present["b"] is mask and present["a"].tolist() == [True, True]


def test_a_mask_of_what_nobody_has_needs_no_tensor():
    nobody = torch.zeros(2, dtype=torch.bool)
    assert list(split({"a": torch.zeros(2, 1), "present": {"b": nobody}})[1]) == ["a"]


a, yes = torch.zeros(2, 1), torch.ones(2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (a, "is a dict of tensors .* not a Tensor"),
        ({"present": {}}, "this one holds no modality"),
        ({}, "this one holds no modality"),
        ({"a": [1, 2]}, r"x\['a'\] is a list"),
        ({"a": torch.tensor(1.0)}, r"x\['a'\] is a number"),
        ({"a": a, "b": torch.zeros(3, 1)}, r"x\['b'\] has 3 samples and x\['a'\] 2"),
        ({"a": a, "present": yes}, r"x\['present'\] must be a dict .* not a Tensor"),
        ({"a": a, "present": {"a": yes.float()}}, r"must be a bool tensor \(2,\), not torch.float32 \(2,\)"),
        ({"a": a, "present": {"a": yes[:1]}}, r"must be a bool tensor \(2,\), not torch.bool \(1,\)"),
        ({"a": a, "present": {"a": True}}, r"must be a bool tensor \(2,\), not bool"),
        ({"a": a, "present": {"b": yes}}, "says that samples have 'b', of which x has no tensor"),
    ],
)
def test_what_is_no_multimodal_x_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        split(x)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a.b", "_a", "present", 3, "ä"])
def test_names_that_cannot_be_layers_are_refused(name):
    with pytest.raises(ValueError, match="cannot name a modality"):
        check_names([name], "encoders")


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9, 1.0])
def test_dropout_has_the_rate_that_it_says_and_never_takes_all(rate):
    """Checked apart for samples that have one, two and three modalities."""
    torch.manual_seed(0)
    n = 20_000
    owned = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.bool).repeat_interleave(n, 0)
    left = torch.stack(list(drop(dict(zip("abc", owned.unbind(1), strict=True)), rate).values()), 1)
    assert left.any(1).all()
    assert not (left & ~owned).any()
    for k, (has, stayed) in enumerate(zip(owned.split(n), left.split(n), strict=True), 1):
        lost = (has & ~stayed).float().mean(0)[has[0]]
        expected = rate - rate**k / k
        assert torch.allclose(lost, torch.full((k,), expected), atol=4 * (0.25 / n) ** 0.5), (
            k,
            lost,
            expected,
        )


def test_dropout_is_independent_between_modalities_and_follows_torchs_generator():
    masks = {m: torch.ones(20_000, dtype=torch.bool) for m in "abcd"}
    torch.manual_seed(1)
    one = drop(masks, 0.4)
    torch.manual_seed(1)
    again = drop(masks, 0.4)
    other = drop(masks, 0.4)
    assert all(torch.equal(one[m], again[m]) for m in masks)
    assert not torch.equal(one["a"], other["a"])
    # P(a and b both drop) = r^2, but for the samples (r^4) where one had to stay: half of the pairs then keep one
    both = (~one["a"] & ~one["b"]).float().mean().item()
    assert both == pytest.approx(0.4**2 - 0.4**4 / 2, abs=0.01)
    assert masks["a"].all()
