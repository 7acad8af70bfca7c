"""Progress of a drawing: a bar on a terminal, a few lines elsewhere."""

import logging
from collections.abc import Iterable

from rich import get_console
from rich.progress import Progress

log = logging.getLogger(__name__)
LINES = 4  # for a whole drawing, where there is no terminal


def announce(steps: Iterable[int], frames: int, text: str) -> None:
    """Runs through a drawing and shows how many frames are done; shows nothing if there are no frames.

    Args:
        steps: how many more frames are done, step by step.
        frames: number of all frames.
        text: name of what is drawn.
    """
    if not frames:
        return
    if get_console().is_terminal:
        with Progress(transient=True) as bar:
            task = bar.add_task(text, total=frames)
            for step in steps:
                bar.advance(task, step)
        return
    log.info("%s: 0 of %d frames.", text, frames)
    done = 0
    for step in steps:
        before, done = done, done + step
        if done < frames and done * LINES // frames > before * LINES // frames:
            log.info("%s: %d of %d frames.", text, done, frames)
    log.info("%s: done.", text)
