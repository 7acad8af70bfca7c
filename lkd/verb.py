"""The base of verbs besides Lightning's own: they read the configuration of a `fit`, and train nothing."""

from pathlib import Path
from typing import Any, Self

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, Namespace

from lkd.checkpoint_io import look
from lkd.lightning_cli import CLI
from lkd.parser import Parser


class Verb(CLI):
    """Verb that reads the whole configuration of a `fit`, and makes its data alone.

    A subclass adds its options.
    """

    @classmethod
    def parsed(cls, name: str, description: str | None, args: list[str], seeded: bool = False) -> Self:
        """Reads the arguments, and makes the verb.

        Args:
            name: Name of the verb.
            description: Description for its help.
            args: Options of a `fit`, and those of the verb.
            seeded: Whether the global generators are seeded, as for a `fit`.
        """
        return cls(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            seed_everything_default=seeded,
            parser_kwargs={"prog": f"python cli.py {name}", "description": description},
            run=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of `fit`, since its saved configurations hold them."""
        super().add_arguments_to_parser(parser)
        skip: set[str | int] = {"model", "train_dataloaders", "val_dataloaders", "datamodule"}
        parser.add_method_arguments(Trainer, "fit", skip=skip)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments without Lightning's warning if they do not come from the process."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Makes the data module alone."""
        self.datamodule = self.make_data()

    def make_model(self) -> LightningModule:
        """Makes the model of the configuration, without a Trainer."""
        parser = Parser()
        parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
        model: LightningModule = parser.instantiate(Namespace(model=self.config["model"].clone()))["model"]
        return model

    @property
    def name(self) -> str:
        """Name of the run: the first logger's, or the configuration file's."""
        loggers = self.config["trainer"]["logger"]
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if isinstance(logger, Namespace) and (name := logger.get("init_args", {}).get("name")):
                return str(name)
        return Path(str(self.config["config"][0])).stem if self.config["config"] else "unnamed"


class CheckpointVerb(Verb):
    """A verb that takes the model of a checkpoint, which `make_model` makes without its weights."""

    def _parse_ckpt_path(self) -> None:
        """Takes the model's hyperparameters from the checkpoint, as Lightning's verbs do."""
        path = self.config["ckpt_path"]
        if path is None or not Path(path).is_file():
            raise FileNotFoundError(
                f"ckpt_path={path!r} does not exist: give --ckpt_path and the path of a checkpoint."
            )
        checkpoint = look(self.config) or {}
        found = {k: v for k, v in checkpoint.get("hyper_parameters", {}).items() if k != "_instantiator"}
        there, here = found.pop("_class_path", None), self.config["model"]["class_path"]
        if there is None:
            return
        if there.rpartition(".")[2] == here.rpartition(".")[2]:  # another class gets its own message later
            model = {"class_path": here, "dict_kwargs": found}
            self.config = self.parser.parse_object({"model": model}, self.config)

    def instantiate_classes(self) -> None:
        """Makes the data module and the model."""
        super().instantiate_classes()
        self.model = self.make_model()
