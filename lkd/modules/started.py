"""What a module's network starts from: the weights of another module's checkpoint, which a recipe may make first."""

import pickle
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.checkpoints import server_state
from lkd.safe_load import load
from lkd.teachers.recipe import follow, require_recipe


def check_start(start: str | None, recipe: str | None) -> None:
    """Raises ValueError for a recipe of nothing, FileNotFoundError for one that is not there."""
    if recipe is not None and start is None:
        raise ValueError(f"start_recipe={recipe!r} makes what is at start: give its path, too.")
    require_recipe("start_recipe", recipe)


def resumes(module: LightningModule) -> bool:
    """Whether the module's run goes on from a checkpoint, whose weights come after those of a start, and win."""
    trainer: Any = module._trainer
    return trainer is not None and trainer.ckpt_path is not None


def weights_of(start: str, recipe: str | None, kind: str) -> dict[str, Tensor]:
    """The weights of `network` in a checkpoint, by their names in it.

    Args:
        start: Path of the checkpoint; of a federation's it is the server's model.
        recipe: A config that trains it, if it is not there or was made by another version of the config.
        kind: What it should be of, for the error message.

    Raises:
        FileNotFoundError: If it is not there, and no recipe is given.
        ValueError: If it is no such checkpoint.
    """
    if recipe is not None:
        follow(recipe, Path(start))
    if not Path(start).is_file():
        raise FileNotFoundError(f"start={start!r} does not exist; train it first or give another path.")
    try:
        state = server_state(load(start))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"start={start!r} is no checkpoint of a {kind}, is damaged, or holds objects, which are not unpickled."
        ) from error
    return {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
