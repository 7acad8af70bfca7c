"""Checks of lists of steps."""

from collections.abc import Sequence

from lkd.edge.compress.step import Step


def check_steps(steps: Sequence[Step]) -> None:
    """Refuses an impossible list of steps before anything runs.

    Raises:
        ValueError: If the list is impossible; the message says why in one sentence.

    Example:
        >>> check_steps([])
        Traceback (most recent call last):
        ...
        ValueError: steps=[]: compress needs a step, such as Quantize.
    """
    if not steps:
        raise ValueError("steps=[]: compress needs a step, such as Quantize.")
    if steps[0].mends:
        raise ValueError(
            f"steps[0] is {_class(steps[0])}, which mends what a step before it has broken, and there is none: put it behind Prune, or "
            "train on by `fit --ckpt_path`."
        )
    file_of: Step | None = None
    for number, step in enumerate(steps):
        if file_of is not None and step.ends and not step.trains:
            raise ValueError(
                f"steps[{number}] is {_class(step)} behind {_class(file_of)}: a student is quantized once; leave one of them out, or "
                "put QuantizationAware last."
            )
        if file_of is not None and (not step.ends or type(step) is type(file_of)):
            raise ValueError(
                f"steps[{number}] is {_class(step)}, but {_class(file_of)} before it leaves a file, whose weights nothing can train "
                "or prune any more: put it before."
            )
        file_of = step if step.ends else None


def _class(step: Step) -> str:
    return type(step).__name__
