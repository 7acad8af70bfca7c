"""The decision whether a stage is kept, with the reasons."""

from collections.abc import Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.edge.compress.limits import Limits
from lkd.edge.compress.reference import Measures
from lkd.edge.compress.step import Step
from lkd.metrics.direction import rises

NOISE = 1.03
"""Factor up to which two times count as equal: noise that is left although files are timed in turns."""


def against(measures: Measures, limits: Limits, step: Step, later: Sequence[Step], start: str) -> list[str]:
    """Returns reasons against keeping a stage, in words; empty if it is kept.

    Args:
        measures: Measurements of the stage.
        limits: Limits to obey. Size and time may still be exceeded if later steps make this stage's file
            smaller, which they cannot do with a file without weights.
        step: Step that made the stage.
        later: Steps that follow.
        start: Name of the stage whose time it is compared with.
    """
    reasons = limits.spoiled(measures.drop)
    if step.ends or not any(_shrinks(one) for one in later):
        reasons += limits.too_much(measures.p50_ms, measures.mb)
    if _shrinks(step) and not limits.allow_slower and measures.of_start > NOISE:
        reasons.append(f"slower on this machine than {start} ({measures.of_start:.2f}x)")
    return reasons


def warn_of_a_vain_limit(dense: Measures, limits: Limits) -> None:
    """Warns if the dense student is so poor that one without any knowledge obeys `max_drop`.

    A limit of 1 or more is meant as no limit, and gives no warning.

    Args:
        dense: Measurements of the dense student.
        limits: Limits to obey.
    """
    if limits.max_drop < 1 and rises(dense.metric) and 0 <= dense.value <= limits.max_drop:
        rank_zero_warn(
            f"The dense student has {dense.metric} {dense.value:.4f}, so that a file that knows nothing obeys "
            f"max_drop={limits.max_drop:g}: train it longer, or ask for less."
        )


def _shrinks(step: Step) -> bool:
    return step.removes or step.bits < 32
