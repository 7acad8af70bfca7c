"""Drawing with as many processes as PyTorch has threads, since threads cannot share Python code."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Job = TypeVar("Job")


def drawn(groups: Sequence[Sequence[Job]], draw: Callable[[Job], None]) -> Iterator[int]:
    """Draws all jobs and yields how many more are done.

    There are as many processes as `torch.get_num_threads()` says (which `OMP_NUM_THREADS` sets), but no more
    than groups. Only on Linux, where forking a process takes no time: elsewhere each process would import
    everything anew, and run a script that does not guard its main part a second time.

    Args:
        groups: Jobs that one process does one after the other, since they share work.
        draw: What is done for each job.

    Example:
        >>> sum(drawn([[1, 2], [3]], lambda job: None))
        3
    """
    workers = min(torch.get_num_threads(), len(groups))
    if workers < 2 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        for group in groups:
            for job in group:
                draw(job)
                yield 1
        return
    yield from DataLoader(
        _Groups(groups, draw),
        batch_size=None,
        collate_fn=_same,
        num_workers=workers,
        multiprocessing_context="fork",
        prefetch_factor=1,  # a process takes the next group when it has done one
        generator=torch.Generator().manual_seed(0),  # otherwise it draws from the global state
    )


class _Groups(Dataset[int]):
    def __init__(self, groups: Sequence[Sequence[Job]], draw: Callable[[Job], None]) -> None:
        self._groups, self._draw = groups, draw

    def __getitem__(self, index: int) -> int:
        for job in self._groups[index]:
            self._draw(job)
        return len(self._groups[index])

    def __len__(self) -> int:
        return len(self._groups)


def _same(one: Any) -> Any:
    return one
