"""The student's half of a distilled step: its own losses, while the compared layers are tapped."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lkd.addresses import parse
from lkd.batches import Keys, call_of
from lkd.distillation.own_losses import OwnLosses, Step, loss_of
from lkd.distillation.pairing import student_layers
from lkd.kept import NOTHING, Kept
from lkd.losses import Term
from lkd.taps import Call, Reached, Taps
from lkd.teachers import Teacher


@dataclasses.dataclass
class Known:
    """What the steps of a module have shown so far.

    Args:
        step: The module's own `training_step`, as a function of the module.
        root: Layer that stands for its forward; None before the first step.
        layouts: Orders of dimensions, by argument and address.
        ran: Whether a step has finished.
        moves: Whether a gradient reaches all that is compared.
        adapted: Whether the module's adapters are made.
        told: Whether it has been warned of calls that are not compared.
    """

    step: Step
    root: str | None = None
    layouts: dict[tuple[str, str], str | None] = dataclasses.field(default_factory=dict)
    ran: bool = False
    moves: bool = False
    adapted: bool = False
    told: bool = False


@dataclasses.dataclass
class Passed:
    """Results of the student's half of a step.

    Args:
        output: What its own step returned.
        total: Sum of its own losses.
        logs: Losses to log.
        taps: Outputs of its layers, and arguments of the layer whose call the teacher repeats.
        before: The batch as it was before the step.
    """

    output: Any
    total: Any
    logs: dict[str, Tensor]
    taps: Taps
    before: Kept

    def batch(self, batch: Any) -> Any:
        """Returns the batch as the step leaves it, with entries that the step took out of a dict put back."""
        return {**(self.before.value or {}), **batch} if isinstance(batch, Mapping) else batch

    def given(self, batch: Any, teacher: Teacher, student_input: str, input_key: Keys | None) -> Call:
        """Returns what the teacher is called with.

        Raises:
            ValueError: If the batch does not have it, or if the step has changed it in place, so that the
                teacher could be meant to see it before or after the change.
        """
        if input_key is None:
            return self.taps.call(student_input)
        call = call_of(teacher.asked, self.batch(batch), input_key)
        if self.before.changed(call):
            raise ValueError(
                f"input_key={input_key!r}: the student's step changes this entry of the batch in place, and nothing tells whether the "
                "teacher is to be given it before or after that; let the step make a new tensor, as x = x - mean does."
            )
        return call

    def tell_of_calls(self, module: LightningModule, terms: Iterable[Term], sees: list[str]) -> bool:
        """Warns if what is compared, or repeated by the teacher, ran several times with gradients.

        Args:
            module: The student.
            terms: The losses that compare.
            sees: The layer whose call the teacher repeats, if there is one.

        Returns:
            Whether it has warned.
        """
        if not self.taps.repeated:
            return False
        named = [("student_layer", at) for at in student_layers(terms)]
        named += [("student_input", at) for at in sees]
        calls = {f"{argument}={at!r}": count for argument, at in named if (count := self.taps.calls(at)) > 1}
        if calls:
            what = " and ".join(f"{name} {count} times" for name, count in calls.items())
            rank_zero_warn(
                f"{type(module).__name__}.training_step runs {what} with gradients, and only the last of these calls is distilled: make one call "
                "of all samples, self(torch.cat([a, b])), or make the one that is meant the last, or name a layer or an entry of "
                "the batch that belongs to it alone as student_layer and student_input or input_key."
            )
        return bool(calls)

    def require_guess(self, terms: Iterable[Term]) -> None:
        """Refuses the layer found for the student's forward if a layer without weights comes before the loss.

        Raises:
            ValueError: If the step reads it so.
        """
        guessed = self.taps.root and any(
            parse(at).module == "" and not term.raw for term in terms for at in student_layers([term])
        )
        if not guessed or self.output is None:
            return
        through = self.taps.read_through(loss_of(self.output))
        if through is not None:
            root = self.taps.root
            raise ValueError(
                f"student_layer='': the step goes on from what {root!r} gives with {through!r}, so that nothing tells which of the two is "
                f"compared; name it: student_layer={root!r} or student_layer={through!r}."
            )


def run(
    module: LightningModule,
    own: OwnLosses,
    known: Known,
    terms: Iterable[Term],
    batch: Any,
    args: tuple[Any, ...],
    sees: list[str],
    read: bool,
    only_look: bool = False,
) -> Passed | None:
    """Runs the student's half of a step; returns None if its step skips the batch.

    Args:
        module: The student.
        own: Its own losses.
        known: What its steps have shown so far.
        terms: The losses that compare.
        batch: The batch.
        args: Further arguments of the step.
        sees: The layer whose call the teacher repeats, if there is one.
        read: Whether entries of the batch are needed after the step.
        only_look: Whether to stop as soon as all tapped layers have run.
    """
    root = known.root if known.root is not None else own.root(module)

    def seen() -> None:
        if only_look and taps.learned:
            raise Reached

    taps = Taps(module, student_layers(terms), "student_layer", root, seen, ("gave",), sees, "student_input")
    before = Kept(batch) if read else NOTHING
    losses: tuple[Any, Any, dict[str, Tensor]] | None = (None, 0.0, {})
    try:
        with taps:
            losses = own.of(module, known.step, batch, args, root)
    except Reached:
        if not only_look:  # another distillation of the same module may be looking
            raise
    except (ValueError, TypeError, KeyError, IndexError) as error:
        if own.alpha > 0 and not known.ran:
            error.add_note(
                f"alpha={own.alpha} runs the module's own training_step; unlabeled data needs alpha=0."
            )
        raise
    return None if losses is None else Passed(*losses, taps, before)


def precision_of(module: LightningModule) -> contextlib.AbstractContextManager[Any]:
    """Returns the context in which the Trainer of a module, if it has one, runs training steps."""
    plugin = getattr(module._trainer, "precision_plugin", None)
    return contextlib.nullcontext() if plugin is None else plugin.train_step_context()
