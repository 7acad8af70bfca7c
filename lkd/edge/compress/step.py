"""The base of compression steps: each makes the files of a stage from those of the stage before."""

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
    """Result of a step, as files without live objects, so that a later process can go on from it.

    Attributes:
        name: Name of the stage, the step's place in the list and its name: `"parent"`, `"1 prune"`, `"2
            recover"`, `"3 quantize"`.
        folder: Folder of its files.
        checkpoint: Lightning's checkpoint of the configured module; a pruned one holds its history. None if
            the stage is a file alone.
        files: The exported ONNX files, each with its card, in the order of the student's parts.
        note: Remark in the table beside the numbers.
    """

    name: str
    folder: Path
    checkpoint: Path | None
    files: list[Path] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Job:
    """What every step is given besides the stage that it starts from.

    Attributes:
        config_module: The LightningModule as configured, dense; `lkd.edge.compress.student(config_module,
            checkpoint)` is a copy with the weights, and the pruning, of a stage. Never change it.
        data: Data module of the configuration.
        trainer: Function that makes a Trainer from the configuration's options and callbacks, with its
            arguments in place of options: `trainer(max_epochs=3)`.
        seed: Seed of all random draws.
        limits: Limits of the compression.
        parent: The dense student that everything is measured against.
        name: Name of the stage that the step makes.
        folder: Folder of that stage; empty at first, or with what an interrupted run of the same step left.
        dense: The dense student in memory, by which files are measured.
        export: Function that makes files of a checkpoint, in a folder.
        config: Configuration of the run, for cards.
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
    """A compression step. A subclass has a name and a method `run`.

    Example:
        >>> class Nothing(Step):
        ...     name = "nothing"
        ...
        ...     def run(self, stage, job):
        ...         return Stage(job.name, job.folder, stage.checkpoint)
    """

    name: ClassVar[str]
    """Name of the step in the names of stages."""
    breaks: ClassVar[bool] = False
    """Whether it makes the student worse and the next step repairs it, so that both are judged together."""
    mends: ClassVar[bool] = False
    """Whether it is the step that repairs."""
    ends: ClassVar[bool] = False
    """Whether it leaves a file alone, without weights that a further step could train or prune."""
    trains: ClassVar[bool] = False
    """Whether it starts from weights, even where the step before it `ends`: it is the other way to such a file, and is gone only
    where the first way leads to none that is kept."""
    removes: ClassVar[bool] = False
    """Whether the network has fewer parameters afterward."""
    bits: ClassVar[int] = 32
    """Bits of a weight in the file that it leaves."""

    @abstractmethod
    def run(self, stage: Stage, job: Job) -> Stage:
        """Makes the next stage in `job.folder`.

        Args:
            stage: Stage that it starts from. It has a checkpoint, unless its step `ends`.
            job: Everything else.

        Returns:
            The next stage, with the name `job.name`. `compress` exports and measures a checkpoint without
            files.

        Raises:
            ValueError: If the student or the data do not allow it.
        """

    def check(self, module: LightningModule, data: LightningDataModule) -> None:  # noqa: B027 (a step may have nothing to say)
        """Refuses what is impossible, before anything runs.

        Args:
            module: The module as configured.
            data: Data module of the configuration, not set up.

        Raises:
            ValueError: If the step cannot run; the message says why in one sentence.
            ImportError: If an optional library is missing.
        """
