"""The verb `export`: from a configuration and a checkpoint to files and cards."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from lkd.checkpoint_io import look
from lkd.edge.export import export
from lkd.edge.exported import Exported
from lkd.metrics.tables import print_table
from lkd.verb import Verb

_OF_RUN = {"module", "data", "ckpt_path", "folder", "limit_test_batches", "config"}
_OPTIONS = "export"


class _Export(Verb):
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

    def _parse_ckpt_path(self) -> None:
        """Takes the model's hyper-parameters from the checkpoint, over the configuration, as Lightning's verbs do."""
        path = self.config["ckpt_path"]
        if path is None or not Path(path).is_file():
            raise FileNotFoundError(
                f"ckpt_path={path!r} does not exist: export needs --ckpt_path and the path of a checkpoint."
            )
        checkpoint = look(self.config) or {}
        found = {k: v for k, v in checkpoint.get("hyper_parameters", {}).items() if k != "_instantiator"}
        there, here = found.pop("_class_path", None), self.config["model"]["class_path"]
        if there is None:
            return
        if (
            there.rpartition(".")[2] == here.rpartition(".")[2]
        ):  # another class is refused in a sentence later
            model = {"class_path": here, "dict_kwargs": found}
            self.config = self.parser.parse_object({"model": model}, self.config)

    def instantiate_classes(self) -> None:
        """Makes data and model."""
        super().instantiate_classes()
        self.model = self.make_model()


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
