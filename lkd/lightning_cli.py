"""lkd's LightningCLI: Lightning's own, with a `distillation` section and a test after `fit`."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, cast

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, Namespace, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

import lkd.callbacks
import lkd.datamodules
import lkd.federated
import lkd.loggers
import lkd.losses
import lkd.modules  # all imported here, so that their classes have short names in a config
from lkd import __version__, child
from lkd.artifacts import keep_artifact
from lkd.checkpoint_io import Checkpoints, look
from lkd.edge.predict.writer import WritePredictions
from lkd.ending import Ending
from lkd.made_again import kept
from lkd.one_table import carry_over
from lkd.parser import Parser
from lkd.preflight import Preflight, check_folders
from lkd.pruned import replay
from lkd.run_labels import labels
from lkd.server_model import server_model
from lkd.shared_callables import share_callables
from lkd.teachers.recipes import Recipes
from lkd.twin import SupervisedTwin
from lkd.wandb_account import go_offline_if_unreachable
from lkd.whereabouts import command, earlier, keep_last, predictions, tell

log = logging.getLogger(__name__)


class SaveConfig(SaveConfigCallback):
    """Callback that saves the configuration beside the logs, and sends it to every logger (such as W&B)."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves, unless the run has no log folder: the working directory is no place for it."""
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves on rank zero, before training."""
        config: dict[str, Any] = self.config.clone().as_dict()
        config.pop("config", None)
        for logger in trainer.loggers:
            logger.log_hyperparams({"cli": config})


class CLI(LightningCLI):
    """LightningCLI with the sections `distillation` and `more_loggers`, `test_after_fit` and `trust`.

    Args:
        *args: As in `LightningCLI`.
        part: What the run trains for another run, such as `"teacher.ckpt"` or `"twin"`; its lines begin with it.
        **kwargs: As in `LightningCLI`; `args` is the command line, default that of the process.
    """

    def __init__(self, *args: Any, part: str = "", **kwargs: Any) -> None:
        self.part = part
        self.twin: SupervisedTwin | None = None
        given = kwargs.get("args")
        self.ending = Ending(sys.argv[1:] if given is None else given)
        with self.ending.catching():
            super().__init__(*args, **kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Makes the parser, whose errors are one sentence."""
        self.parser_class = Parser
        return super().init_parser(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declares the options that lkd adds to Lightning's."""
        parser.add_lightning_class_args(
            lkd.callbacks.Distillation, "distillation", subclass_mode=True, required=False
        )
        parser.add_argument(
            "--more_loggers",
            type=list[Logger],
            default=[],
            help="Loggers beside trainer.logger, whose folder stays the run's.",
        )
        parser.add_argument(
            "--test_after_fit", type=bool, default=True, help="Measure on the test data when fit is done."
        )
        parser.add_argument(
            "--supervised_twin",
            type=bool,
            default=False,
            help="Also train the same student on the labels of the same frames, in a run beside this one, for its report.",
        )
        parser.add_argument(
            "--save_as",
            type=str | None,
            default=None,
            help="Path where the weights are saved when fit is done, unless a ModelCheckpoint of the run has saved there.",
        )
        parser.add_argument(
            "--trust",
            type=list[str],
            default=[],
            help="Packages whose classes the checkpoint of --ckpt_path may name, as in --trust+=my_package.",
        )

    def _parse_ckpt_path(self) -> None:
        """Checks the checkpoint first, as the arguments in it become part of the configuration."""
        options = self.config.get(self.config.get("subcommand") or "", {})
        self.logged = 0
        self.found = found = look(options)
        if found:
            epochs = found.get("loops") or {}
            state = epochs.get("fit_loop", {}).get("epoch_loop.state_dict", {})
            self.logged = state.get("_batches_that_stepped", found.get("global_step", 0))
            super()._parse_ckpt_path()

    def before_instantiate_classes(self) -> None:
        """Says which weights are measured, and gives W&B the names of the run."""
        options = self.config.get(str(self.subcommand), self.config)
        if options.get("ckpt_path") is None and self.subcommand in ("validate", "test", "predict"):
            there = earlier(options.trainer)
            hint = f" Trained ones are there: --ckpt_path={there}" if there else ""
            log.warning(
                "No --ckpt_path: %s uses the weights that the config starts from.%s", self.subcommand, hint
            )
        for entry in options.get("more_loggers", []):
            if entry.class_path.endswith("WandbRunLogger"):
                group, tags = labels(options.clone().as_dict())
                entry.init_args.group = entry.init_args.group or group
                entry.init_args.tags = entry.init_args.tags or tags

    def instantiate_classes(self) -> None:
        """Makes the objects of the configuration."""
        super().instantiate_classes()
        replay(self.model, self.found or {})  # narrows the model if the checkpoint is pruned
        if any(isinstance(logger, WandbLogger) for logger in self.trainer.loggers):
            go_offline_if_unreachable()
        share_callables(self.model)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        more = self._get(self.config_init, "more_loggers", default=[])
        own = config["logger"]
        if more and own is not False:
            if own is None or own is True:
                own = CSVLogger(config["default_root_dir"] or Path.cwd())
            config = {**config, "logger": [*(own if isinstance(own, list) else [own]), *more]}
        elif more:
            config = {**config, "logger": more}
        if config.get("enable_progress_bar") is None and (self.part or not sys.stdout.isatty()):
            config = {**config, "enable_progress_bar": False}  # `EpochLines` prints instead
        given = [c for c in callbacks if c is not None]
        trainer = super()._instantiate_trainer(config, [*given, self.ending])
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = Checkpoints()  # neither config nor strategy has its own
        return trainer

    def before_fit(self) -> None:
        """Adds the checks before a fit, and hides the warning about layers in eval mode if they should be."""
        check_folders(self.trainer)
        goes_on = self.config["fit"].get("ckpt_path")
        if goes_on and Path(goes_on).is_file():
            carry_over(self.trainer, Path(goes_on), self.logged)
        callbacks: list[Any] = cast(Any, self.trainer).callbacks
        callbacks.insert(0, Preflight(self.make_data if self._tests_after_fit else None))
        if self.config["fit"]["supervised_twin"]:
            self.twin = SupervisedTwin()
            callbacks.insert(1, self.twin)
        callbacks.insert(1, Recipes(self.config["fit"].clone().as_dict()))
        if self.trainer.progress_bar_callback is None:
            callbacks.append(lkd.callbacks.EpochLines(name=self.part))
        keep_last(self.trainer)
        self._saved_as = _date(self.config["fit"]["save_as"])
        module = server_model(self.model)
        frozen = isinstance(module, lkd.modules.SplitClassifier) or getattr(module, "freeze_batchnorm", False)
        if frozen or getattr(module, "freeze_layers", 0):
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start")

    def make_data(self) -> LightningDataModule:
        """Makes another data module of the same configuration."""
        parser = LightningArgumentParser()
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        config = self.config.get(str(self.subcommand), self.config)
        return cast(
            LightningDataModule, parser.instantiate_classes(Namespace(data=config["data"].clone()))["data"]
        )

    @property
    def _tests_after_fit(self) -> bool:
        has_data = self.datamodule is not None and is_overridden("test_dataloader", self.datamodule)
        return self.config["fit"]["test_after_fit"] and has_data and is_overridden("test_step", self.model)

    def after_fit(self) -> None:
        """Saves, and measures the final weights once on the test data, if the module can be tested."""
        path = self.config["fit"]["save_as"]
        if path is not None and not self.trainer.interrupted and _date(path) == self._saved_as:
            self.trainer.save_checkpoint(path)
            # a private federation's file holds more than weights: the noise's secret seed, and what clients keep
            if self.trainer.is_global_zero and getattr(self.model, "privacy", None) is None:
                keep_artifact(self.trainer.loggers, Path(path).stem, [Path(path)])
        if self._tests_after_fit and not self.trainer.interrupted:
            reported = any(
                isinstance(c, lkd.callbacks.DetectionReport) for c in cast(Any, self.trainer).callbacks
            )
            with kept(self.model):
                self.trainer.test(
                    self.model, datamodule=self.datamodule, verbose=not reported, weights_only=True
                )  # reads no file; unsaid, Lightning reports that it may unpickle one
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger) and self.trainer.is_global_zero:
                _say_where(logger)
        again = command("test", self._given, without=("--ckpt_path", "--save_as"))
        tell(self.trainer, again if self._tests_after_fit else None)
        if self.twin is not None:
            self.twin.check()

    def after_validate(self) -> None:
        """Prints where the results are."""
        tell(self.trainer)

    after_test = after_predict = after_validate

    def before_predict(self) -> None:
        """Writes the predictions, unless a callback of the config does, and keeps none unless asked."""
        options = self.config_init["predict"]
        options["return_predictions"] = bool(options["return_predictions"])
        trainer: Any = self.trainer
        theirs = any(isinstance(callback, BasePredictionWriter) for callback in trainer.callbacks)
        if not (trainer.fast_dev_run or theirs):
            trainer.callbacks.append(WritePredictions(Path(predictions(trainer))))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Keeps the given arguments, to print the next command."""
        self._given = sys.argv[1:] if args is None else list(args)
        super().parse_arguments(parser, args)


def _date(path: str | None) -> int | None:
    return Path(path).stat().st_mtime_ns if path is not None and Path(path).exists() else None


def _say_where(logger: WandbLogger) -> None:
    run = logger.experiment
    if run.offline:
        folder = run.dir.removesuffix("/files")
        print(f"W&B ran offline: {folder} (upload: wandb sync {folder})")
    else:
        print(f"W&B run: {run.url}")


def run(args: list[str] | None = None) -> CLI:
    """Runs one command.

    Args:
        args: The subcommand and its options; default those of the process.

    Returns:
        The CLI with its `trainer`, `model` and `datamodule`.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("lkd").setLevel(logging.INFO)
    # Lightning's own use of torch's pytree, https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated")
    # An empty list is how a datamodule says that it has no validation data.
    warnings.filterwarnings("ignore", message=r"Total length of `list` across ranks is zero")
    done = child.take_part()
    cli = CLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,  # modules take `optimizer` and `scheduler` themselves
        save_config_callback=SaveConfig,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"version": f"lkd {__version__}"},
        args=args,
        part="" if done is None else done.stem,
    )
    if done is not None and cli.trainer.is_global_zero:
        done.touch()
    return cli
