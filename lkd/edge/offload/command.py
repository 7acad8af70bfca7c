"""The verb `offload`: a student, a teacher and a budget in, curves and an operating point out."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule

from lkd.edge.of_student import OfStudent, with_student
from lkd.edge.offload.cascade import offload
from lkd.edge.offload.point import Point

_OF_RUN = frozenset({"module", "data", "ckpt_path", "folder", "config", "loggers", "seed"})


class _Offload(OfStudent):
    verb, function, of_run = "offload", staticmethod(offload), _OF_RUN

    def _parse_ckpt_path(self) -> None:
        """Reads the checkpoint's settings, unless the student is a file."""
        if self.config["exported"] is None or self.config["ckpt_path"] is not None:
            super()._parse_ckpt_path()


def run(args: list[str]) -> Point:
    """Measures the cascade.

    Args:
        args: Options of a `fit`, and those of `lkd.edge.offload.offload`.

    Returns:
        The operating point.
    """
    cli = _Offload.parsed("offload", __doc__, with_student(args), seeded=True)
    config: dict[str, Any] = cli.config.clone().as_dict()
    config.pop("config", None)
    folder = cli.config["folder"] or str(Path("runs", cli.name, "offload"))
    seed = cli.config["seed_everything"]
    point = offload(
        cli.model,
        cast(LightningDataModule, cli.datamodule),
        cli.config["ckpt_path"],
        folder=folder,
        seed=seed if type(seed) is int else 0,
        loggers=cli.of_wandb(),
        config=config,
        **cli.made_options(),
    )
    print(f"{folder}/points.md, and curves.csv and curves.png beside it")
    return point
