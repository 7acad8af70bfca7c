"""`CachedTeacher`: a teacher that is asked once about every sample, with answers kept on disk."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from lkd.addresses import parse
from lkd.edge.cache.answers import CachedAnswers, Form
from lkd.edge.cache.layout import AnswerLayout, NotBySampleError
from lkd.edge.cache.reduced import AnswerReduction, Kept
from lkd.edge.cache.samples import BatchedCall
from lkd.edge.cache.store import Store
from lkd.nested import on_tensors
from lkd.taps import Call
from lkd.teachers.fingerprint import Fingerprint
from lkd.teachers.inputs import device_of, shown
from lkd.teachers.precision import dtypes_of
from lkd.teachers.teacher import Teacher

DETECT = "detect("
"""Beginning of the name of detections among layers; a camera follows, if the teacher has copies."""


class CachedTeacher(Teacher):
    """`Teacher` that looks up earlier answers, sample by sample, and runs only on new samples.

    An answer is found again by the content of the sample as the model is given it (after the teacher's own
    normalization), the other arguments of the call, the layer, and the teacher's fingerprint
    (`lkd.teachers.fingerprint`): weights, buffers, settings, code, precision. A teacher that changes is asked
    anew.

    The first batch of every form is always asked live, and so is one of its samples alone. An answer that
    depends on the batch is refused, and so is a store with different answers. Data that are augmented anew in
    every epoch are never found: see docs/cache.md.

    Args:
        model: The model, see `Teacher`.
        cache: Folder of the store. Several teachers, runs and processes may share one.
        limit_mb: Largest size of the answers in MB; beyond it the least recently used are dropped. Default:
            10,000; None for no limit.
        dtype: Type of kept floating-point answers: `"float16"`, `"bfloat16"` or `"uint8"`. Default: their
            own, so that training is the same as without a cache.
        top_k: Number of the model's largest class scores that are kept. Default: all.
        **teacher: All other arguments of `Teacher`.

    Raises:
        ValueError: For a limit, a type or a number out of range; if the folder is no store, or one of another
            version; while running, if an answer cannot be kept by sample or differs from the kept one.
        OSError: If the folder cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> net, asked = nn.Linear(4, 3), []
        >>> _ = net.register_forward_hook(lambda module, given, gave: asked.append(len(gave)))
        >>> with TemporaryDirectory() as folder:
        ...     teacher = CachedTeacher(net, folder)
        ...     _ = teacher(torch.eye(4)), teacher(torch.eye(4)[:2]), teacher(torch.eye(4)[2:] + torch.eye(4)[:2])
        ...     teacher.store.close()
        >>> asked  # the first batch, a sample of it alone, and two new samples
        [4, 1, 2]
    """

    def __init__(
        self,
        model: nn.Module | Callable[..., Any] | str | os.PathLike[str],
        cache: str | os.PathLike[str],
        limit_mb: float | None = 10_000.0,
        dtype: Kept | None = None,
        top_k: int | None = None,
        **teacher: Any,
    ) -> None:
        super().__init__(model, **teacher)
        self.reduction = AnswerReduction(dtype, top_k)
        self.store = Store(cache, limit_mb)
        self.answers = CachedAnswers(self.store)
        self._watched: Fingerprint | None = None
        self._mark = ""
        self._cut: dict[str, list[bool]] = {}
        self._epochs, self._before = 0, (0, 0)
        self._told = self._uneven = False  # what has been warned of

    def renew(self) -> None:
        """Checks everything again, as at the beginning of a run: weights, and the first batch."""
        self._look_again()
        self.answers.forms.clear()

    def epoch_ended(self, enough: int = 2) -> float | None:
        """Returns the share of an epoch's samples that were found in the store; None without samples.

        Args:
            enough: Number of epochs after which an epoch should find answers of earlier ones. If it finds
                none, a warning says so, once.
        """
        asked, found = self.answers.asked - self._before[0], self.answers.found - self._before[1]
        self._before, self._epochs = (self.answers.asked, self.answers.found), self._epochs + 1
        if not asked:
            return None
        self._look_again()
        if found < asked / 100 and self._epochs >= enough and not self._told and not self.store.full:
            self._told = True
            rank_zero_warn(
                f"The cache in {self.store.folder} has found {found / asked:.0%} of {asked} samples in an epoch that is not the first, so that it "
                "costs time and saves none: the training data is augmented anew in every epoch (or the teacher is given other arguments in every batch). Let views come again (views_per_image of lkd's "
                "data), leave augmentation out, or give a Teacher, which is asked live; docs/cache.md compares them."
            )
        return found / asked

    def _look_again(self) -> None:
        """Reads all weights, so that uncounted changes are found before an epoch's answers are trusted."""
        if self._watched is not None:
            self._watched.forget()
            self._fingerprint()

    def served(self, asked: Sequence[str] | str, call: Call, answer: Callable[[Call], Any]) -> Any:
        """Looks kept answers up, and asks the model for the others.

        Args:
            asked: Layers of the model; a string for `detect`.
            call: Arguments of the model.
            answer: Asks the model.

        Raises:
            ValueError: If an answer cannot be kept by sample, or differs from the kept one.
        """
        names = [asked] if isinstance(asked, str) else list(dict.fromkeys(asked))
        samples = BatchedCall(call, self._cut)
        if not samples.count:
            if samples.uneven:
                self._say_uneven(call)
            return answer(call)

        def ask(part: Call) -> dict[str, Any]:
            said = answer(part)
            return {asked: said} if isinstance(asked, str) else said

        device = device_of(call) or self.device
        precision = _precision(device)
        forms = [Form(samples.shape, name, precision) for name in names]
        fresh = None
        if any(form not in self.answers.forms for form in forms):
            fresh = self._look(samples, forms, ask, device)
            if not any(self.answers.forms[form][0].by_sample for form in forms):  # samples were counted wrong
                for form in forms:
                    del self.answers.forms[form]
                self._say_uneven(call)
                return fresh[asked] if isinstance(asked, str) else fresh
        try:
            given = self.answers.of(samples, forms, self._fingerprint(), self._title, ask, fresh)
        except NotBySampleError as error:
            raise ValueError(
                f"cache: what the teacher {self._name} says cannot be kept by sample: {error}. Use a Teacher, which is asked live."
            ) from error
        given = on_tensors(lambda tensor: tensor.to(device), given)
        return given[asked] if isinstance(asked, str) else given

    def _look(
        self,
        samples: BatchedCall,
        forms: Sequence[Form],
        ask: Callable[[Call], dict[str, Any]],
        device: torch.device,
    ) -> dict[str, Any]:
        """Learns the form of answers from a batch and one of its samples; returns the batch's answer."""
        if self.reduction.top_k is not None and not any(_own(form.layer) for form in forms):
            raise ValueError(
                f"top_k={self.reduction.top_k} is for the class scores that the teacher itself gives, and {[form.layer for form in forms]} are "
                "none; leave it out."
            )
        watched = self._watched or Fingerprint(self.loaded)
        before = watched.attributes()
        if samples.count > 1:
            whole, count = ask(samples.call), samples.count
        else:  # there is no second sample in the batch
            whole, count = ask(samples.beside_another()), 2
        try:
            alone = ask(samples.pick([0]))
        except (ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._refusal("answer", f"it fails: {error}") from error
        if self._watched is None:
            after = watched.attributes()
            watched.moving = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
            self._watched = watched
        said = whole if samples.count > 1 else alone
        for form in forms:
            try:
                layout = AnswerLayout(
                    whole[form.layer], alone[form.layer], count, _tolerance(self.loaded, device)
                )
            except NotBySampleError as error:
                where = (
                    "detections" if form.layer.startswith(DETECT) else f"output teacher_layer={form.layer!r}"
                )
                raise self._refusal(where, str(error)) from error
            reduction = self.reduction if _own(form.layer) else AnswerReduction(self.reduction.dtype)
            self.answers.learn(form, layout, reduction, said[form.layer], samples.count)
            if layout.by_sample and samples.count > 1:
                self._cut[samples.kind] = samples.cut
        return said

    def _say_uneven(self, call: Call) -> None:
        if not self._uneven:
            self._uneven = True
            rank_zero_warn(
                f"cache: the teacher {self._name} is given {shown(call)}, of which nothing tells how many samples that are; such batches "
                "are asked live."
            )

    def _refusal(self, what: str, why: str) -> ValueError:
        return ValueError(
            f"cache: the {what} of the teacher {self._name} for a sample alone is another one than in its batch ({why}): it depends on the "
            "batch, as by batch statistics, or on chance, or has no part that is a sample's. Use a Teacher, which is asked live."
        )

    def _fingerprint(self) -> str:
        assert self._watched is not None
        reads, mark = self._watched.reads, self._watched.now()
        if self._mark and mark != self._mark:
            back = self.answers.take_back()
            rank_zero_warn(
                f"The teacher {self._name} has changed since it was asked last (fingerprint {self._mark[:8]}, now {mark[:8]}): what it "
                f"said before is not used, and it is asked anew; {back} answers since it was last looked at as a whole are dropped."
            )
        elif mark != self._mark and (others := self.store.others(self._title, mark)):
            rank_zero_warn(
                f"The cache in {self.store.folder} has {others} answers of another state of the teacher {self._title} and none of this one "
                f"({mark[:8]}): it is asked anew. `cache stat` lists the states, and `cache prune --teacher` drops one."
            )
        elif self._watched.reads > reads:
            self.answers.new.clear()
        self._mark = mark
        return mark

    @property
    def _title(self) -> str:
        return self.source or self._name


def _own(layer: str) -> bool:
    """Tells whether a layer stands for the model's own output."""
    return not layer.startswith(DETECT) and parse(layer, "teacher_layer").module == ""


def _precision(device: torch.device) -> str:
    """Names the precision in which a model in float32 runs at this moment."""
    autocast = torch.is_autocast_enabled(device.type)
    return str(torch.get_autocast_dtype(device.type)) if autocast else "its own"


def _tolerance(model: nn.Module, device: torch.device) -> float:
    """Returns the relative distance within which answers count as equal."""
    if torch.is_autocast_enabled(device.type) or {torch.float16, torch.bfloat16} & set(dtypes_of(model)):
        return 5e-2
    return 1e-3 if device.type == "cpu" else 1e-2


def cached_in(teacher: nn.Module) -> list[CachedTeacher]:
    """Lists a cached teacher, or those in an ensemble."""
    return [module for module in teacher.modules() if isinstance(module, CachedTeacher)]
