"""The student's half of a distilled step: its own losses, or its forward where there are no labels."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from lkd.addresses import find_layer
from lkd.batches import Keys, begins_with_labels, call_of
from lkd.checks import expect
from lkd.counted import uncounted
from lkd.kept import NOTHING, Kept
from lkd.taps import Call

Relabel = Callable[[Any], Any]
Step = Callable[..., Any]


class OwnLosses:
    """The student's own losses: its step on its labels, on the teacher's or on both, or its forward alone.

    Args:
        alpha: Weight of the loss on its own labels, 0 or more.
        relabel: Function that replaces the batch's labels by the teacher's.
        relabeled_weight: Weight of the loss on the relabeled batch, 0 or more.
        student_input: Layer that is called where no step is run: with `alpha=0` and without `relabel`.
        student_key: Key or index of the batch's entry that this layer is given, or several. Default: the
            batch, if it is a tensor, or its first entry.

    Raises:
        ValueError: If a weight is negative, or if a key is given although the module's own step runs.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        relabel: Relabel | None = None,
        relabeled_weight: float = 0.0,
        student_input: str = "",
        student_key: Keys | None = None,
    ) -> None:
        expect(alpha=alpha, relabeled_weight=relabeled_weight, ge=0, why="it weights the student's own loss")
        self.alpha, self.relabel, self.relabeled_weight = alpha, relabel, relabeled_weight
        self.student_input, self.student_key = student_input, student_key

    @property
    def runs_step(self) -> bool:
        """Whether the module's own step runs at all."""
        return self.alpha > 0 or self.relabel is not None

    def of(
        self, module: LightningModule, step: Step, batch: Any, args: tuple[Any, ...], root: str | None
    ) -> tuple[Any, Any, dict[str, Tensor]] | None:
        """Returns the step's output, the weighted sum of the losses, and losses to log.

        None if the step skips the batch.

        Args:
            module: The student.
            step: The student's own `training_step`, as a function of the module.
            batch: The batch.
            args: Further arguments of the step.
            root: Layer that stands for the module's own forward.

        Raises:
            ValueError: If the step changes in place what it would be given a second time.
        """
        logs: dict[str, Tensor] = {}
        total: Any = 0.0
        output: Any = None
        before = NOTHING if self.relabel is None else Kept(batch)
        if self.alpha > 0:
            output = step(module, batch, *args)
            if output is None:
                return None
            total = weighted(self.alpha, loss_of(output))
        elif self.relabel is None:  # the teacher alone: a step that needs labels is not run
            layer = find_layer(module, self.student_input or root or "", "student_input")
            call = call_of(layer, batch, self.student_key, argument="student_key or input_key")
            if self.student_key is None:
                _require_inputs(batch, call)
            layer(*call.args, **call.kwargs)
        # with alpha=0 the relabeled step runs even at weight 0: the terms need the student's outputs
        if self.relabel is not None and (self.relabeled_weight > 0 or self.alpha == 0):
            # with both losses, the module logs the loss on its own labels
            relabeled = self.relabel(before.value)
            if before.changed(relabeled):
                raise ValueError(
                    "the student's step changes its inputs in place, so that its second pass, on the teacher's labels, would see others; "
                    "let it make a new tensor, as x = x / 255 does."
                )
            with _again(module) if self.alpha > 0 else contextlib.nullcontext():
                output = step(module, relabeled, *args)
            if output is None:
                return None
            logs["relabeled"] = loss_of(output).detach()
            if self.relabeled_weight > 0:
                total = total + weighted(self.relabeled_weight, loss_of(output))
        return output, total, logs

    def root(self, module: nn.Module) -> str | None:
        """Returns the layer in place of a missing forward.

        It is None if there is a forward, or if the step will show the layer.

        Raises:
            ValueError: If a forward is needed, and none exists nor exactly one layer in its place.
        """
        owner = next(c for c in type(module).__mro__ if "forward" in vars(c))
        if self.runs_step or self.student_input or owner.__name__ not in ("LightningModule", "Module"):
            return None
        layers = [
            n
            for n, c in module.named_children()
            if not isinstance(c, Metric) and any(True for _ in c.parameters())
        ]
        if len(layers) != 1:
            raise ValueError(
                f"student_input='': {type(module).__name__} has no forward, which alpha=0 would call; name the layer that is given "
                f"the batch's input as student_input, and the one whose output is compared as student_layer, of {layers}."
            )
        return layers[0]


def _require_inputs(batch: Any, call: Call) -> None:
    """Refuses to take labels, or a whole dict, for inputs without a key that names the inputs."""
    if isinstance(batch, Mapping) and call.args:
        raise ValueError(
            f"input_key=None: with alpha=0 and a dict as batch, name its images, one of {list(batch)}."
        )
    if isinstance(batch, list | tuple) and begins_with_labels(batch):
        kind = "integers" if batch[0].ndim <= 1 and not batch[0].is_floating_point() else "zeros and ones"
        raise ValueError(
            f"input_key=None: the batch begins with {kind} {tuple(batch[0].shape)}, which look like labels; name the entry "
            "that holds the inputs, such as input_key=1."
        )


def loss_of(output: Any) -> Tensor:
    """Returns the loss that a `training_step` returned.

    Raises:
        ValueError: If it returned none.
    """
    loss = output.get("loss") if isinstance(output, dict) else output
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"training_step returned {type(output).__name__} without a loss tensor to distill into."
        )
    return loss


def weighted(weight: float, loss: Tensor) -> Tensor:
    """Returns `weight * loss`; at weight 1 the loss itself, which is the same without a node of the graph."""
    return loss if weight == 1 else weight * loss


@contextlib.contextmanager
def silent(module: LightningModule) -> Iterator[None]:
    """Discards what the module logs inside the block."""
    before: dict[str, Any] = {n: vars(module)[n] for n in ("log", "log_dict") if n in vars(module)}
    for name in ("log", "log_dict"):
        setattr(module, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            delattr(module, name)
        vars(module).update(before)


@contextlib.contextmanager
def _again(module: LightningModule) -> Iterator[None]:
    """Runs a step a second time on the same inputs: nothing is logged, and no call counts twice."""
    with silent(module), uncounted():
        yield
