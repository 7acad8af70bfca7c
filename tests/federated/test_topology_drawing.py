"""Pictures by their pixels: lines, arrows, colors, and what does not fit into them."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from lkd.federated.topology import Complete, Grid, Ring, Star, draw, draw_rounds
from lkd.federated.topology.plot import COLORS
from lkd.federated.topology.plot_axes import ARROW, EDGE, _bend, draw_panel, label_width


def share(path, color):
    """Pixels that have nearly this color."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels - wanted).max(2) <= 3).sum())


def size(path):
    with Image.open(path) as image:
        return image.size


def test_arrows_only_where_learning_goes_one_way(tmp_path):
    draw(Ring().edges(9), tmp_path / "both.png")
    draw(Ring(directed=True).edges(9), tmp_path / "one.png")
    draw([[1], [0, 2], []], tmp_path / "mixed.png")
    assert share(tmp_path / "both.png", EDGE) > 500 and share(tmp_path / "both.png", ARROW) < 50
    assert share(tmp_path / "one.png", EDGE) < 50 and share(tmp_path / "one.png", ARROW) > 500
    assert share(tmp_path / "mixed.png", EDGE) > 50 < share(tmp_path / "mixed.png", ARROW)


def patches(edges, points):
    axes = Figure().add_subplot()
    draw_panel(axes, np.array(points, dtype=float), edges, ["a", "b"], ["red", "blue"])
    return axes.patches


def test_the_arrow_points_at_the_teacher():
    for edges, tip in (([[1], []], (3, 0)), ([[], [0]], (0, 0))):
        (arrow,) = patches(edges, [(0, 0), (3, 0)])
        assert np.allclose(arrow._posA_posB[1], tip)
    assert not patches([[1], [0]], [(0, 0), (3, 0)])  # a line


def test_a_group_has_a_color(tmp_path):
    draw(Ring().edges(4), tmp_path / "one.png")
    draw(Ring().edges(4), tmp_path / "groups.png", groups=["a", "b", "c", "a"])
    assert [share(tmp_path / "one.png", c) > 500 for c in COLORS[:4]] == [True, False, False, False]
    assert [share(tmp_path / "groups.png", c) > 500 for c in COLORS[:4]] == [True, True, True, False]
    assert share(tmp_path / "groups.png", COLORS[0]) > 1.5 * share(tmp_path / "groups.png", COLORS[1])


def test_an_edge_bends_around_a_node_in_its_way():
    line = np.array([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 3.0)])
    assert _bend(line, 0, 1, 0.2) == 0
    assert _bend(line, 0, 2, 0.2) == -_bend(line, 2, 0, 0.2) != 0
    assert _bend(line[[0, 2, 3]], 0, 1, 0.2) == 0
    # outwards, so that 0 to 2, from left to right, bends down to its right
    assert _bend(line, 0, 2, 0.2) > 0
    axes = Figure().add_subplot()
    draw_panel(axes, line, [[2], [], [0], []], list("abcd"), ["red"] * 4)
    (curve,) = axes.patches
    middle = curve.get_path().interpolated(20).vertices
    assert middle[:, 1].min() < -0.2


def test_rounds_are_side_by_side(tmp_path):
    draw(Ring().edges(9), tmp_path / "one.png", title="round 0")
    draw_rounds({f"round {r}": Ring().edges(9) for r in range(3)}, tmp_path / "three.png")
    assert size(tmp_path / "three.png")[0] == pytest.approx(3 * size(tmp_path / "one.png")[0], rel=0.03)
    assert size(tmp_path / "three.png")[1] == size(tmp_path / "one.png")[1]
    assert share(tmp_path / "three.png", COLORS[0]) == pytest.approx(
        3 * share(tmp_path / "one.png", COLORS[0]), rel=0.05
    )


def test_pictures_of_any_size(tmp_path):
    for nodes in (1, 2, 40):
        draw(Complete().edges(nodes), tmp_path / "new" / f"{nodes}.png", layout=Complete().layout(nodes))
        assert share(tmp_path / "new" / f"{nodes}.png", COLORS[0]) > 500
    assert max(size(tmp_path / "new/40.png")) < 1200


def test_the_smallest_star_has_two_places():
    assert len(set(Star().layout(2))) == 2 and len(Star().layout(1)) == 1


def test_long_names_stay_in_the_picture(tmp_path):
    names = ["a camera with quite a long name"] * 4
    draw(Grid().edges(4), tmp_path / "named.png", names=names, layout=Grid().layout(4))
    with Image.open(tmp_path / "named.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels[:, :3].min() == pixels[:, -3:].min() == 255
    assert label_width(names) > 1 and label_width(["C1", "C2"]) == 0


def test_nothing_global_changes(tmp_path):
    figures, settings = pyplot.get_fignums(), dict(matplotlib.rcParams)
    draw(
        Ring(directed=True).edges(5),
        tmp_path / "a.png",
        names=["camera"] * 5,
        groups=list("aabbb"),
        title="Ring",
    )
    draw(
        Ring(directed=True).edges(5),
        tmp_path / "b.png",
        names=["camera"] * 5,
        groups=list("aabbb"),
        title="Ring",
    )
    assert pyplot.get_fignums() == figures and dict(matplotlib.rcParams) == settings
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("what", ["names", "groups", "layout"])
def test_one_entry_a_client(tmp_path, what):
    given = {what: Star().layout(3) if what == "layout" else ["a", "b", "c"]}
    with pytest.raises(ValueError, match=f"{what} has 3 entries, but there are 4 clients"):
        draw(Star().edges(4), tmp_path / "a.png", **given)
