"""Figures of a study as text, in the form that the pages use."""

from lkd.leaderboard.study import DEVIATION, Study
from lkd.metrics.tables import Row


def figure(row: Row, name: str, factor: float = 1.0) -> str:
    """Writes a mean and its deviation.

    Args:
        row: Row of a study.
        name: Name of the column.
        factor: What the figure is divided by, such as 1e6 for MB of bytes.

    Example:
        >>> figure({"acc": 0.5123, "acc deviation": 0.004}, "acc"), figure({"bytes": 1234567}, "bytes", 1e6)
        ('.512 ± .004', '1.235')
        >>> figure({"acc": None}, "acc"), figure({"miou": -0.25}, "miou")
        ('-', '-.250')
    """
    value, spread = row.get(name), row.get(name + DEVIATION)
    if value is None:
        return "-"
    return _short(value / factor) + (f" ± {_short(spread / factor)}" if spread is not None else "")


def cell(study: Study, setting: str, method: str, name: str, factor: float = 1.0) -> str:
    """Writes a figure of a method; the best one of the compared metric is bold."""
    row = study.row(setting, method)
    if row is None:
        return "-"
    text = figure(row, name, factor)
    wins = method not in study.baselines and row.get(name) is not None
    return f"**{text}**" if wins and name == study.metric and row[name] == study.best(setting, name) else text


def _short(value: float) -> str:
    """Writes three decimals, without the 0 before the point, as the pages do; large figures without decimals."""
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
