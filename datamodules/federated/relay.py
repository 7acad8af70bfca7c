"""A data module made of others, to which it passes on all that it does not do itself."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule

from lkd.datamodules.federated.client_data import ClientShard, Part
from lkd.packages import overrides
from lkd.transfers import hooks_of, stage, through_data


class Relay(LightningDataModule):
    """Data module with the validation, test and prediction data of `data`.

    A subclass makes the cohorts to train on.

    Args:
        data: the data module that measures the global model; its hooks for moving a batch to the device run
            for its own batches, and at the clients for theirs.
        more: other data modules, prepared and torn down with it.
    """

    carries_batches = True
    """Says that batches of clients have been through the hooks of `data`."""

    def __init__(self, data: LightningDataModule, *more: LightningDataModule) -> None:
        super().__init__()
        self.data: Any = data  # of any class, with attributes beside Lightning's hooks
        self._sources = [data, *more]
        for hook in hooks_of(data):  # only those, since Lightning uses a module's where its data has none
            setattr(self, hook, partial(_unless_cohort, getattr(data, hook)))

    def prepare_data(self) -> None:
        """Prepares the data of all its data modules."""
        for module in self._sources:
            module.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Hands its data modules the Trainer; a subclass sets them up."""
        for module in self._sources:
            module.trainer = self.trainer

    def teardown(self, stage: str) -> None:
        """Tears all its data modules down."""
        for module in self._sources:
            module.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """Tells all its data modules of the exception."""
        for module in self._sources:
            module.on_exception(exception)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of `data`."""
        state: dict[str, Any] = self.data.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state of `data`."""
        self.data.load_state_dict(state_dict)

    @property
    def cameras(self) -> list[str]:
        """Cameras of `data`, if it has cameras."""
        cameras: list[str] = self.data.cameras
        return cameras

    @property
    def serve_whole_frames(self) -> Callable[..., Any]:
        """Method of `data`, if it serves frames, for a teacher that labels each frame once."""
        serve: Callable[..., Any] = self.data.serve_whole_frames
        return serve

    @property
    def serve_views(self) -> Callable[[], None]:
        """Method of `data`, if it serves frames, that goes back to views."""
        serve: Callable[[], None] = self.data.serve_views
        return serve

    def val_dataloader(self) -> Any:
        """Returns validation data of `data`, or an empty list if it has none."""
        return self._theirs("val_dataloader")

    def test_dataloader(self) -> Any:
        """Returns test data of `data`, or an empty list if it has none."""
        return self._theirs("test_dataloader")

    def predict_dataloader(self) -> Any:
        """Returns prediction data of `data`, or an empty list if it has none."""
        return self._theirs("predict_dataloader")

    def _theirs(self, name: str) -> Any:
        """Returns what a loader method of `data` gives, if it has one."""
        return getattr(self.data, name)() if overrides(self.data, name) else []


def carry(part: Part, data: LightningDataModule, plain: bool) -> None:
    """Sends the batches of clients through the hooks of a data module.

    Args:
        part: data of all clients.
        data: data module whose hooks are used.
        plain: whether the hooks see a validation even while training goes on.
    """
    for batching in (part.batching, *part.views) if hooks_of(data) else ():
        batching.carry = partial(carried, data=data, plain=plain)


def carried(batch: Any, data: LightningDataModule, plain: bool) -> Any:
    """Returns a batch after the hooks of a data module, where a Trainer runs; see `carry`."""
    trainer = data.trainer
    if trainer is None:  # the batches are looked at without a fit
        return batch
    measures = trainer.evaluating or trainer.predicting
    with stage(trainer, "validating") if plain and not measures else nullcontext():
        return through_data(batch, data, trainer)


def _unless_cohort(hook: Callable[..., Any], batch: Any, *args: Any) -> Any:
    """Applies a hook to batches of data only, since a cohort's clients apply it to their own."""
    cohort = isinstance(batch, list) and batch and all(isinstance(one, ClientShard) for one in batch)
    return batch if cohort else hook(batch, *args)
