"""The picture: a logarithmic axis where values span decades, on which nothing sent has its place."""

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from lkd.edge.offload import picture as module
from lkd.edge.offload.picture import picture
from lkd.edge.offload.point import Point


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of a picture of device, server and other arms, by what they show."""

    def go(kb, mmacs):
        made = []

        class Seen(Figure):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                made.append(self)

        monkeypatch.setattr(module, "Figure", Seen)
        acc = {"acc": 0.5}
        device = Point("device-only", 0.0, 0.0, 0.0, acc, 1.0, 1.0, mmacs=mmacs[0])
        server = Point("server-only", 1.0, 1.0, kb[-1], acc, 1.0, 1.0, mmacs=0.0)
        others = [Point("split", 1.0, 1.0, a, acc, 1.0, 1.0, mmacs=b) for a, b in zip(kb, mmacs, strict=True)]
        picture(tmp_path / "a.png", "acc", device, server, {}, None, others)
        assert (tmp_path / "a.png").stat().st_size > 5_000
        return [axes.get_xscale() for axes in made[0].axes], made[0].axes

    return go


def test_values_over_decades_have_a_logarithmic_axis_that_shows_zero(drawn):
    scales, axes = drawn(kb=[0.01, 0.1, 4.0], mmacs=[0.0006, 0.006, 0.6])
    assert scales == ["linear", "symlog", "symlog"]
    low, high = axes[2].get_xlim()
    assert low < 0 < 0.0006 < 0.6 < high  # of the server's arm the device computes nothing
    place = axes[2].transData.transform
    steps = [place((x, 0.5))[0] for x in (0.0, 0.0006, 0.006, 0.6)]
    assert all(b - a > 0.05 * (steps[-1] - steps[0]) for a, b in pairwise(steps))


def test_values_of_one_size_have_a_plain_axis(drawn):
    assert drawn(kb=[1.0, 2.0, 4.0], mmacs=[1.0, 2.0, 3.0])[0] == ["linear"] * 3
