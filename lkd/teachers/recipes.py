"""`Recipes`: the teachers and the start of a run are trained side by side, where the CPU has threads for them."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator

from lkd.teachers.recipe import follow, is_made

_PAIRS = (("model", "recipe"), ("start", "start_recipe"))
"""Arguments that name a checkpoint and the config that makes it."""


class Recipes(Callback):
    """Callback that trains, before a run, the teachers and the start for which its configuration has recipes.

    They are trained side by side, in processes that share this process's threads, since the short steps of
    small networks gain little from a second thread. Each has the same number of threads, whichever of the
    checkpoints exist already, so that its weights do not depend on that. On an accelerator, or over several
    ranks, nothing is done here: there each is trained where it is needed, one after the other.

    Args:
        config: The run's configuration, plain data.
    """

    def __init__(self, config: Any) -> None:
        self.wanted = list({path: (name, recipe, path) for name, recipe, path in _wanted(config)}.values())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Trains the checkpoints that do not exist."""
        alone = isinstance(trainer.accelerator, CPUAccelerator) and trainer.world_size == 1
        if stage == "fit" and alone:
            # weights of a checkpoint come after those of a start, which then counts for the threads alone
            left_out = "start" if trainer.ckpt_path is not None else ""
            together(
                [(recipe, Path(path)) for name, recipe, path in self.wanted if name != left_out],
                min(len(self.wanted), torch.get_num_threads()),
            )


def together(wanted: Sequence[tuple[str, Path]], at_once: int) -> None:
    """Follows several recipes at once; a single one is left to the object that needs it.

    Args:
        wanted: Each config and the checkpoint that it makes.
        at_once: Number of runs that share this process's threads.

    Raises:
        RuntimeError: If a run fails; the others are ended then.
    """
    if at_once < 2 or all(is_made(*each) for each in wanted):
        return
    threads, stop = torch.get_num_threads() // at_once, threading.Event()
    with ThreadPoolExecutor(at_once) as pool:
        runs = []
        try:
            runs += [pool.submit(follow, *each, threads, stop) for each in wanted]
            for run in as_completed(runs):
                run.result()
        except BaseException:
            stop.set()
            for run in runs:
                run.cancel()
            raise


def _wanted(config: Any) -> Iterator[tuple[str, str, str]]:
    """The argument, the recipe and the checkpoint of each place of a configuration that has both."""
    if isinstance(config, dict):
        for model, recipe in _PAIRS:
            if isinstance(config.get(model), str) and isinstance(config.get(recipe), str):
                yield model, config[recipe], config[model]
        for each in config.values():
            yield from _wanted(each)
    elif isinstance(config, list):
        for each in config:
            yield from _wanted(each)
