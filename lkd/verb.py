"""What verbs beside Lightning's own have in common: they read the configuration of a `fit`, and train nothing."""

from pathlib import Path
from typing import Any, Self

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, Namespace

from lkd.lightning_cli import CLI
from lkd.parser import Parser


class Verb(CLI):
    """Reads the configuration of a `fit` whole, and makes its data alone. A subclass adds its options."""

    @classmethod
    def parsed(cls, name: str, description: str | None, args: list[str], seeded: bool = False) -> Self:
        """Reads the arguments.

        Args:
            name: Of the verb.
            description: For its help.
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
        """As Lightning's, without its warning of arguments that do not come from the process."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Makes the data."""
        self.datamodule = self.make_data()

    def make_model(self) -> LightningModule:
        """The model of the configuration, without a Trainer."""
        parser = Parser()
        parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
        model: LightningModule = parser.instantiate(Namespace(model=self.config["model"].clone()))["model"]
        return model

    @property
    def name(self) -> str:
        """Of the run: the first logger's, or the configuration file's."""
        loggers = self.config["trainer"]["logger"]
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if isinstance(logger, Namespace) and (name := logger.get("init_args", {}).get("name")):
                return str(name)
        return Path(str(self.config["config"][0])).stem if self.config["config"] else "unnamed"
