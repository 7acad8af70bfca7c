"""Start weights of a module's network, from a checkpoint that a recipe may create first."""

import pickle
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.checkpoints import server_state
from lkd.safe_load import load
from lkd.teachers.recipe import follow, require_recipe


def check_start(start: str | None, recipe: str | None) -> None:
    """Raises ValueError for a recipe without `start`, FileNotFoundError for one that does not exist."""
    if recipe is not None and start is None:
        raise ValueError(f"start_recipe={recipe!r} makes what is at start: give its path, too.")
    require_recipe("start_recipe", recipe)


def resumes(module: LightningModule) -> bool:
    """Tells whether the module's run resumes from a checkpoint, whose weights replace those of a start."""
    trainer: Any = module._trainer
    return trainer is not None and trainer.ckpt_path is not None


def weights_of(start: str, recipe: str | None, kind: str) -> dict[str, Tensor]:
    """Loads the weights of `network` from a checkpoint, by their names in it.

    Args:
        start: Path of the checkpoint; for a federation's, the server's model is taken.
        recipe: A configuration that trains it, if it does not exist or was made by another version of the
            recipe.
        kind: Class that it should be of, for the error message.

    Raises:
        FileNotFoundError: If the checkpoint does not exist, and no recipe is given.
        ValueError: If the file is no such checkpoint.
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
