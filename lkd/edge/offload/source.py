"""`AnswerSource`: a student and a teacher, with the samples that they are asked about."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from lkd.edge.offload.answers import Answer, Answers, joined
from lkd.edge.offload.task import OffloadTask
from lkd.edge.predict.progress import Progress

Split = Literal["calibration", "test"]
SPLITS: tuple[Split, ...] = ("calibration", "test")


class AnswerSource(ABC):
    """A student and a teacher, asked about the samples of a split.

    Attributes:
        task: What the answers mean.
        chunk: Samples whose answers are written at once; a run that was stopped asks again about those of its
            last chunk.
        calibrated_on: What the calibration split is, in words.
    """

    task: OffloadTask
    chunk: ClassVar[int]
    calibrated_on: str

    @abstractmethod
    def cameras(self, split: Split) -> Sequence[str]:
        """Returns the camera of each sample; empty names where it is not known."""

    @abstractmethod
    def digest(self, split: Split) -> str:
        """Returns a hash that changes with the samples, as far as can be told without reading all of them."""

    @abstractmethod
    def ask(self, split: Split, start: int, stop: int) -> Answers:
        """Asks student and teacher about some samples; the teacher sees them as they are sent."""

    @abstractmethod
    def truth(self, split: Split, answers: Answers) -> Sequence[Answer] | None:
        """Returns labels of all samples, or None for calibration data whose labels may not be read."""

    def answers(self, split: Split, folder: Path) -> Answers:
        """Returns the answers of both to a split, and asks only for those that the folder does not have.

        Args:
            split: The split.
            folder: Folder in which answers are kept.
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
    """Runs a function, and measures the milliseconds it took: processor time divided by the threads.

    With one thread this is the wall time on an idle machine, whatever else runs on this one. With several
    threads it is too short by what they cannot share.
    """
    start = time.process_time()
    found = function()
    return found, (time.process_time() - start) * 1e3 / torch.get_num_threads()
