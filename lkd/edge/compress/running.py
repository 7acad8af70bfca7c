"""The course of a compression: steps are run or read, exported, measured and judged, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.edge.compress.cards import card_of
from lkd.edge.compress.judge import against, warn_of_a_vain_limit
from lkd.edge.compress.reference import Measures
from lkd.edge.compress.resume import Book, mark
from lkd.edge.compress.stages import Outcome
from lkd.edge.compress.step import Job, Stage, Step


@dataclass
class Course:
    """A compression under way.

    Attributes:
        job: What steps are given.
        steps: All steps.
        book: Record of finished stages.
        export: Function that makes files of a checkpoint, in a folder.
        tell: Function that is called with each outcome.
        outcomes: Outcomes so far, the dense student's first.
    """

    job: Job
    steps: Sequence[Step]
    book: Book
    export: Callable[[Path, Path], list[Path]]
    tell: Callable[[Outcome], object]
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self) -> list[Outcome]:
        """Runs all steps.

        Returns:
            The outcome of each step.
        """
        given = self.job.parent
        parent, measures = self._made(given, given.name, lambda: given)
        warn_of_a_vain_limit(measures, self.job.limits)
        parent = replace(parent, checkpoint=given.checkpoint)
        self.job = replace(self.job, parent=parent)
        self._note(Outcome(parent, measures, parent.name, True, "the dense student"))
        number = 0
        while number < len(self.steps):
            number += self._group(number)
        return self.outcomes

    def _group(self, number: int) -> int:
        """Runs a step, together with the one that recovers from it if there is one.

        Returns:
            How many steps these are.
        """
        step, rest = self.steps[number], self.steps[number + 1 :]
        kept = [o for o in self.outcomes if o.kept]
        if step.trains and step.ends and (done := [o for o in kept if o.stage.checkpoint is None]):
            why = f"not run: {done[-1].stage.name} obeys the limits"
            self._note(Outcome(self._stage(number), None, done[-1].stage.name, False, why))
            return 1
        start = next(o.stage for o in reversed(kept) if o.stage.checkpoint is not None)
        made, measures = self._step(number, start, start)
        if not (step.breaks and rest and rest[0].mends):
            reasons = against(measures, self.job.limits, step, rest, start.name)
            self._note(Outcome(made, measures, start.name, not reasons, _why(made, reasons)))
            return 1
        mended, after = self._step(number + 1, made, start)
        reasons = against(after, self.job.limits, step, rest[1:], start.name)
        words = _why(made, [f"judged with {mended.name}"])
        self._note(Outcome(made, measures, start.name, not reasons, words))
        self._note(Outcome(mended, after, made.name, not reasons, _why(mended, reasons)))
        return 2

    def _step(self, number: int, start: Stage, base: Stage) -> tuple[Stage, Measures]:
        """Makes a stage from `start`, and times it beside `base`."""
        stage = self._stage(number)
        job = replace(self.job, name=stage.name, folder=stage.folder)
        step = self.steps[number]

        def seeded() -> Stage:
            with isolate_rng():  # equal draws, whether steps before it ran now or earlier
                seed_everything(job.seed + number, verbose=False)
                return step.run(start, job)

        return self._made(stage, mark(start), seeded, base.files, start.files)

    def _stage(self, number: int) -> Stage:
        name = f"{number + 1} {self.steps[number].name}"
        return Stage(name, self.book.place(name), None)

    def _made(
        self,
        stage: Stage,
        start: str,
        run: Callable[[], Stage],
        base: Sequence[Path] | None = None,
        cards: Sequence[Path] = (),
    ) -> tuple[Stage, Measures]:
        """Returns a finished stage, or else runs, exports and measures it now."""
        if (known := self.book.finished(stage.name, start)) is not None:
            rank_zero_info(f"{stage.name}: finished before, in {stage.folder}")
            return known
        stage.folder.mkdir(exist_ok=True)
        made = run()
        if not made.files:
            if made.checkpoint is None:
                raise TypeError(f"{stage.name} made neither a checkpoint nor files.")
            made = replace(made, files=self.export(made.checkpoint, made.folder))
        parent = self.job.parent.files or made.files
        measures = self.job.dense.measure(made.files, base or made.files, parent)
        if made.checkpoint is None:
            for path, first, part in zip(made.files, cards, self.job.dense.parts, strict=True):
                card_of(path, first, measures, part)
        self.book.finish(made, start, measures)
        return made, measures

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.tell(outcome)


def _why(stage: Stage, reasons: Sequence[str]) -> str:
    return "; ".join([*reasons, *filter(None, [stage.note])])
