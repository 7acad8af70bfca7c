"""The verb `compress`: a configuration and a checkpoint in, a file and a table of stages out."""

import sys
from pathlib import Path
from typing import Any, cast

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import Namespace

from lkd.checkpoint_io import Checkpoints
from lkd.edge.compress import compress
from lkd.edge.compress.stages import TITLE
from lkd.edge.of_student import OfStudent, with_student
from lkd.leaderboard.of_table import study_of_table
from lkd.leaderboard.origin import Origin, origin
from lkd.leaderboard.study import write_study
from lkd.metrics.tables import read_table
from lkd.parser import Parser
from lkd.shared_callables import share_callables

_OF_RUN = frozenset(
    {"module", "data", "ckpt_path", "folder", "limit_test_batches", "config", "trainer", "loggers", "seed"}
)


class _Compress(OfStudent):
    verb, function, of_run = "compress", staticmethod(compress), _OF_RUN

    def make_trainer(self, **over: Any) -> Trainer:
        """Makes a Trainer with the configuration's options and callbacks.

        Args:
            **over: Options in place of the configuration's.
        """
        parser = Parser()
        parser.add_lightning_class_args(Trainer, "trainer")
        given = {
            name: value
            for name, value in self.config["trainer"].clone().items(branches=True)
            if name not in over
        }
        options = {**parser.instantiate(Namespace(trainer=Namespace(given)))["trainer"], **over}
        if options.get("enable_progress_bar") is None and not sys.stdout.isatty():
            options["enable_progress_bar"] = False
        made = Trainer(**options)
        if type(made.strategy.checkpoint_io) is TorchCheckpointIO:
            made.strategy.checkpoint_io = Checkpoints()
        return made


def run(args: list[str]) -> list[Path]:
    """Compresses a student, and prints where the files are.

    Args:
        args: Options of a `fit`, and those of `lkd.edge.compress.compress`.

    Returns:
        The paths of the files.
    """
    made = origin()
    cli = _Compress.parsed("compress", __doc__, with_student(args), seeded=True)
    config: dict[str, Any] = cli.config.clone().as_dict()
    config.pop("config", None)
    share_callables(cli.model)
    seed = cli.config["seed_everything"] if type(cli.config["seed_everything"]) is int else 0
    folder = Path(cli.config["folder"] or Path("runs", cli.name, "compress"))
    paths = compress(
        cli.model,
        cast(LightningDataModule, cli.datamodule),
        cli.config["ckpt_path"],
        folder=str(folder),
        seed=seed,
        limit_test_batches=cli.config["trainer"]["limit_test_batches"],
        trainer=cli.make_trainer,
        loggers=cli.of_wandb(),
        config=config,
        **cli.made_options(),
    )
    _record(folder, args, seed, made)
    print(f"{', '.join(map(str, paths))}; a card lies beside each, and stages.md, .csv, .png and study.json")
    return paths


def _record(folder: Path, args: list[str], seed: int, made: Origin) -> None:
    """Writes the table of stages as a study; the metric's column is the one behind the stage's name."""
    rows = read_table(folder / "stages.csv")
    study = study_of_table(
        rows,
        lambda row: str(row["stage"]),
        metric=list(rows[0])[1],  # behind the stage's name
        title=f"{TITLE}: {folder.parent.name}",
        verb="compress",
        args=args,
        seed=seed,
        made=made,
    )
    write_study(study, folder / "study.json")
