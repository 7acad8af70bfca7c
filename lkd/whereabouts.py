"""Where the results of a run are: its folder, its last and its best checkpoint, and the next command."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def keep_last(trainer: Trainer) -> None:
    """Makes a run keep `last.ckpt`, too: a link if a `ModelCheckpoint` saves the last anyway, else a file.

    If one has `save_last`, or saves to a place without links, nothing is changed.
    """
    found = _checkpoints(trainer)
    where = [c.dirpath for c in found] + [logger.save_dir for logger in trainer.loggers]
    if any("://" in str(place) for place in [*where, trainer.default_root_dir]):
        return
    if any(callback.save_last is not None for callback in found):
        return
    plain = [callback for callback in found if callback.monitor is None]
    for callback in plain:
        callback.save_last = "link"
    if (
        found and not plain
    ):  # one with a monitor saves nothing, not even the last, if the epoch is not among the best
        last = ModelCheckpoint(found[0].dirpath, "last", enable_version_counter=False)
        cast(Any, trainer).callbacks.append(last)


def tell(trainer: Trainer, next_command: str | None = None) -> None:
    """Prints where a run has written, with links `best.ckpt` beside its checkpoints.

    Args:
        trainer: Trainer that has run.
        next_command: Command that the name of a checkpoint is appended to; None prints none.
    """
    run = trainer.log_dir  # on every rank: it is broadcast
    if not trainer.is_global_zero or cast(Any, trainer).fast_dev_run:
        return
    lines = [f"Results: {run}"] if run is not None and Path(run).is_dir() else []
    if trainer.state.fn == "fit" or next_command:
        saved = [callback for callback in _checkpoints(trainer) if Path(callback.best_model_path).is_file()]
        for callback in saved:
            last = callback.last_model_path or ("" if callback.monitor else callback.best_model_path)
            if Path(last).is_file():
                lines.append(f"  last checkpoint: {_short(last)}")
        # without a monitor, "best" is the last one that was saved
        saved.sort(key=lambda callback: callback.monitor is None)
        if saved:
            best = link_best(Path(saved[0].best_model_path))
            chosen = (
                f"by {saved[0].monitor}" if saved[0].monitor else "the last: no ModelCheckpoint has a monitor"
            )
            lines.append(f"  best checkpoint: {_short(best)} ({chosen})")
            if next_command:
                lines.append(f"  measure it again: {next_command} --ckpt_path={shlex.quote(_short(best))}")
    if lines:
        print("\n".join(lines), flush=True)


def predictions(trainer: Trainer) -> Path:
    """Returns the folder for predictions: `predict` beside its first logger's versions, or in its root."""
    logger = next(iter(trainer.loggers), None)
    root = Path((logger and logger.save_dir) or trainer.default_root_dir)
    return root / str((logger and logger.name) or "") / "predict"


def link_best(path: Path) -> Path:
    """Makes `best.ckpt` beside a checkpoint a link to it; a file of that name that is no link stays.

    Returns:
        The link, or the checkpoint itself.
    """
    link = path.with_name("best.ckpt")
    if link.exists() and not link.is_symlink():
        return path
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(path.name)
    except OSError:  # Windows does not let everybody make links
        shutil.copy(path, link)
    return link


def command(subcommand: str, given: Sequence[str], without: Sequence[str] = ("--ckpt_path",)) -> str:
    """Returns the same command line with another subcommand, and without some options.

    Args:
        subcommand: The other subcommand.
        given: Arguments of the command line, with the first subcommand.
        without: Options that are left out.

    Example:
        >>> command("test", ["fit", "--config", "a.yaml", "--ckpt_path", "b.ckpt", "--seed_everything=1"]).split(" test ")[1]
        '--config a.yaml --seed_everything=1'
    """
    kept, skip = [], False
    for word in given[1:]:
        if not (skip or word.split("=")[0] in without):
            kept.append(word)
        skip = word in without
    program = Path(sys.argv[0])
    script = f"python {program}" if program.suffix == ".py" else "lkd"
    called = "python -m lkd" if program.name == "__main__.py" else script
    return f"{called} {subcommand} {shlex.join(kept)}"


def earlier(trainer: Any) -> Path | None:
    """Returns the newest best or last checkpoint that runs of a configuration have left.

    Args:
        trainer: The `trainer` section of the configuration.
    """
    found = [path for folder in _folders(trainer) for path in folder.glob("*.ckpt") if path.is_file()]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    beside = [newest.with_name(name) for name in ("best.ckpt", "last.ckpt")] if newest else []
    return next((path for path in beside if path in found), newest)


def _folders(trainer: Any) -> Iterator[Path]:
    for callback in trainer.get("callbacks") or []:
        if dirpath := (callback.get("init_args") or {}).get("dirpath"):
            yield Path(dirpath)
    logger = trainer.get("logger")
    for each in logger if isinstance(logger, list) else [logger]:
        given = each.get("init_args", {}) if hasattr(each, "get") else {}
        root = Path(given.get("save_dir") or trainer.get("default_root_dir") or ".")
        name = given.get("name", "lightning_logs")
        yield from root.joinpath(name or "").glob("version_*/checkpoints")


def _checkpoints(trainer: Trainer) -> list[ModelCheckpoint]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]


def _short(path: str | Path) -> str:
    """Returns a path relative to the working directory, if it is below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
