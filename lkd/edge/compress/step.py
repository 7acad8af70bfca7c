"""What a step of compression is: from the files of one stage to those of the next."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lkd.edge.compress.limits import Limits
from lkd.edge.compress.reference import Reference


@dataclass(frozen=True)
class Stage:
    """What stands after a step: files in a folder of its own, nothing live, so that a later process goes on from it.

    Attributes:
        name: `"parent"`, `"1 prune"`, `"2 recover"`, `"3 quantize"`: the step's place in the list, and its name.
        folder: Where its files are.
        checkpoint: Lightning's, of the configured module; a pruned one holds its history. None of a stage that is a file alone.
        files: The exported ONNX files, each with its card, in the order of the student's parts.
        note: What the table shall say of it beside the numbers.
    """

    name: str
    folder: Path
    checkpoint: Path | None
    files: list[Path] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Job:
    """What every step is given beside the stage that it starts from.

    Attributes:
        config_module: The LightningModule as configured, dense; `lkd.edge.compress.student(config_module, checkpoint)` is a
            copy with the weights, and the pruning, of a stage. Never change it.
        data: Of the configuration.
        trainer: Makes a Trainer by the configuration's options, with its callbacks, and these over them: `trainer(max_epochs=3)`.
        seed: Of all that is drawn.
        limits: That are asked for.
        parent: The dense student that everything is measured against.
        name: Of the stage that the step makes.
        folder: Of that stage; empty at first, or what an interrupted run of the same step left.
        dense: The dense student in memory, by which files are measured.
        export: Makes files of a checkpoint, in a folder.
        config: Of the run, for cards.
    """

    config_module: LightningModule
    data: LightningDataModule
    trainer: Callable[..., Trainer]
    seed: int
    limits: Limits
    parent: Stage
    name: str
    folder: Path
    dense: Reference
    export: Callable[[Path, Path], list[Path]] | None = None
    config: Mapping[str, Any] | None = None


class Step(ABC):
    """One step. A subclass names itself, says what it does to a student, and does it.

    Example:
        >>> class Nothing(Step):
        ...     name = "nothing"
        ...
        ...     def run(self, stage, job):
        ...         return Stage(job.name, job.folder, stage.checkpoint)
    """

    name: ClassVar[str]
    """In the names of stages."""
    breaks: ClassVar[bool] = False
    """Whether it spoils a student that the step after it mends, so that both are judged together."""
    mends: ClassVar[bool] = False
    """Whether it is such a step."""
    ends: ClassVar[bool] = False
    """Whether it leaves a file alone, without weights that a further step could train or prune."""
    trains: ClassVar[bool] = False
    """Whether it starts from weights, even where the step before it `ends`: it is the other way to such a file, and is gone only
    where the first way leads to none that is kept."""
    removes: ClassVar[bool] = False
    """Whether the network has fewer parameters afterwards."""
    bits: ClassVar[int] = 32
    """Of a weight in the file that it leaves."""

    @abstractmethod
    def run(self, stage: Stage, job: Job) -> Stage:
        """Makes the next stage in `job.folder`.

        Args:
            stage: What it starts from. Its checkpoint is there, unless its step `ends`.
            job: Everything else.

        Returns:
            The next stage, of the name `job.name`. A checkpoint without files is exported, and measured, by `compress`.

        Raises:
            ValueError: If the student or the data do not allow it.
        """

    def check(self, module: LightningModule, data: LightningDataModule) -> None:  # noqa: B027 (a step may have nothing to say)
        """Refuses what cannot be, before anything runs.

        Args:
            module: As configured.
            data: Of the configuration, not set up.

        Raises:
            ValueError: In one sentence.
            ImportError: If an optional library is missing.
        """
