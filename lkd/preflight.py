"""`Preflight`: finds mistakes before training that would otherwise only show after hours."""

import difflib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.callbacks import Distillation
from lkd.distillation.adapters import ADAPTERS
from lkd.server_model import server_model

Make = Callable[[], LightningDataModule]


class Preflight(Callback):
    """Callback that checks the test data and the monitored metrics of a run before anything is trained.

    As the first of a Trainer's callbacks it runs when the data exist and before a teacher is trained. The
    test data are set up in a data module of their own, so that the fit's is not touched, and their first
    batch is loaded. A module with `check_labels(batch)`, as lkd's have, says whether it can be tested on it.

    A metric that `ModelCheckpoint`, `EarlyStopping` or a plateau scheduler watches must be among those that
    the validation check before training logged. If metrics with the same first word were logged, such as
    `val/acc` but not `val/accuracy`, a module of lkd's logs no such metric at all. For other modules this is
    a warning, since they may log less in the check, unless only the signs between the words differ
    (`val_loss` and `val/loss`).

    Args:
        make_data: Function that makes the test's data module; None checks no test data.

    Raises:
        OSError: For missing test data; before training.
        ValueError: For test data without labels, a metric that nothing logs, or the checkpoint of a distilled
            run that is to be resumed without distillation; before training.
    """

    def __init__(self, make_data: Make | None = None) -> None:
        self.make_data = make_data

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks the test data and the folders."""
        wanted = self.make_data is not None and trainer.limit_test_batches != 0
        if stage == "fit" and trainer.is_global_zero and wanted:
            with isolate_rng():
                check_test_data(cast(Make, self.make_data)(), pl_module, trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuses to resume a run without its distillation, whose adapters the optimizer has trained."""
        distilled = any(isinstance(callback, Distillation) for callback in cast(Any, trainer).callbacks)
        if trainer.state.fn == "fit" and ADAPTERS in checkpoint and not distilled:
            raise ValueError(
                f"ckpt_path={str(trainer.ckpt_path)!r} is of a run with distillation, and this one has none: add the section "
                "`distillation` that it was trained with, or start a new run from its weights (load_from_checkpoint)."
            )

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks that what is monitored is among what was logged."""
        logged = sorted(trainer.callback_metrics)
        for who, monitor in _monitors(trainer, pl_module):
            alike = [name for name in logged if _same_kind(name, monitor)]
            # metrics of single cameras or sensors may not have been logged yet
            known = any(monitor == name or monitor.startswith((f"{name}/", f"{name}_")) for name in logged)
            if known or not alike:
                continue
            near = difflib.get_close_matches(monitor, alike, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(alike[:8])}."
            sentence = (
                f"monitor={monitor!r} of {who}: the validation before training logged no such metric; {hint}"
            )
            ours = type(server_model(pl_module)).__module__.startswith("lkd.")
            if ours or any(_letters(name) == _letters(monitor) for name in alike):
                raise ValueError(sentence)
            rank_zero_warn(sentence)


def check_test_data(data: LightningDataModule, module: LightningModule, trainer: Trainer) -> None:
    """Sets test data up and loads the first batch of each loader, as a test would.

    Args:
        data: A data module that is not the fit's.
        module: Module to be tested; its `check_labels`, or that of a federation's `model`, gets the batch.
        trainer: Trainer of the run.

    Raises:
        OSError: If the data do not exist.
        ValueError: If there are no test data, or they have no labels.
    """
    data.trainer = trainer
    check = getattr(server_model(module), "check_labels", None)
    try:
        data.setup("test")
        for loader in _loaders(data.test_dataloader()):
            batch = next(iter(loader), None)
            if batch is not None and check is not None:
                check(batch)
    except (OSError, ValueError) as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(
            f"the test after fit would fail ({error}); --test_after_fit=false trains without it."
        ) from error
    except Exception as error:  # a data module may need more than its arguments and setup("test")
        rank_zero_warn(f"The data of the test after fit could not be looked at before training: {error!r}")


def check_folders(trainer: Trainer) -> None:
    """Refuses folders of loggers and callbacks (`dirpath`, `folder`) that cannot be folders.

    Raises:
        OSError: If there is such a folder; the message names it and its owner.
    """
    for who, folder in _folders(trainer):
        if folder is None or "://" in str(folder):  # s3://... is checked by its own file system
            continue
        there = Path(folder).absolute()
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            raise NotADirectoryError(f"{who}={str(folder)!r} cannot be written: {there} is a file.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"{who}={str(folder)!r} cannot be written: no permission in {there}.")


def _folders(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    for logger in trainer.loggers:
        yield f"save_dir of {type(logger).__name__}", logger.save_dir
    for callback in cast(Any, trainer).callbacks:
        for name in ("dirpath", "folder"):
            yield f"{name} of {type(callback).__name__}", getattr(callback, name, None)


def _loaders(given: Any) -> list[Any]:
    if isinstance(given, dict):
        return list(given.values())
    return list(given) if isinstance(given, list | tuple) else [given]


def _monitors(trainer: Trainer, module: LightningModule) -> Iterator[tuple[str, str]]:
    yield from getattr(module, "monitors", ())  # what a federation's clients monitor
    for callback in cast(Any, trainer).callbacks:
        if isinstance(monitor := getattr(callback, "monitor", None), str):
            yield type(callback).__name__, monitor
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.monitor:
            yield type(config.scheduler).__name__, config.monitor


def _same_kind(name: str, other: str) -> bool:
    """Returns whether the first words are the same, or one the short form of the other, as val of valid."""
    first, second = (n.replace("_", "/").partition("/")[0] for n in (name, other))
    return first.startswith(second) or second.startswith(first)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
