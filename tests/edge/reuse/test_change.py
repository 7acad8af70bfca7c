"""What changed between two pictures, by hand."""

import numpy as np

from lkd.edge.reuse.change import change, grid, watched


def test_the_grid_follows_the_shape_and_has_no_more_cells_than_pixels():
    assert grid(np.zeros((540, 960, 3), np.uint8), 64).shape == (36, 64)
    assert grid(np.zeros((960, 540), np.uint8), 64).shape == (64, 36)
    assert grid(np.zeros((4, 6, 3), np.uint8), 64).shape == (4, 6)


def test_a_cell_is_its_pixels_mean():
    picture = np.zeros((20, 40), np.uint8)
    picture[:10, :5] = 200  # half of the first cell
    assert grid(picture, 4).tolist() == [[100, 0, 0, 0], [0, 0, 0, 0]]


def test_what_all_cells_share_is_no_change():
    before = np.random.default_rng(0).integers(0, 200, (9, 16)).astype(np.int16)
    assert change(before, before + 50).max() == 0
    after = before.copy()
    after[8, 15] += 30
    assert change(before, after).max() == 30 and change(before, after).mean() == 30 / 144


def test_a_covered_lens_is_a_change():
    before = np.random.default_rng(0).integers(0, 200, (9, 16)).astype(np.int16)
    assert change(before, np.zeros_like(before)).max() > 80


def test_cells_of_several_regions():
    cells = watched((2, 4), np.array([[0.0, 0.0, 0.25, 0.5], [0.8, 0.6, 0.9, 0.9]]))
    assert cells.tolist() == [[True, False, False, False], [False, False, False, True]]
