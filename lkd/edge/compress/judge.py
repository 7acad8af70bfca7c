"""Whether a stage is kept: what it has to obey, and why not."""

from collections.abc import Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.edge.compress.limits import Limits
from lkd.edge.compress.reference import Measures
from lkd.edge.compress.step import Step
from lkd.metrics.direction import rises

NOISE = 1.03
"""By how much of itself a time may be longer and still pass for the same: files are timed by turns, and this is what is left."""


def against(measures: Measures, limits: Limits, step: Step, later: Sequence[Step], start: str) -> list[str]:
    """What speaks against keeping a stage, in words; nothing if it is kept.

    Args:
        measures: Of the stage.
        limits: To obey. Size and time may still be too much where later steps make this stage's file smaller, which they do not
            with a file that no weights are behind.
        step: That made it.
        later: Steps that follow.
        start: Name of the stage that it is compared with in time.
    """
    reasons = limits.spoiled(measures.drop)
    if step.ends or not any(_shrinks(one) for one in later):
        reasons += limits.too_much(measures.p50_ms, measures.mb)
    if _shrinks(step) and not limits.allow_slower and measures.of_start > NOISE:
        reasons.append(f"slower on this machine than {start} ({measures.of_start:.2f}x)")
    return reasons


def warn_of_a_vain_limit(dense: Measures, limits: Limits) -> None:
    """Warns where the dense student is so poor that one which knows nothing obeys `max_drop`; 1 or more is no limit by intent.

    Args:
        dense: Of the dense student.
        limits: To obey.
    """
    if limits.max_drop < 1 and rises(dense.metric) and 0 <= dense.value <= limits.max_drop:
        rank_zero_warn(
            f"The dense student has {dense.metric} {dense.value:.4f}, so that a file that knows nothing obeys "
            f"max_drop={limits.max_drop:g}: train it longer, or ask for less."
        )


def _shrinks(step: Step) -> bool:
    return step.removes or step.bits < 32
