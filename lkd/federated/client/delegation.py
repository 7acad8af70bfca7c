"""A LightningModule that evaluates and predicts as another one does."""

import inspect
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule

from lkd.made_again import keeping
from lkd.transfers import HOOKS, hooks_of


class Wrapped(LightningModule):
    """LightningModule that holds `model`, and passes validation, test and prediction on to it.

    What the model logs becomes this module's.

    Args:
        model: Any LightningModule.
    """

    def __init__(self, model: LightningModule) -> None:
        super().__init__()
        self.model = model
        self._was_set_up = False

    @property
    def held(self) -> list[LightningModule]:
        """The modules that are set up with this one."""
        return [self.model]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model's forward, with the server's weights."""
        return self.model(*args, **kwargs)

    def validation_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """Calls the model's validation step, with the server's weights."""
        return call_step(self.model.validation_step, batch, batch_idx, dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """Calls the model's test step, with the server's weights."""
        return call_step(self.model.test_step, batch, batch_idx, dataloader_idx)

    def predict_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> Any:
        """Calls the model's prediction step, with the server's weights."""
        return call_step(self.model.predict_step, batch, batch_idx, dataloader_idx)

    def configure_model(self) -> None:
        """Configures the modules held."""
        for module in self.held:
            with keeping(module, "configure_model", self._was_set_up):
                module.configure_model()
        self._was_set_up = True  # which comes after setup

    def on_fit_start(self) -> None:
        """Calls the model's hook."""
        self.model.on_fit_start()

    def on_fit_end(self) -> None:
        """Calls the model's hook."""
        self.model.on_fit_end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Calls the model's hook."""
        self.model.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Calls the model's hook."""
        self.model.on_load_checkpoint(checkpoint)

    def setup(self, stage: str) -> None:
        """Sets up the modules held; what the model logs goes through this module."""
        self.model.log = lambda *args, **kwargs: self.log(*args, **kwargs)  # type: ignore[method-assign]
        # only those that the model has, for Lightning warns of hooks in a module that a datamodule has, too
        for hook in hooks_of(self.model):
            setattr(self, hook, self._transfer(hook))
        for module in self.held:
            module.trainer = self.trainer  # Lightning sets it only in children of its own class
            with keeping(module, "setup", self._was_set_up):
                module.setup(stage)

    def teardown(self, stage: str) -> None:
        """Takes the logs and hooks of `setup` back, and tears the model down."""
        vars(self.model).pop("log", None)
        for hook in HOOKS:
            vars(self).pop(hook, None)
        self.model.teardown(stage)

    def _transfer(self, hook: str) -> Callable[..., Any]:
        """Wraps the model's hook for batches of data, which must not be called for a cohort."""

        def transfer(batch: Any, *args: Any) -> Any:
            return batch if self.trainer.training else getattr(self.model, hook)(batch, *args)

        return transfer


def _passed_on(hook: str) -> Callable[..., None]:
    def call(self: Wrapped, *args: Any) -> None:
        getattr(self.model, hook)(*args)

    call.__doc__ = "The client module's own."
    return call


for _part in ("validation", "test", "predict"):
    for _when in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end"):
        setattr(Wrapped, f"on_{_part}_{_when}", _passed_on(f"on_{_part}_{_when}"))


def call_step(step: Callable[..., Any], batch: Any, index: int, loader: int = 0) -> Any:
    """Calls a step with or without the numbers of batch and loader, as its author wrote it."""
    names = inspect.signature(step).parameters
    given = (batch, index) if len(names) > 1 else (batch,)
    return step(*given, dataloader_idx=loader) if "dataloader_idx" in names else step(*given)
