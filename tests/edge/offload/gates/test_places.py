import numpy as np
import pytest

from lkd.edge.offload.gates.places import PlaceMeans

VALUES = np.array([[1.0, 0.0], [3.0, 4.0], [8.0, 8.0]])


def test_without_a_prior_a_place_has_its_own_mean():
    assert PlaceMeans(VALUES, ["a", "a", "b"])(["b", "a"]).tolist() == [[8, 8], [2, 2]]


def test_a_prior_counts_like_samples_of_the_mean_over_all():
    means = PlaceMeans(VALUES, ["a", "a", "b"], prior=2.0)
    over_all = VALUES.mean(0)
    assert means(["a"])[0] == pytest.approx((VALUES[:2].sum(0) + 2 * over_all) / 4)
    assert means(["b"])[0] == pytest.approx((VALUES[2] + 2 * over_all) / 3)


def test_a_new_camera_has_the_mean_over_all_samples():
    assert PlaceMeans(VALUES, ["a", "a", "b"], prior=2.0)(["new"]).tolist() == [VALUES.mean(0).tolist()]


def test_one_camera_has_the_mean_over_all_whatever_the_prior():
    assert PlaceMeans(VALUES, ["a"] * 3, prior=5.0)(["a"])[0] == pytest.approx(VALUES.mean(0))


def test_features_keep_their_axis():
    features = np.arange(12.0).reshape(3, 2, 2)
    assert PlaceMeans(features, ["a", "b", "b"])(["b"])[0].tolist() == features[1:].mean(0).tolist()
