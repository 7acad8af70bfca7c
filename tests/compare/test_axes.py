"""What of the axes is left to what was measured first."""

import pytest
from matplotlib.figure import Figure

from lkd.compare.axes import focus, scale, wrapped


def drawn(curves):
    axes = Figure().add_subplot()
    for curve in curves:
        axes.plot(*zip(*curve, strict=True))
    return axes


def test_the_first_measurement_does_not_take_the_axis():
    curves = [[(1, 0.1), (2, 0.8), (3, 0.9)], [(1, 0.1), (2, 0.82), (3, 0.86)]]
    axes = drawn(curves)
    focus(axes, curves, [0.75])
    low, high = axes.get_ylim()
    assert 0.7 < low < 0.75 and 0.9 < high < 0.95  # the baseline at .75 stays in view
    falling = [[(1, 2.3), (2, 0.4), (3, 0.3)]]
    axes = drawn(falling)
    focus(axes, falling, [])
    assert axes.get_ylim()[1] < 0.5


@pytest.mark.parametrize("curve", [[(1, 0.1), (2, 0.3), (3, 0.9)], [(1, 0.5)]])
def test_what_rises_slowly_and_what_was_measured_once_is_shown_whole(curve):
    axes = drawn([curve])
    focus(axes, [curve], [])
    low, high = axes.get_ylim()
    assert all(low < y < high for _, y in curve)


def test_costs_are_logarithmic_only_where_methods_end_far_apart():
    near = [[(1e3, 0.1), (1e5, 0.5)], [(1e4, 0.1), (5e5, 0.5)]]
    axes = drawn(near)
    scale(axes, "B", near)
    assert axes.get_xscale() == "linear" and axes.get_xlim()[0] == 0
    far = [[(1e3, 0.1), (1e5, 0.5)], [(1e6, 0.1), (1e8, 0.5)]]
    axes = drawn(far)
    scale(axes, "B", far)
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] == pytest.approx(
        1e4
    )  # a tenth of the cheapest end


def test_long_names_take_several_lines():
    assert wrapped("mean accuracy, clients' models on shared data").count("\n") == 1 and wrapped("") == ""
