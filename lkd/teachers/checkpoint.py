"""Reading of a checkpoint file without running any code in it."""

import pickle
from pathlib import Path
from typing import Any

from torch import Tensor

from lkd.safe_load import holds_objects, load


def read(path: str) -> dict[str, Any]:
    """Reads a Lightning checkpoint.

    Args:
        path: The file.

    Raises:
        ValueError: If it is a folder, is no checkpoint, is damaged, or holds weights alone or objects that
            would have to be unpickled.
    """
    if Path(path).is_dir():
        raise ValueError(
            f"model={path!r} is a folder, as sharded checkpoints are; bring them into one file first (Lightning: "
            "python -m lightning.pytorch.utilities.consolidate_checkpoint)."
        )
    try:
        checkpoint = load(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, AttributeError) as error:
        if holds_objects(error, path):
            raise ValueError(
                f"model={path!r} holds Python objects beside weights (a module among its hyperparameters, for instance), which "
                "lkd does not unpickle; if you trust the file, give the module: "
                "Teacher(YourModule.load_from_checkpoint(path, weights_only=False))."
            ) from error
        raise ValueError(f"model={path!r} is no checkpoint, or it is damaged (empty or cut off).") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        tensors = isinstance(checkpoint, dict) and any(isinstance(v, Tensor) for v in checkpoint.values())
        raise ValueError(
            f"model={path!r} is no Lightning checkpoint but "
            + ("holds weights without their network" if tensors else f"a {type(checkpoint).__name__}")
            + ": build the network, load them into it by load_state_dict and give that module to Teacher (or, of a "
            "LightningModule's own checkpoint, YourModule.load_from_checkpoint(path))."
        )
    return checkpoint
