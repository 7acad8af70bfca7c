"""What changed between two pictures, by hand."""

import numpy as np

from lkd.edge.reuse.change import change, grid, watched


def test_the_grid_follows_the_shape_and_has_no_more_cells_than_pixels():
    assert grid(np.zeros((540, 960, 3), np.uint8), 64).shape == (36, 64, 3)
    assert grid(np.zeros((960, 540), np.uint8), 64).shape == (64, 36, 1)
    assert grid(np.zeros((4, 6, 3), np.uint8), 64).shape == (4, 6, 3)


def test_a_cell_is_its_pixels_mean():
    picture = np.zeros((8, 16), np.uint8)
    picture[:4, :2] = 200  # half of the first cell
    assert grid(picture, 4)[..., 0].tolist() == [[100, 0, 0, 0], [0, 0, 0, 0]]


def test_of_a_large_picture_enough_pixels_are_looked_at():
    large = np.random.default_rng(0).normal(100, 10, (1080, 1920)).astype(np.uint8)
    assert np.abs(grid(large, 64) - 99.5).max() < 10 * 4.5 / 4  # 16 pixels a cell or more
    large[600:630, 900:930] = 255  # a cell's size
    assert grid(large, 64).max() > 120


def test_what_all_cells_share_is_told_apart():
    before = np.random.default_rng(0).integers(50, 150, (9, 16, 1)).astype(np.int16)
    changes, shared = change(before, before - 50)
    assert changes.max() == 0 and shared == 50
    after = before + 5
    after[8, 15] += 30
    changes, shared = change(before, after)
    assert changes.max() == 30 and changes.mean() == 30 / 144 and shared == 5


def test_the_color_that_changed_most_counts():
    before = np.full((3, 3, 3), 90, np.int16)
    after = before + np.array([0, -4, 9], np.int16)  # shared
    after[1, 1] += np.array([50, -20, 0], np.int16)
    changes, shared = change(before, after)
    assert changes[1, 1] == 50 and changes.sum() == 50 and shared == 9


def test_a_covered_lens_is_a_change():
    before = np.random.default_rng(0).integers(0, 200, (9, 16, 3)).astype(np.int16)
    assert change(before, np.zeros_like(before))[0].max() > 80


def test_cells_of_several_regions():
    cells = watched((2, 4), np.array([[0.0, 0.0, 0.25, 0.5], [0.8, 0.6, 0.9, 0.9]]))
    assert cells.tolist() == [[True, False, False, False], [False, False, False, True]]
