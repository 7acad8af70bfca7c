"""How far a drawing is: a bar on a terminal, a few lines elsewhere."""

import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich import get_console
from rich.progress import track

log = logging.getLogger(__name__)
Job = TypeVar("Job")
LINES = 4  # of a whole drawing, where there is no terminal


def announced(jobs: Sequence[Job], text: str) -> Iterator[Job]:
    """The jobs one after the other, while it is shown or said how many are done; nothing for no jobs.

    Example:
        >>> list(announced([1, 2], "Drawing"))
        [1, 2]
    """
    if not jobs:
        return
    if get_console().is_terminal:
        yield from track(jobs, description=text, transient=True)
        return
    for done, job in enumerate(jobs):
        if done == 0 or done * LINES // len(jobs) > (done - 1) * LINES // len(jobs):
            log.info("%s: %d of %d frames.", text, done, len(jobs))
        yield job
    log.info("%s: done.", text)
