import numpy as np

from lkd.edge.offload.gates.places import PlaceMeans

VALUES = np.array([[1.0, 0.0], [3.0, 4.0], [8.0, 8.0]])


def test_a_place_has_its_own_mean():
    assert PlaceMeans(VALUES, ["a", "a", "b"])(["b", "a"]).tolist() == [[8, 8], [2, 2]]


def test_a_new_camera_has_the_mean_over_all_samples():
    assert PlaceMeans(VALUES, ["a", "a", "b"])(["new"]).tolist() == [VALUES.mean(0).tolist()]


def test_features_keep_their_axis():
    features = np.arange(12.0).reshape(3, 2, 2)
    assert PlaceMeans(features, ["a", "b", "b"])(["b"])[0].tolist() == features[1:].mean(0).tolist()
