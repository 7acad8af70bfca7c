"""The bar chart: heights as given, by role and camera."""

import math

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lkd.callbacks.bars import bars

VALUES = {"Teacher": (0.9, 0.8), "Before": (0.2, 0.1), "Student": (0.7, 0.6), "Twin": (0.75, math.nan)}
ROWS = [
    {"Role": role, "Camera": camera, "mAP50": value}
    for role, values in VALUES.items()
    for camera, value in zip(("C1", "all"), values, strict=True)
]


@pytest.fixture
def figures(monkeypatch):
    seen, drawing = [], FigureCanvasAgg.print_png
    monkeypatch.setattr(
        FigureCanvasAgg, "print_png", lambda canvas, path: seen.append(canvas.figure) or drawing(canvas, path)
    )
    return seen


def test_a_bar_for_each_role_and_camera(figures, tmp_path):
    bars(ROWS, tmp_path, "distilled")
    (axes,) = figures[0].axes
    heights = [[bar.get_height() for bar in group] for group in axes.containers]
    assert heights[:2] == [[0.2, 0.1], [0.7, 0.6]] and heights[2][0] == 0.75 and math.isnan(heights[2][1])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["C1", "all"]
    assert axes.get_xlabel() == "camera" and "mAP50" in axes.get_ylabel() and axes.get_ylim() == (0, 1)
    names = {text.get_text() for text in figures[0].legends[0].get_texts()}
    assert names == {"student before", "student, distilled", "twin, trained on labels", "teacher"}
    assert "<svg" in (tmp_path / "bars.svg").read_text()


def test_a_student_alone_is_not_drawn(figures, tmp_path):
    bars([row for row in ROWS if row["Role"] == "Student"], tmp_path, "trained")
    assert not figures and not list(tmp_path.iterdir())
