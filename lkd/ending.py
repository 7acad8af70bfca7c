"""Early end of a command's run: by a signal, at a safe point, with a checkpoint and a hint to continue."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lkd.whereabouts import command

NAME = "interrupted.ckpt"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(SystemExit):
    """Exit of a run that a signal ended: its code is 128 and the signal's number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Ending(Callback):
    """Callback that ends a run at SIGINT, SIGTERM and SIGHUP.

    The first signal during a fit lets the present step (in a federation: the round) finish on all ranks,
    saves `interrupted.ckpt` beside the other checkpoints and says how to continue. Before and after training
    it ends the run at once, and so does a second signal. A signal that is ignored, as SIGHUP under nohup,
    stays ignored.

    Args:
        command: The command line after the program's name, for the hint.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command, self.number, self.trains = list(command), 0, False
        self.launcher: Any = None
        self.numbers: list[int] = []

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Handles the signals inside the block, and restores their handlers after it."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals do not arrive in this thread
            return
        before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
        self.numbers = list(before)
        try:
            self._take()
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self) -> None:
        for number in self.numbers:
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.number:
            _say(f"{name} again: ending at once.")
            self._end_ranks(getattr(signal, "SIGKILL", signal.SIGTERM))
            os._exit(128 + number)
        self.number = number
        if self.trains:
            _say(f"{name}: ending after this step; once more to end at once.")
            return
        self._end_ranks(number)
        raise Ended(number)

    def _end_ranks(self, number: int) -> None:
        if hasattr(self.launcher, "kill"):  # only the first rank's launcher has started the others
            self.launcher.kill(number)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds out who starts the ranks, and who else handles SIGTERM."""
        environment = (
            trainer.strategy.cluster_environment if hasattr(trainer.strategy, "cluster_environment") else None
        )
        if (
            isinstance(environment, SLURMEnvironment) and environment.auto_requeue and self.numbers
        ):  # the cluster's handler saves and requeues the run
            self.numbers = [number for number in self.numbers if number != signal.SIGTERM]
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.launcher = trainer.strategy.launcher

    def _begins(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals back from Lightning, which would end a fit as if it were complete."""
        if threading.current_thread() is threading.main_thread():
            self._take()

    on_sanity_check_start = on_validation_start = on_test_start = on_predict_start = _begins

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records that there is a state to save from here on."""
        self._begins(trainer, pl_module)
        self.trains = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Ends the run, if asked, at a safe point: between steps, without accumulated gradients."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._end_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the run, if a signal came during the last step or its validation."""
        self._end_if_asked(trainer)
        self.trains = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Records that no step will be finished any more."""
        self.trains = False

    def _end_if_asked(self, trainer: Trainer) -> None:
        asked = bool(self.number)
        if trainer.world_size > 1:  # a signal to one rank counts for all
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        number = self.number or signal.SIGTERM
        if any(isinstance(callback, Checkpoint) for callback in cast(Any, trainer).callbacks):
            path = _folder(trainer) / NAME
            trainer.save_checkpoint(path)
            again = f"{command('fit', self.command)} --ckpt_path {shlex.quote(str(path))}"
            _report(f"Saved {path} at step {trainer.global_step}. Go on by:\n  {again}")
        else:
            _report(
                f"Ended at step {trainer.global_step}; nothing is saved, as enable_checkpointing=false has it."
            )
        raise Ended(number)


def _folder(trainer: Trainer) -> Path:
    folders = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
    found = (
        next((folder for folder in folders if folder), None) or trainer.log_dir or trainer.default_root_dir
    )
    return Path(str(trainer.strategy.broadcast(str(found))))


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())  # a signal handler must not wait for a lock that may be held


@rank_zero_only
def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
