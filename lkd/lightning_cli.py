"""lkd's LightningCLI: Lightning's own, with a `distillation` section and a test after `fit`."""

import logging
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

import lkd.callbacks
import lkd.datamodules
import lkd.losses
import lkd.modules  # noqa: F401  (imported, all of these: their classes can then be named by their short names)
from lkd import __version__


class SaveConfig(SaveConfigCallback):
    """Saves the configuration beside the logs, and sends it to every logger (W&B's config among them)."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Runs on rank zero, before training."""
        config: dict[str, Any] = self.config.clone().as_dict()
        config.pop("config", None)
        for logger in trainer.loggers:
            logger.log_hyperparams({"cli": config})


class CLI(LightningCLI):
    """Adds the `distillation` callback as a section of its own and `test_after_fit`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declares what lkd adds to Lightning's options."""
        parser.add_lightning_class_args(
            lkd.callbacks.Distillation, "distillation", subclass_mode=True, required=False
        )
        parser.add_argument(
            "--test_after_fit", type=bool, default=True, help="Measure on the test data when fit is done."
        )

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        return super()._instantiate_trainer(config, [c for c in callbacks if c is not None])

    def after_fit(self) -> None:
        """Measures the final weights once on the test data."""
        has_test = self.datamodule is not None and (
            type(self.datamodule).test_dataloader is not LightningDataModule.test_dataloader
        )
        if self.config["fit"]["test_after_fit"] and has_test and not self.trainer.interrupted:
            self.trainer.test(self.model, datamodule=self.datamodule)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger) and self.trainer.is_global_zero:
                _say_where(logger)


def _say_where(logger: WandbLogger) -> None:
    run = logger.experiment
    if run.offline:
        folder = run.dir.removesuffix("/files")
        print(f"W&B has no account here and ran offline: {folder} (upload: wandb sync {folder})")
    else:
        print(f"W&B run: {run.url}")


def run(args: list[str]) -> CLI:
    """Runs one command.

    Args:
        args: The subcommand and its options.

    Returns:
        The CLI with its `trainer`, `model` and `datamodule`.
    """
    logging.getLogger("lkd").setLevel(logging.INFO)
    return CLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,  # modules take `optimizer` and `scheduler` themselves
        save_config_callback=SaveConfig,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"version": f"lkd {__version__}"},
        args=args,
    )
