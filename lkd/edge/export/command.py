"""The verb `export`: a configuration and a checkpoint in, files and cards out."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, Namespace
from lightning.pytorch.loggers import Logger

from lkd.artifacts import keep_artifact
from lkd.edge.export import export
from lkd.edge.exported import Exported
from lkd.metrics.tables import print_table
from lkd.parser import Parser
from lkd.verb import CheckpointVerb
from lkd.wandb_account import go_offline_if_unreachable

_OF_RUN = frozenset({"module", "data", "ckpt_path", "folder", "limit_test_batches", "config"})


class OfCheckpoint(CheckpointVerb):
    """Verb that reads a configuration and a checkpoint, and has the options of a function.

    A subclass names both.
    """

    verb: ClassVar[str] = "export"
    function: ClassVar[Callable[..., Any]] = staticmethod(export)
    of_run: ClassVar[frozenset[str]] = _OF_RUN

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of the function, by its own names."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--folder",
            type=str | None,
            default=None,
            help=f"Where to write; default runs/<name>/{self.verb}.",
        )
        skip = cast(set[str | int], set(self.of_run))
        parser.add_function_arguments(self.function, skip=skip, fail_untyped=False)
        known = inspect.signature(self.function).parameters
        self.options = [name for name in known if name not in self.of_run]

    def of_wandb(self) -> list[Logger]:
        """Returns the configuration's loggers that are of W&B."""
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


def run(args: list[str]) -> list[Path]:
    """Exports, and prints what the cards say.

    Args:
        args: Options of a `fit`, and those of `lkd.edge.export.export`.

    Returns:
        The paths of the files.
    """
    cli = OfCheckpoint.parsed("export", __doc__, args)
    config: dict[str, Any] = cli.config.clone().as_dict()
    config.pop("config", None)
    name = "export" if cli.config["format"] == "onnx" else f"export_{cli.config['format']}"
    paths = export(
        cli.model,
        cast(LightningDataModule, cli.datamodule),
        cli.config["ckpt_path"],
        folder=cli.config["folder"] or str(Path("runs", cli.name, name)),
        limit_test_batches=cli.config["trainer"]["limit_test_batches"],
        config={name: config[name] for name in config if name not in cli.options},
        **{name: config[name] for name in cli.options},
    )
    parts = [path.with_suffix(end) for path in paths for end in (path.suffix, ".bin", ".json")]
    keep_artifact(cli.of_wandb(), f"{cli.name}_{name}", [path for path in parts if path.is_file()])
    print_table([_row(path) for path in paths], "What the files do, as they are")
    print(f"{', '.join(map(str, paths))}; a card lies beside each: {paths[0].with_suffix('.json')}")
    return paths


def _row(path: Path) -> dict[str, Any]:
    card = Exported(path).card
    return {
        "file": path.name,
        **{name.removeprefix("test/"): value for name, value in card["metrics"]["file"].items()},
        "MB": card["size"]["bytes"] / 1e6,
        "p50 ms": card["latency"]["p50_ms"],
        "p95 ms": card["latency"]["p95_ms"],
    }
