"""A checkpoint with its configuration, for `predict SOURCE`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule

from lkd.edge.predict.checkpoint import Checkpoint
from lkd.verb import CheckpointVerb


def trained(options: Sequence[str], given: Any) -> tuple[Checkpoint, str, Path]:
    """Returns the student of a configuration and a checkpoint, its name, and the folder of its results.

    Args:
        options: Options of a `fit`.
        given: Options of `lkd.edge.predict.words.parser`: `camera`, `client`, `classes` and `threads`.
    """
    cli = CheckpointVerb.parsed("predict", __doc__, list(options))
    torch.set_num_threads(given.threads)
    path: str = cli.config["ckpt_path"]
    data = cast(LightningDataModule, cli.datamodule)
    student = Checkpoint(cli.model, data, path, given.camera, given.client, given.classes)
    return student, Path(path).name, Path("runs", cli.name, "predict")
