"""The bar chart of a detection report: what the student was, became, and could have become with labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

METRIC = "mAP50"
COLORS = {"Before": "#b8bec5", "Student": "#f39c12", "Twin": "#27ae60"}
TEACHER = "#3498db"


def by_camera(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns mAP50 as a table with a row for each camera and a column for each role.

    Example:
        >>> by_camera([{"Role": "Teacher", "Camera": "C1", "mAP50": 0.8}, {"Role": "Student", "Camera": "C1", "mAP50": 0.7}])
        [{'Camera': 'C1', 'Teacher': 0.8, 'Student': 0.7}]
    """
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        table.setdefault(row["Camera"], {"Camera": row["Camera"]})[row["Role"]] = row[METRIC]
    return list(table.values())


def bars(rows: Sequence[dict[str, Any]], folder: Path, trained: str) -> None:
    """Draws mAP50 by camera: a bar for each role of the student and a line for the teacher.

    Writes `bars.png` and `bars.svg`. Nothing is drawn when there is no role to compare the student to.

    Args:
        rows: `Role`, `Camera` and `mAP50`; the roles are Teacher, Before, Student and Twin.
        folder: Folder that the pictures are written into.
        trained: What the legend calls the student.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["Role"], {})[row["Camera"]] = row[METRIC]
    roles = [role for role in COLORS if role in found]
    if len(found) < 2:
        return
    names = {"Before": "student before", "Student": f"student, {trained}", "Twin": "twin, trained on labels"}
    cameras = list(found["Student"])
    figure = Figure(figsize=(min(max(5.0, 0.85 * len(cameras) + 1.2), 24.0), 4.0), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(roles)
    for place, role in enumerate(roles):
        left = [i - 0.4 + width * (place + 0.5) for i in range(len(cameras))]
        heights = [found[role].get(camera, float("nan")) for camera in cameras]
        axes.bar(left, heights, width * 0.94, color=COLORS[role], label=names[role])
    if teacher := found.get("Teacher"):
        for i, camera in enumerate(cameras):
            label = "teacher" if i == 0 else "_"  # once in the legend
            axes.hlines(teacher[camera], i - 0.42, i + 0.42, color=TEACHER, linewidth=2, label=label)
    axes.set_xticks(range(len(cameras)), cameras)
    axes.set(xlabel="camera", ylabel=f"{METRIC} on test frames", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(folder / "bars.png")
    FigureCanvasSVG(figure).print_svg(folder / "bars.svg", metadata={"Date": None})
