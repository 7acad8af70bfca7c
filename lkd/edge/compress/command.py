"""The verb `compress`: from a configuration and a checkpoint through steps to a file and a table of stages."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, Namespace
from lightning.pytorch.loggers import Logger

from lkd.checkpoint_io import Checkpoints
from lkd.edge.compress import compress
from lkd.edge.export.command import OfCheckpoint
from lkd.lightning_cli import share_callables
from lkd.parser import Parser
from lkd.wandb_account import go_offline_if_unreachable

_OF_RUN = frozenset(
    {"module", "data", "ckpt_path", "folder", "limit_test_batches", "config", "trainer", "loggers", "seed"}
)


class _Compress(OfCheckpoint):
    verb, function, of_run = "compress", staticmethod(compress), _OF_RUN

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the configuration that trained the student, which stands before this one."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--student",
            type=str | None,
            default=None,
            help="The configuration that trained the student: what this one does not say is read from there.",
        )

    def made_options(self) -> dict[str, Any]:
        """The options of `compress`, with the steps as objects."""
        parser = Parser()
        parser.add_function_arguments(compress, skip=cast(set[str | int], set(_OF_RUN)), fail_untyped=False)
        given = Namespace({name: self.config[name] for name in self.options})
        made = parser.instantiate(given)
        return {name: made[name] for name in self.options}

    def of_wandb(self) -> list[Logger]:
        """The configuration's loggers that are of W&B."""
        entries = self.config["trainer"]["logger"]
        every = [*(entries if isinstance(entries, list) else [entries]), *self.config["more_loggers"]]
        found = [e for e in every if isinstance(e, Namespace) and "Wandb" in e["class_path"]]
        if not found:
            return []
        go_offline_if_unreachable()
        parser = Parser()
        parser.add_argument("--loggers", type=list[Logger])
        made: list[Logger] = parser.instantiate(Namespace(loggers=found))["loggers"]
        return made

    def make_trainer(self, **over: Any) -> Trainer:
        """A Trainer by the configuration's options, with its callbacks.

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


def with_student(args: Sequence[str]) -> list[str]:
    """The arguments, with the configuration that trained the student before the one that names it in `student`.

    `--student` wins over what a file says.

    Raises:
        FileNotFoundError: If there is no such configuration.
    """
    given = list(args)
    options = [
        (name, value if equals else next(iter(given[place + 1 :]), ""))
        for place, (name, equals, value) in enumerate(word.partition("=") for word in given)
    ]
    if asked := [value for name, value in options if name == "--student"]:
        return given if asked[-1] == "null" else ["--config", _there(asked[-1], ""), *given]
    for place, (name, path) in enumerate(options):
        if name not in ("--config", "-c") or not Path(path).is_file():
            continue
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        student = content.get("student") if isinstance(content, dict) else None
        if isinstance(student, str):
            return [*given[:place], "--config", _there(student, f" of {path}"), *given[place:]]
    return given


def _there(student: str, of: str) -> str:
    if not Path(student).is_file():
        raise FileNotFoundError(
            f"student={student!r}{of} does not exist; give the configuration that trained the student."
        )
    return student


def run(args: list[str]) -> list[Path]:
    """Compresses, and says where the files are.

    Args:
        args: Options of a `fit`, and those of `lkd.edge.compress.compress`.

    Returns:
        The files.
    """
    cli = _Compress.parsed("compress", __doc__, with_student(args), seeded=True)
    config: dict[str, Any] = cli.config.clone().as_dict()
    config.pop("config", None)
    share_callables(cli.model)
    seed = cli.config["seed_everything"]
    paths = compress(
        cli.model,
        cast(LightningDataModule, cli.datamodule),
        cli.config["ckpt_path"],
        folder=cli.config["folder"] or str(Path("runs", cli.name, "compress")),
        seed=seed if type(seed) is int else 0,
        limit_test_batches=cli.config["trainer"]["limit_test_batches"],
        trainer=cli.make_trainer,
        loggers=cli.of_wandb(),
        config=config,
        **cli.made_options(),
    )
    print(f"{', '.join(map(str, paths))}; a card lies beside each, and stages.md, stages.csv, stages.png")
    return paths
