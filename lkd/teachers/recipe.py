"""A teacher's recipe: the config that trains it, run when its checkpoint is missing or out of date."""

import hashlib
import logging
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from lkd import child

log = logging.getLogger(__name__)

# What a launcher of several processes sets; the teacher's own run must not take itself for one of them.
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


def follow(recipe: str, checkpoint: Path) -> None:
    """Runs `fit` with a config, unless the checkpoint it makes is there and of the same config.

    The run is a process of its own, so that its memory is given back and one Trainer lives in a process; it ends when this
    process does, and counts only if it came to its end.
    Which recipe made a checkpoint is kept beside it, in `<checkpoint>.recipe`: the SHA-256 of the config and of the
    checkpoint, or that its run did not come to its end. A checkpoint of another recipe, of such a run, or that
    something else has written there since, is set aside as
    `<checkpoint>.old`; one without a record is the user's own and is taken as it is. Of several runs that want
    the same teacher one trains it, and the others wait for its lock, `<checkpoint>.lock`.

    Args:
        recipe: Path of the config; it must save its checkpoint at `checkpoint`.
        checkpoint: The file that is wanted.

    Raises:
        RuntimeError: If the run fails or leaves no such file.
    """
    digest = hashlib.sha256(Path(recipe).read_bytes()).hexdigest()
    if _is_there(checkpoint, digest):
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_beside(checkpoint, ".lock"))
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        log.info("Another run is training the teacher %s: waiting for it.", checkpoint)
        held = lock.acquire()
    with held:
        if not _is_there(checkpoint, digest):  # the run that was waited for may have made it
            _train(recipe, checkpoint, digest)


def _beside(checkpoint: Path, suffix: str) -> Path:
    return checkpoint.with_name(checkpoint.name + suffix)


def _is_there(checkpoint: Path, digest: str) -> bool:
    record = _beside(checkpoint, ".recipe")
    return checkpoint.is_file() and (
        not record.is_file() or record.read_text().split() == [digest, _sha256(checkpoint)]
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _train(recipe: str, checkpoint: Path, digest: str) -> None:
    record = _beside(checkpoint, ".recipe")
    if checkpoint.is_file():
        log.warning(
            "The teacher %s was made by another version of %s, by another run or not to its end: training it again.",
            checkpoint,
            recipe,
        )
        checkpoint.replace(_beside(checkpoint, ".old"))
    else:
        log.info("There is no teacher %s yet: training it by %s.", checkpoint, recipe)
    environment = {k: v for k, v in os.environ.items() if k not in _RANK_VARIABLES}
    command = [sys.executable, "-m", "lkd", "fit", "--config", recipe]
    record.write_text("unfinished\n")  # a run that is killed may leave the checkpoint of an early epoch
    done = _beside(checkpoint, ".done")
    code = child.run(command, environment, done)
    whole = done.is_file()
    done.unlink(missing_ok=True)
    if not checkpoint.is_file():
        record.unlink()
    if code != 0:
        raise RuntimeError(f"training the teacher failed with exit code {code}: {' '.join(command)}")
    if not whole:
        raise RuntimeError(f"training the teacher ended before its time: {' '.join(command)}")
    if not checkpoint.is_file():
        raise RuntimeError(
            f"recipe={recipe!r} ran but saved no {checkpoint}; make its ModelCheckpoint write there."
        )
    record.write_text(f"{digest} {_sha256(checkpoint)}\n")
