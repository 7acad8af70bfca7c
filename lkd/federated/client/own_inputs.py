"""Warning of a module that changes its inputs in its steps, where an algorithm calls its forward by itself."""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.batches import call_of
from lkd.copies import copied
from lkd.distillation.own_call import shown_call
from lkd.nested import tensors
from lkd.packages import overrides


def calls_forward(algorithm: Any) -> bool:
    """Tells whether an algorithm calls the forward of a module itself, as one with an `input_key` does."""
    return hasattr(algorithm, "input_key")


def warn_of_own_inputs(algorithm: Any, module: LightningModule, batch: Any) -> None:
    """Warns where the module's step gives its forward other inputs than the algorithm would.

    Asked is the validation step, or else the test step, since a training step may augment, which no algorithm
    has to repeat.

    Args:
        algorithm: The algorithm.
        module: The client's module.
        batch: A training batch, on its device.
    """
    steps = [name for name in ("validation_step", "test_step") if overrides(module, name)]
    if not calls_forward(algorithm) or not steps:
        return
    # a copy, since a step that goes past its forward runs to its end, with its metrics
    shown = shown_call(copied(module, "client").eval(), batch, steps[0])
    try:
        called = call_of(module, batch, algorithm.input_key, getattr(algorithm, "label_key", 1))
    except ValueError:  # which the algorithm says itself
        return
    if shown is None:
        return
    ours, theirs = list(tensors(called)), list(tensors(shown))
    if len(ours) != len(theirs) or all(
        a.shape == b.shape and bool((a == b).all() | (a != a).any())
        for a, b in zip(ours, theirs, strict=True)
    ):
        return
    who = type(module).__name__
    rank_zero_warn(
        f"{who}.{steps[0]} changes its inputs before it gives them to {who}.forward, such as by scaling or reshaping, and "
        f"{type(algorithm).__name__} gives the forward samples as the data have them: move that into forward, or into "
        "on_after_batch_transfer."
    )
