"""Check, in its first answer, that a teacher does not change and gives the same answer to the same batch."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import _collect_rng_states, isolate_rng
from torch import Tensor, nn

from lkd.nested import tensors

APART = 1e-2
"""Relative distance beyond which two answers differ; kernels that add in another order stay below."""


class Steady:
    """Watch over one teacher.

    Its first answer shows whether buffers change (they are restored, then and in all later answers), whether
    the forward switches a layer to training, and whether it draws random numbers. A teacher that draws is
    asked again, to see whether that changes its answer.
    """

    def __init__(self) -> None:
        self._looked, self._drifts = False, False

    def ask(self, model: nn.Module, answer: Callable[[], Any], name: str) -> Any:
        """Asks the teacher, and checks its first answer.

        Args:
            model: The teacher's model, in eval mode.
            answer: Runs it on a batch.
            name: Name of the teacher, for warnings.

        Returns:
            What `answer` returned.
        """
        if self._looked and not self._drifts:
            return answer()
        buffers = [
            (m, k, b, b.clone()) for m in model.modules() for k, b in m._buffers.items() if b is not None
        ]
        drawn = None if self._looked else _states()
        on = {
            id(m) for m in model.modules() if getattr(m, "training", False)
        }  # modules that eval() leaves in training, as heads of YOLO do
        given = answer()
        if drawn is not None:
            self._looked = True
            switched = [m for m in model.modules() if getattr(m, "training", False) and id(m) not in on]
            self._look(switched, answer, given, name, drew=not _same(drawn, _states()))
            changed = [(m, k) for m, k, _, before in buffers if _changed(m._buffers[k], before)]
            self._drifts = bool(changed)
            if changed:
                owner, key = changed[0]
                rank_zero_warn(
                    f"the teacher {name} changes {key} of {type(owner).__name__} in its forward; a teacher is frozen, so its buffers "
                    "are put back after every batch."
                )
        if self._drifts:
            for owner, key, buffer, before in buffers:
                if _changed(owner._buffers[key], before):
                    owner._buffers[key] = buffer.copy_(before)
        return given

    def _look(
        self, switched: list[nn.Module], answer: Callable[[], Any], given: Any, name: str, drew: bool
    ) -> None:
        if switched:
            rank_zero_warn(
                f"the teacher {name} puts {type(switched[0]).__name__} into training mode in its forward, so that what it says of a sample depends on "
                "its batch or on chance: leave train() out there."
            )
        elif drew:
            with isolate_rng():
                again = answer()
            if not _alike(given, again):
                rank_zero_warn(
                    f"the teacher {name} says something else when it is asked the same again: it draws random numbers in eval mode (such "
                    "as torch.nn.functional.dropout without training=self.training), and a student learns its noise."
                )


def _states() -> dict[str, Any]:
    return _collect_rng_states(include_cuda=torch.cuda.is_initialized())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return all(map(_same, one, other))
    return bool((one == other).all() if hasattr(one, "all") else one == other)


def _changed(now: Tensor | None, before: Tensor) -> bool:
    """Tells whether values changed; a cache that has grown does not count."""
    return now is not None and now.shape == before.shape and not torch.equal(now, before)


def _alike(given: Any, again: Any) -> bool:
    for one, other in zip(tensors(given), tensors(again), strict=False):
        if one.shape != other.shape:
            return False
        a, b = (t.double() for t in (one, other))
        if float((a - b).norm()) > APART * float(a.norm()):
            return False
    return True
