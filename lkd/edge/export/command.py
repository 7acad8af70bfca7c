"""The verb `export`: from a configuration and a checkpoint to files and cards."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from lkd.edge.export import export
from lkd.edge.exported import Exported
from lkd.metrics.tables import print_table
from lkd.verb import CheckpointVerb

_OF_RUN = {"module", "data", "ckpt_path", "folder", "limit_test_batches", "config"}
_OPTIONS = "export"


class _Export(CheckpointVerb):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds those of `export`, by its own names."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--folder", type=str | None, default=None, help="Where to write; default runs/<name>/export."
        )
        parser.add_function_arguments(export, skip=cast(set[str | int], _OF_RUN), fail_untyped=False)
        self.options = [
            action.dest
            for action in parser._actions
            if action.dest in export.__annotations__ and action.dest not in _OF_RUN
        ]


def run(args: list[str]) -> list[Path]:
    """Exports, and prints what the cards say.

    Args:
        args: Options of a `fit`, and those of `lkd.edge.export.export`.

    Returns:
        The files.
    """
    cli = _Export.parsed("export", __doc__, args)
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
