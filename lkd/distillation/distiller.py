"""The mechanism of distillation: attaches a teacher and loss terms to any module, and detaches them."""

import copy
import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lkd.addresses import find_layer
from lkd.batches import Keys, entry, size
from lkd.distillation.adapters import ADAPTERS, hold, make_adapters, may_adapt, shapes_of, train_along
from lkd.distillation.own_losses import OwnLosses, Relabel, Step, silent, weighted
from lkd.distillation.pairing import TermPair, name_terms, pair_up, require_gradient, student_layers
from lkd.distillation.probabilities import refuse_probabilities
from lkd.distillation.samples import require_samples
from lkd.distillation.student import Known, Passed, precision_of, run
from lkd.distillation.wrapping import wrap
from lkd.finite import require_finite
from lkd.looks import looking
from lkd.losses import Term
from lkd.nested import shallow
from lkd.teachers import Teacher
from lkd.unchanged import unchanged


class Distiller:
    """Mechanism that adds distillation to the `training_step` of a module, without any change to the module.

    The total loss is `alpha * L_student + relabeled_weight * L_relabeled + sum_i weight_i * term_i`.
    **alpha weights the student's own (hard-label) loss**, as in `L = alpha L_student + (1 - alpha) L_KD`.

    The wrapper is a bound method that looks its module up at call time, so a deep copy of an attached module
    trains the copy. Layers are tapped only while a step runs. Adapters are an attribute of the module and no
    child, so its weights stay its own. Its first optimizer trains them too.

    Args:
        teacher: The frozen teacher.
        terms: The losses and where they are tapped.
        alpha: Weight of the student's own loss, 0 or more. At 0, and without `relabel`, the module's step is
            not run at all, only its forward (or the layer `student_input`) on the batch's inputs: no label is
            needed.
        student_input: Layer of the student whose call the teacher repeats, with all positional and keyword
            arguments; `""` is the module's own forward, or the only outermost layer that runs in its place.
            Ignored when `input_key` is set.
        input_key: Key or index of the batch's entry that the teacher is given instead, or several of them.
        student_key: Key or index of the entries that the student's forward is given where its step is not
            run. Default: the entries of the teacher.
        label_key: Key or index of the batch under which terms that need labels find them.
        relabel: Function that replaces the batch's labels by the teacher's, for hard pseudo-labels.
        relabeled_weight: Weight of the student's own loss on the relabeled batch.

    Raises:
        TypeError: If the teacher is no `Teacher`, or the terms are no list of terms.
        ValueError: If there is nothing to learn from, or a weight is negative.
    """

    def __init__(
        self,
        teacher: Teacher,
        terms: Sequence[Term],
        alpha: float = 0.5,
        student_input: str = "",
        input_key: Keys | None = None,
        label_key: str | int = 1,
        relabel: Relabel | None = None,
        relabeled_weight: float = 0.0,
        student_key: Keys | None = None,
    ) -> None:
        if not isinstance(teacher, Teacher):
            inside = repr(teacher) if isinstance(teacher, str) else type(teacher).__name__
            raise TypeError(f"teacher={inside} must be a Teacher; wrap it: Teacher({inside}).")
        if not isinstance(terms, Sequence) or not all(isinstance(term, Term) for term in terms):
            raise TypeError("terms must be a list of lkd.losses.Term, such as [KD()].")
        if not terms and relabel is None:
            raise ValueError("terms=[] leaves nothing to distill; give at least one term, such as KD().")
        if student_key is not None and alpha > 0:
            raise ValueError(
                f"student_key={student_key!r} is for alpha=0: with alpha={alpha} the module's own step knows its inputs."
            )
        self.teacher = teacher
        self.terms = name_terms(terms)
        self.student_input, self.input_key, self.label_key = student_input, input_key, label_key
        self._sees = [student_input] if terms and input_key is None else []
        self.own = OwnLosses(
            alpha,
            relabel,
            relabeled_weight,
            student_input,
            input_key if student_key is None else student_key,
        )
        self.thaws = False
        """Whether a callback unfreezes layers during the run, so that they may lack a gradient before."""
        self.last = True
        """Whether no other distillation of the module runs around this one, which then logs the sum of all."""
        self.shapes: dict[str, list[Any]] = {}
        """Shapes and layers that the adapters were made from, for a checkpoint."""
        self._undo: list[Callable[[], Any]] = []

    def attach(
        self, module: LightningModule, example: Any = None, ready: Callable[[], Any] | None = None
    ) -> None:
        """Wraps the module's step; adapters are made at its first loss, if not before.

        Args:
            module: The student, any LightningModule with automatic optimization.
            example: A batch that makes the adapters and checks the configuration at once, for custom loops,
                which take the optimizer from `module.configure_optimizers()` afterward.
            ready: Called when the module's optimizer is about to be made: its layers exist then, on their
                device and in their precision.

        Raises:
            ValueError: If the module optimizes by hand or is compiled; with an example, also if a layer does
                not exist or does not run, or if shapes or class counts do not fit.
        """
        if not module.automatic_optimization:
            raise ValueError(
                f"{type(module).__name__} sets automatic_optimization=False, but distillation changes the loss "
                "that training_step returns; leave automatic_optimization on."
            )
        if getattr(module, "_compiler_ctx", None) is not None:  # Lightning's mark of a compiled module
            raise ValueError(
                f"torch.compile({type(module).__name__}) hides its layers from distillation; fit the module itself, and compile "
                "only what no address enters, such as self.backbone = torch.compile(self.backbone)."
            )
        if not self._undo:
            self._known: weakref.WeakKeyDictionary[nn.Module, Known] = weakref.WeakKeyDictionary()
        step = self._wrap(module, "training_step", self._distilled_step)
        self._wrap(module, "configure_optimizers", functools.partial(self._optimizers, ready))
        self._known[module] = Known(step)
        if example is not None:
            self.check_layers(module)
            self.adopt(module, self.look(module, example) or [], example)

    def adapted(self, module: LightningModule) -> bool:
        """Returns whether the adapters of a module are made."""
        return self._known[module].adapted

    def detach(self) -> None:
        """Undoes everything that `attach` did."""
        while self._undo:
            self._undo.pop()()

    def check_layers(self, module: LightningModule) -> None:
        """Checks that the student's layers exist.

        Raises:
            ValueError: If a layer does not exist; similar names are suggested.
        """
        for layer in student_layers(self.terms.values()):
            find_layer(module, layer, "student_layer")
        find_layer(module, self.student_input, "student_input")

    def look(self, module: LightningModule, batch: Any, must: bool = True) -> list[TermPair] | None:
        """Returns what student and teacher give on a batch.

        Only the forward of the student's step runs, and leaves no trace.

        Args:
            module: A student to which this distiller is attached.
            batch: A training batch on its device.
            must: Whether the student's step has to reach its forward. If not, None says that it does not yet.

        Raises:
            ValueError: If a layer does not run, or student and teacher do not fit.
        """
        batch = shallow(batch)  # a step may take entries out
        args = (0,) if len(inspect.signature(module.training_step).parameters) > 1 else ()
        with silent(module), unchanged(module), precision_of(module), torch.enable_grad():
            try:
                passed = self._pass(module, self._known[module], batch, args, only_look=True)
            except Exception:  # the step may need what only hooks of the running fit make
                if must:
                    raise
                return None
            if passed is None and must:
                raise ValueError(f"{type(module).__name__}.training_step skips the batch: it returned None.")
            return None if passed is None else self._pairs(module, passed, batch)

    def adopt(self, module: LightningModule, pairs: Sequence[TermPair], batch: Any = None) -> nn.ModuleDict:
        """Makes the module's adapters.

        Args:
            module: The student.
            pairs: What `look` found.
            batch: If given, every loss is computed once on it, so that mistakes show now.
        """
        adapters = make_adapters(module, pairs)
        if len(adapters) and len(getattr(module, ADAPTERS, ())):
            raise ValueError(
                f"two distillation callbacks learn adapters for {type(module).__name__}; put their terms into one: "
                "Distillation(teacher, [first, second]), with a lkd.teachers.Ensemble for several teachers."
            )
        self._known[module].adapted = True
        if not len(adapters) and hasattr(module, ADAPTERS):
            return adapters
        self.shapes = shapes_of(pairs)
        self._undo.append(hold(module, adapters, as_child=self.thaws))
        if batch is not None:
            with isolate_rng(), precision_of(module), torch.no_grad():
                copies = copy.deepcopy(adapters)  # what adapters remember begins with the first step
                for pair in pairs:
                    self._value(pair, batch, copies)
        return adapters

    def _wrap(self, module: LightningModule, name: str, wrapper: Step) -> Step:
        inner, undo = wrap(module, name, wrapper)
        self._undo.append(undo)
        return inner

    def _distilled_step(self, module: LightningModule, inner: Step, batch: Any, *args: Any) -> Any:
        known = self._known.get(module)
        if known is None:  # a deep copy of the student has not run a step yet
            known = self._known[module] = Known(inner)
        with looking(module, first=args[0] == 0 if args else not known.ran):
            return self._distilled(module, known, batch, args)

    def _distilled(self, module: LightningModule, known: Known, batch: Any, args: tuple[Any, ...]) -> Any:
        passed = self._pass(module, known, batch, args)
        if passed is None:
            return None
        first, known.ran = not known.ran, True
        logs, total = passed.logs, passed.total
        pairs = self._pairs(module, passed, batch)
        if first:
            refuse_probabilities(pairs)
        known.told = known.told or passed.tell_of_calls(module, self.terms.values(), self._sees)
        adapters = getattr(module, ADAPTERS, None)
        if adapters is None and may_adapt(self.terms.values()):
            adapters = self._adopt_late(module, pairs)
        require_samples(module, pairs)
        for pair in pairs:
            value = self._value(pair, passed.batch(batch), adapters)
            logs[pair.name] = value.detach()
            total = total + weighted(pair.term.weight, value)
        require_finite(module, total, logs)
        samples = size([pair.student for pair in pairs if not pair.term.raw] or batch)
        if self.last:
            logs["total"] = total.detach()
        for name, value in logs.items():
            module.log(f"distillation/{name}", value, batch_size=samples)
        return {**passed.output, "loss": total} if isinstance(passed.output, dict) else total

    def _pass(
        self,
        module: LightningModule,
        known: Known,
        batch: Any,
        args: tuple[Any, ...],
        only_look: bool = False,
    ) -> Passed | None:
        read = self.input_key is not None or any(term.needs_labels for term in self.terms.values())
        return run(module, self.own, known, self.terms.values(), batch, args, self._sees, read, only_look)

    def _pairs(self, module: LightningModule, passed: Passed, batch: Any) -> list[TermPair]:
        known, pairs = self._known[module], []
        if self.terms:
            given = passed.given(batch, self.teacher, self.student_input, self.input_key)
            pairs = pair_up(self.terms, passed.taps, self.teacher, given, known.layouts)
        if known.root is None:
            passed.require_guess(self.terms.values())
            known.root = passed.taps.root
        if torch.is_grad_enabled() and not (known.moves or self.thaws):
            require_gradient(pairs)
            known.moves = known.ran  # a look before training has not seen all of the step
        return pairs

    def _value(self, pair: TermPair, batch: Any, adapters: Any) -> Tensor:
        term, adapter = pair.term, adapters[pair.name] if adapters and pair.name in adapters else None
        parts = {"rest": [self.teacher.part(part) for part in term.rest]} if term.rest else {}
        return term(pair.student, pair.teacher, labels=self._labels(batch, term), adapter=adapter, **parts)

    def _labels(self, batch: Any, term: Term) -> Any:
        if not term.needs_labels:
            return None
        return entry(batch, self.label_key, "label_key", f", and {type(term).__name__} needs labels")

    def _adopt_late(self, module: LightningModule, pairs: Sequence[TermPair]) -> nn.ModuleDict:
        """Makes the adapters at the first loss of a run whose forward could not be looked at before."""
        if module._trainer is None:
            raise ValueError(
                "the adapters of the distillation have no optimizer yet: outside of a Trainer, attach with an example batch, "
                "and take the optimizer from configure_optimizers() afterwards."
            )
        adapters = self.adopt(module, pairs)
        train_along(module.trainer.optimizers, adapters)
        return adapters

    def _optimizers(self, ready: Callable[[], Any] | None, module: LightningModule, inner: Step) -> Any:
        """Makes the module's own optimizers, and lets the first train the adapters that are made."""
        if ready is not None:
            ready()
        configured = inner(module)
        if len(adapters := getattr(module, ADAPTERS, nn.ModuleDict())):
            train_along(configured, adapters)
        return configured
