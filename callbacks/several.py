"""Several distillations of one module: what their sum is, and when it is none."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lkd.distillation.pairing import name_terms

if TYPE_CHECKING:
    from lkd.callbacks.distillation import Distillation


def add_up(running: Sequence["Distillation"]) -> None:
    """Lets several distillation callbacks of one module add up to one loss, under names of their own.

    Each attaches around those before it, so that what they have made of the module's step is the later one's
    `L_student`. With `alpha=1` the later one only adds its terms: the sum is `alpha * L_student` of the first
    and all terms. Terms are numbered through, as in one callback, and the last one logs the sum.

    Args:
        running: The Trainer's distillation callbacks, in their order.

    Raises:
        ValueError: If a later one weights or repeats what those before it add.
    """
    for before, callback in itertools.pairwise(running):
        own = callback.distiller.own
        if own.alpha != 1 or own.relabeled_weight > 0:
            does = f"alpha={own.alpha} would weight" if own.alpha != 1 else "pseudo-labels would repeat"
            raise ValueError(
                f"callbacks: {type(callback).__name__} comes after {type(before).__name__}, and its {does} the terms of that too: put "
                "the terms into one callback, with a lkd.teachers.Ensemble for several teachers; or give it alpha=1, which adds "
                "its terms alone, and let the first of them weight the labels."
            )
    named = iter(
        name_terms(term for callback in running for term in callback.distiller.terms.values()).items()
    )
    for callback in running:
        distiller = callback.distiller
        distiller.terms = dict(next(named) for _ in range(len(distiller.terms)))
        distiller.last = callback is running[-1]
