"""The mechanism of distillation: attaches a teacher and loss terms to any module, and detaches them."""

import contextlib
import copy
import functools
import inspect
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lkd.finite import require_finite
from lkd.losses import Term
from lkd.taps import Taps, find_layer
from lkd.teachers import Teacher

ADAPTERS = "distillation_adapters"
"""Name of the child of the student that holds the adapters while distillation is attached."""

Relabel = Callable[[Any], Any]


class Distiller:
    """Adds distillation to the `training_step` of a module that knows nothing of it.

    The total loss is `alpha * L_student + relabelled_weight * L_relabelled + sum_i weight_i * term_i`.
    **alpha weights the student's own (hard-label) loss**, as in `L = alpha L_student + (1 - alpha) L_KD`.

    The wrapper is a bound method that looks its module up at call time, so a deep copy of an attached
    module trains the copy. Layers are tapped only while a step runs. Adapters are a child of the module
    (so that optimizers, DDP and devices see them) that its `state_dict` leaves out.

    Args:
        teacher: The frozen teacher.
        terms: The losses and where they are tapped.
        alpha: Weight of the student's own loss, 0 or more. At 0, and without `relabel`, the module's step is not
            run at all but its forward (or the layer `student_input`) on the batch's inputs: no label is needed.
        student_input: Layer of the student whose input the teacher is given; `""` is the module's own
            forward. Ignored when `input_key` is set.
        input_key: Key of the batch whose tensor the teacher is given instead.
        student_key: Key of the batch whose tensor the student's forward is given where its step is not run. Default: as the
            teacher.
        label_key: Key or index of the batch under which terms that need labels find them.
        relabel: Turns the batch into one with the teacher's labels, for hard pseudo-labels.
        relabelled_weight: Weight of the student's own loss on the relabelled batch.

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
        input_key: str | None = None,
        label_key: str | int = 1,
        relabel: Relabel | None = None,
        relabelled_weight: float = 0.0,
        student_key: str | None = None,
    ) -> None:
        if not isinstance(teacher, Teacher):
            inside = repr(teacher) if isinstance(teacher, str) else type(teacher).__name__
            raise TypeError(f"teacher={inside} must be a Teacher; wrap it: Teacher({inside}).")
        if not isinstance(terms, Sequence) or not all(isinstance(term, Term) for term in terms):
            raise TypeError("terms must be a list of lkd.losses.Term, such as [KD()].")
        if not terms and relabel is None:
            raise ValueError("terms=[] leaves nothing to distil; give at least one term, such as KD().")
        for name, weight in (("alpha", alpha), ("relabelled_weight", relabelled_weight)):
            if not weight >= 0:
                raise ValueError(f"{name}={weight} must be 0 or more; it weights the student's own loss.")
        self.teacher = teacher
        self.terms = name_terms(terms)
        self.alpha = alpha
        self.student_input = student_input
        if student_key is not None and (alpha > 0 or input_key is None):
            raise ValueError(
                f"student_key={student_key!r} is for alpha=0 (the module's own step knows its inputs) beside input_key, the "
                f"teacher's: alpha={alpha}, input_key={input_key!r}."
            )
        self.input_key = input_key
        self.student_key = student_key or input_key
        self.label_key = label_key
        self.relabel = relabel
        self.relabelled_weight = relabelled_weight
        self._undo: list[Callable[[], Any]] = []

    def attach(self, module: LightningModule, example: Any) -> None:
        """Checks the configuration on one batch, creates the adapters and wraps the module's step.

        The batch is run through a throw-away copy of the student, so neither its weights, buffers nor logs
        change, and every mistake of the configuration shows before training starts.

        Args:
            module: The student, any LightningModule with automatic optimization.
            example: A batch as its train dataloader yields it.

        Raises:
            ValueError: If a layer does not exist or does not run, shapes or class counts do not fit, or the
                module optimizes by hand.
        """
        if not module.automatic_optimization:
            raise ValueError(
                f"{type(module).__name__} sets automatic_optimization=False, but distillation changes the loss "
                "that training_step returns; leave automatic_optimization on."
            )
        self.check_layers(module)
        adapters = self._rehearse(module, example)
        self._wrap(module, "training_step", self._distilled_step)
        if len(adapters):
            module.add_module(ADAPTERS, adapters)
            self._undo.append(lambda: delattr(module, ADAPTERS))
            self._wrap(module, "configure_optimizers", self._optimizers_with_adapters)
            for handle in (
                module.register_state_dict_post_hook(_drop_adapters),
                module.register_load_state_dict_post_hook(_forgive_adapters),
            ):
                self._undo.append(handle.remove)

    def check_layers(self, module: LightningModule) -> None:
        """Looks for the student's layers.

        Raises:
            ValueError: If a layer does not exist; near names are suggested.
        """
        for term in self.terms.values():
            for layer in as_list(term.student_layer):
                find_layer(module, layer, "student_layer")
        find_layer(module, self.student_input, "student_input")

    def detach(self) -> None:
        """Takes everything back that `attach` did."""
        while self._undo:
            self._undo.pop()()

    def _wrap(self, module: LightningModule, name: str, wrapper: Callable[..., Any]) -> None:
        before = module.__dict__.get(name)
        bound = getattr(module, name)
        # A deep copy of the module must run its own step, hence the function and not the bound method.
        inner = getattr(bound, "__func__", None) or (lambda _, *args, **kwargs: bound(*args, **kwargs))

        @functools.wraps(inner)  # Lightning reads the user's signature to decide what to pass
        def method(self: LightningModule, *args: Any, **kwargs: Any) -> Any:
            return wrapper(self, inner, *args, **kwargs)

        setattr(module, name, types.MethodType(method, module))
        self._undo.append(lambda: setattr(module, name, before) if before else delattr(module, name))

    def _distilled_step(
        self, module: LightningModule, inner: Callable[..., Any], batch: Any, *args: Any
    ) -> Any:
        adapters = getattr(module, ADAPTERS, {})
        output, logs = self._loss(module, inner, batch, args, lambda name, *_: _entry(adapters, name))
        if output is None:
            return None
        size = logs.pop("batch_size")
        for name, value in logs.items():
            module.log(f"distillation/{name}", value, batch_size=size)
        return output

    def _loss(
        self,
        module: LightningModule,
        inner: Callable[..., Any],
        batch: Any,
        args: tuple[Any, ...],
        adapter_of: Any,
    ) -> tuple[Any, dict[str, Any]]:
        layers = [layer for term in self.terms.values() for layer in as_list(term.student_layer)]
        sees = [self.student_input] if self.terms and self.input_key is None else []
        logs: dict[str, Any] = {}
        total: Any = 0.0
        output: Any = None
        with Taps(module, layers, "student_layer") as student, Taps(module, sees, "student_input") as given:
            if self.alpha > 0:
                output = inner(module, batch, *args)
                if output is None:
                    return None, {}
                total = self.alpha * _loss_of(output)
            elif self.relabel is None:  # the teacher alone: a step that wants labels is not run
                find_layer(module, self.student_input, "student_input")(self._inputs(batch))
            # with alpha=0 the relabelled step runs even at weight 0: the terms need the student's outputs
            if self.relabel is not None and (self.relabelled_weight > 0 or self.alpha == 0):
                # with both losses, what the module logs is the one on its own labels
                with _silent(module) if self.alpha > 0 else contextlib.nullcontext():
                    output = inner(module, self.relabel(batch), *args)
                logs["relabelled"] = _loss_of(output).detach()
                if self.relabelled_weight > 0:
                    total = total + self.relabelled_weight * _loss_of(output)
        if self.terms:
            seen = _entry_of(batch, self.input_key) if self.input_key else given.input(self.student_input)
            teacher = self.teacher.tapped(
                seen, [layer for term in self.terms.values() for layer in as_list(term.teacher_layer)]
            )
            for name, term in self.terms.items():
                ours = student.output(term.student_layer)
                tapped = [teacher[layer] for layer in as_list(term.teacher_layer)]
                theirs = tapped[0] if isinstance(term.teacher_layer, str) else tapped
                given_too = {"rest": [self.teacher.part(part) for part in term.rest]} if term.rest else {}
                adapter = adapter_of(name, term, ours, theirs)
                value = term(ours, theirs, labels=self._labels(batch, term), adapter=adapter, **given_too)
                logs[name] = value.detach()
                total = total + term.weight * value
            logs["batch_size"] = _batch_size(seen)
        else:
            logs["batch_size"] = _batch_size(batch)
        require_finite(module, total, {k: v for k, v in logs.items() if k != "batch_size"})
        logs["total"] = total.detach()
        return ({**output, "loss": total} if isinstance(output, dict) else total), logs

    def _inputs(self, batch: Any) -> Any:
        if self.student_key is not None:
            return _entry_of(batch, self.student_key)
        if isinstance(batch, dict):
            raise ValueError(
                f"input_key=None: with alpha=0 and a dict as batch, name its images, one of {list(batch)}."
            )
        return batch[0] if isinstance(batch, (list, tuple)) else batch

    def _labels(self, batch: Any, term: Term) -> Tensor | None:
        if not term.needs_labels:
            return None
        try:
            return batch[self.label_key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"label_key={self.label_key!r}: the batch has no such entry, and {type(term).__name__} needs labels."
            ) from error

    def _rehearse(self, module: LightningModule, example: Any) -> nn.ModuleDict:
        """One step of a copy of the student: makes the adapters, and lets every mistake speak now."""
        clone = copy.deepcopy(module)
        clone.trainer = module._trainer
        adapters = nn.ModuleDict()

        def make(name: str, term: Term, student: Any, teacher: Any) -> nn.Module | None:
            adapter = term.adapter(student, teacher)
            if adapter is not None:
                adapters[name] = adapter
            return copy.deepcopy(adapter)  # its statistics, too, are those of before the first step

        args = (0,) if len(inspect.signature(module.training_step).parameters) > 1 else ()
        step = clone.training_step.__func__  # type: ignore[attr-defined]

        def own_step(*given: Any) -> Any:
            try:
                return step(*given)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                if self.alpha > 0:
                    error.add_note(
                        f"alpha={self.alpha} runs the module's own training_step; unlabelled data needs alpha=0."
                    )
                raise

        with (
            _silent(clone),
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(torch.initial_seed())  # the run's seed, whatever was drawn from it before
            self._loss(clone, own_step, example, args, make)
        return adapters

    def _optimizers_with_adapters(self, module: LightningModule, inner: Callable[..., Any]) -> Any:
        """Lets the student's first optimizer train the adapters too, if it does not yet.

        They join the first parameter group, because a group of their own would not be known to a scheduler
        that was made with the optimizer.
        """
        configured = inner(module)
        optimizer = _first_optimizer(configured)
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = [p for p in getattr(module, ADAPTERS).parameters() if id(p) not in known]
        optimizer.param_groups[0]["params"].extend(missing)
        return configured


def name_terms(terms: Sequence[Term]) -> dict[str, Term]:
    """Names every term after its class, with a number where a class occurs again.

    Example:
        >>> from lkd.losses import KD
        >>> list(name_terms([KD(), KD(temperature=1.0)]))
        ['kd', 'kd_2']
    """
    named: dict[str, Term] = {}
    for term in terms:
        base = type(term).__name__.lower()
        count = 1 + sum(n.split("_")[0] == base for n in named)
        named[base if count == 1 else f"{base}_{count}"] = term
    return named


def as_list(value: str | list[str]) -> list[str]:
    """A single layer address as a list of one."""
    return [value] if isinstance(value, str) else list(value)


@contextlib.contextmanager
def _silent(module: LightningModule) -> Iterator[None]:
    """What the module logs inside goes nowhere."""
    before: dict[str, Any] = {n: vars(module)[n] for n in ("log", "log_dict") if n in vars(module)}
    for name in ("log", "log_dict"):
        setattr(module, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            delattr(module, name)
        vars(module).update(before)


def _entry_of(batch: Any, key: str) -> Any:
    """What a batch has under a key.

    Raises:
        ValueError: If it has none; the message names those that it has.
    """
    try:
        return batch[key]
    except (KeyError, TypeError, IndexError) as error:
        keys = list(batch) if isinstance(batch, dict) else f"a {type(batch).__name__}"
        raise ValueError(f"the batch has no {key!r}, it is or has {keys}.") from error


def _entry(adapters: Any, name: str) -> nn.Module | None:
    return adapters[name] if name in adapters else None


def _loss_of(output: Any) -> Tensor:
    loss = output.get("loss") if isinstance(output, dict) else output
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"training_step returned {type(output).__name__} without a loss tensor to distil into."
        )
    return loss


def _batch_size(batch: Any) -> int:
    found: list[int] = []
    apply_to_collection(batch, Tensor, lambda t: found.append(len(t)) if t.ndim else None)
    return found[0] if found else 1


def _first_optimizer(configured: Any) -> torch.optim.Optimizer:
    while not isinstance(configured, torch.optim.Optimizer):
        configured = configured["optimizer"] if isinstance(configured, dict) else configured[0]
    return configured


def _drop_adapters(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [k for k in state if k.startswith(f"{prefix}{ADAPTERS}.")]:
        del state[key]


def _forgive_adapters(module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [k for k in incompatible.missing_keys if f"{ADAPTERS}." not in k]
