"""`Source`: a student and a teacher, and the samples that they are asked about."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from lkd.edge.offload.answers import Answer, Answers, joined
from lkd.edge.offload.task import Task
from lkd.edge.predict.progress import Progress

Split = Literal["calibration", "test"]
SPLITS: tuple[Split, ...] = ("calibration", "test")


class Source(ABC):
    """Asks both about the samples of a split.

    Attributes:
        task: What the answers mean.
        chunk: Samples whose answers are written at once; a run that was stopped asks these again.
        calibrated_on: What the calibration split is, in words.
    """

    task: Task
    chunk: ClassVar[int]
    calibrated_on: str

    @abstractmethod
    def cameras(self, split: Split) -> Sequence[str]:
        """Whose each sample is, one for each sample; empty names where nobody says."""

    @abstractmethod
    def digest(self, split: Split) -> str:
        """Another one whenever the samples are others, as far as a look at them without reading all can tell."""

    @abstractmethod
    def ask(self, split: Split, start: int, stop: int) -> Answers:
        """What both say of some samples, the teacher of them as they are sent."""

    @abstractmethod
    def truth(self, split: Split, answers: Answers) -> Sequence[Answer] | None:
        """Labels of all samples; None of calibration data whose labels may not be read."""

    def answers(self, split: Split, folder: Path) -> Answers:
        """What both say of a split; what the folder has is not asked again.

        Args:
            split: Which.
            folder: Where answers are kept.
        """
        cameras, parts = self.cameras(split), []
        folder.mkdir(parents=True, exist_ok=True)
        progress = Progress(len(cameras))
        for start in range(0, len(cameras), self.chunk):
            stop, path = min(start + self.chunk, len(cameras)), folder / f"{split}-{start:06d}.safetensors"
            if not path.is_file():
                self.ask(split, start, stop).save(path)
                progress(stop, 0)
            parts.append(Answers.load(path))
        progress.say(f"{split}: answers of student and teacher to {len(cameras)} samples are in {folder}")
        made = joined(parts, cameras)
        return joined(parts, cameras, self.truth(split, made))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and how many milliseconds it took: processor time over threads.

    With one thread that is the wall clock of an idle machine, whatever else runs on this one; with several it comes out too short by
    what they cannot share.
    """
    start = time.process_time()
    found = function()
    return found, (time.process_time() - start) * 1e3 / torch.get_num_threads()
