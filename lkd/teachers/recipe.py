"""A teacher's recipe: the configuration that trains it, run when its checkpoint is missing or out of date."""

import hashlib
import logging
import os
import sys
import threading
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from lkd import shipped
from lkd.child import Child
from lkd.ending import SIGNALS

log = logging.getLogger(__name__)

# Variables of a launcher of several processes; with them, the teacher's own run would take itself for a rank.
_RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "SLURM_NTASKS",
)


def require_recipe(name: str, recipe: str | None) -> None:
    """Raises FileNotFoundError, with the argument's name, if there is no such configuration."""
    if recipe is not None and not shipped.find(recipe).is_file():
        hint = shipped.hint(recipe) or "; give the path of a config for `fit`"
        raise FileNotFoundError(f"{name}={recipe!r} does not exist{hint}.")


def follow(
    recipe: str, checkpoint: Path, threads: int | None = None, stop: threading.Event | None = None
) -> None:
    """Runs `fit` with a configuration, unless its checkpoint exists and is of this version of it.

    The run is a process of its own, so that its memory is freed and a process has one Trainer only. It ends
    when this process does, and counts only if it was complete.

    The file `<checkpoint>.recipe` tells which recipe made a checkpoint: the SHA-256 of the configuration and
    of the checkpoint, or that the run is unfinished. A checkpoint of another recipe, of an unfinished run, or
    that something else has written since, is renamed to `<checkpoint>.old`. One without such a file is the
    user's own and is used as it is. If several runs want the same teacher, one trains it, and the others wait
    for its lock, `<checkpoint>.lock`.

    Args:
        recipe: Path of the configuration, or the name of one of lkd's own. If no `ModelCheckpoint` in it
            saves at `checkpoint`, the last weights are saved there.
        checkpoint: The file that is needed.
        threads: Number of threads that the run computes with. Default: its own choice.
        stop: Ends the run when it is set.

    Raises:
        RuntimeError: If the run fails or leaves no such file.
    """
    digest = _digest(recipe)
    if _is_there(checkpoint, digest):
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_beside(checkpoint, ".lock"))
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        log.info("Another run is training %s: waiting for it.", checkpoint)
        held = _acquire(lock, stop)
    with held:
        # another run may have made it meanwhile
        if not _is_there(checkpoint, digest) and not (stop is not None and stop.is_set()):
            _train(recipe, checkpoint, digest, threads, stop)


def _acquire(lock: FileLock, stop: threading.Event | None) -> AcquireReturnProxy:
    """Waits for a lock, or for `stop`."""
    while True:
        try:
            return lock.acquire(timeout=-1 if stop is None else 0.2)
        except Timeout:
            if stop is not None and stop.is_set():
                raise


class Fit:
    """A `fit` with a configuration in a process of its own, which ends when this one does.

    The process does not count as a rank of this one's.

    Args:
        config: Path of the configuration.
        done: A file that does not exist; the run creates it when it is complete.
        *options: More options of the command line.
        threads: Number of threads that the run computes with. Default: its own choice.
    """

    def __init__(self, config: str, done: Path, *options: str, threads: int | None = None) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in _RANK_VARIABLES}
        if threads is not None:
            environment |= {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "lkd", "fit", "--config", config, *options]
        self._done, self._child = done, Child(command, environment, done)

    @property
    def failed(self) -> bool:
        """Whether the run has ended by an error. A signal is none, since this run may have got it, too."""
        return self._child.code not in (None, 0, *(sign for n in SIGNALS for sign in (128 + n, -n)))

    def wrong(self, stop: threading.Event | None = None) -> str | None:
        """Waits for the end of the run.

        Args:
            stop: Ends the run when another thread sets it.

        Returns:
            What went wrong; None after a complete run.
        """
        code = self._child.wait(stop)
        whole = self._done.is_file()
        self._done.unlink(missing_ok=True)
        if code:
            return f"failed with exit code {code}"
        return None if whole else "ended before its time"

    def end(self) -> None:
        """Ends the run, which saves its state."""
        self._child.end()


def _beside(checkpoint: Path, suffix: str) -> Path:
    return checkpoint.with_name(checkpoint.name + suffix)


def fit(
    config: str, done: Path, *options: str, threads: int | None = None, stop: threading.Event | None = None
) -> str | None:
    """Runs `fit` to its end; see `Fit`, and `Fit.wrong` for what it returns."""
    return Fit(config, done, *options, threads=threads).wrong(stop)


def is_made(recipe: str, checkpoint: Path) -> bool:
    """Tells whether a checkpoint exists, and is of this configuration or the user's own."""
    return _is_there(checkpoint, _digest(recipe))


def _digest(recipe: str) -> str:
    return hashlib.sha256(shipped.find(recipe).read_bytes()).hexdigest()


def _is_there(checkpoint: Path, digest: str) -> bool:
    record = _beside(checkpoint, ".recipe")
    return checkpoint.is_file() and (
        not record.is_file() or record.read_text().split() == [digest, _sha256(checkpoint)]
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _train(
    recipe: str, checkpoint: Path, digest: str, threads: int | None, stop: threading.Event | None
) -> None:
    record = _beside(checkpoint, ".recipe")
    if checkpoint.is_file():
        log.warning(
            "%s was made by another version of %s, by another run or not to its end: training it again.",
            checkpoint,
            recipe,
        )
        checkpoint.replace(_beside(checkpoint, ".old"))
    else:
        log.info("There is no %s yet: training it by %s.", checkpoint, recipe)
    record.write_text("unfinished\n")  # a killed run may leave the checkpoint of an early epoch
    # the teacher is what the recipe's ModelCheckpoint saves there; else the last weights are saved
    save = f"--save_as={checkpoint}"
    wrong = fit(recipe, _beside(checkpoint, ".done"), save, threads=threads, stop=stop)
    if not checkpoint.is_file():
        record.unlink()
    if wrong:
        raise RuntimeError(f"training {checkpoint} {wrong}: fit --config {recipe}")
    if not checkpoint.is_file():
        raise RuntimeError(f"recipe={recipe!r} was interrupted before it saved {checkpoint}.")
    record.write_text(f"{digest} {_sha256(checkpoint)}\n")
