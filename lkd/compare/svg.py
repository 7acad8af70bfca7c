"""matplotlib's figures as SVG inside a page: with the page's colors and font, and nothing from outside."""

import io
import re
from html import escape
from pathlib import Path
from typing import Any

INK = "#010203"  # stands for the page's own text color until the figure is in the page
COLORS = (
    "#0072b2",
    "#e08a00",
    "#009e73",
    "#d55e00",
    "#c05a94",
    "#4aa3df",
    "#8c6bb1",
    "#9a7d0a",
    "#3f8f29",
    "#a04040",
)
MARKERS = "osD^vPX*<>"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11.0,  # in a picture as wide as the page: still readable on a phone
    "pdf.fonttype": 42,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.framealpha": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        INK,
    ),
}


def style() -> Any:
    """Returns a context in which figures have the page's style."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(panels: int, height: float = 3.2, legend: int = 0) -> tuple[Any, list[Any]]:
    """Creates a figure as wide as a page, with panels one below the other.

    Args:
        panels: Number of panels.
        height: Height of each, in inches.
        legend: Entries of the legend below them.

    Returns:
        The figure, and the axes of its panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, height * panels + 0.2 * legend), layout="constrained")
    axes = [figure.add_subplot(panels, 1, i + 1) for i in range(panels)]
    for each in axes:
        each.grid(alpha=0.25, color=INK, linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def look(place: int) -> dict[str, Any]:
    """Gives the color and the marker of the method at a place of the list, so that both tell it apart."""
    return {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}


def to_svg(figure: Any, name: str, alt: str, folder: Path) -> str:
    """Turns a figure into an `<svg>` element, and saves it as `<name>.png` and `<name>.pdf`.

    Args:
        figure: matplotlib's figure.
        name: Name of the files. It also precedes all ids of the element, which have to be unique in the page.
        alt: Description for readers who cannot see the picture.
        folder: Folder of the files.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    folder.mkdir(parents=True, exist_ok=True)
    for canvas, ending in ((FigureCanvasAgg, "png"), (FigureCanvasPdf, "pdf")):
        canvas(figure).figure.savefig(
            folder / f"{name}.{ending}", dpi=200, facecolor="white", bbox_inches="tight"
        )
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    text = re.sub(r"(?s)<metadata>.*?</metadata>", "", out.getvalue())
    text = text[text.index("<svg") :]  # without the prologue, which names a file elsewhere
    head, _, body = text.partition(">")
    view = re.search(r'viewBox="([^"]*)"', head)
    assert view is not None
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body).replace(INK, "currentColor")
    title = f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(alt)}"><title>{escape(alt)}</title>'
    return title + body.strip()
