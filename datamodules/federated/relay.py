"""A data module made of others, to which it leaves all that it does not do itself."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule

from lkd.datamodules.federated.client_data import ClientShard, Part
from lkd.packages import overrides
from lkd.transfers import hooks_of, stage, through_data


class Relay(LightningDataModule):
    """Validation, test and prediction are those of `data`; a subclass gives what is trained on, cohorts of clients.

    Args:
        data: which measures the global model; its hooks around a batch's way to the device run for its own batches, and at the
            clients for theirs.
        more: other data modules, prepared and torn down with it.
    """

    carries_batches = True
    """Batches of clients have been through the hooks of `data`."""

    def __init__(self, data: LightningDataModule, *more: LightningDataModule) -> None:
        super().__init__()
        self.data: Any = data  # of any class, with what that has beside Lightning's hooks
        self._sources = [data, *more]
        for hook in hooks_of(data):  # only those, for Lightning takes a module's where its data has none
            setattr(self, hook, partial(_unless_cohort, getattr(data, hook)))

    def prepare_data(self) -> None:
        """As of all that it is made of."""
        for module in self._sources:
            module.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Hands them the Trainer; a subclass sets them up."""
        for module in self._sources:
            module.trainer = self.trainer

    def teardown(self, stage: str) -> None:
        """As of all that it is made of."""
        for module in self._sources:
            module.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """As of all that it is made of."""
        for module in self._sources:
            module.on_exception(exception)

    def state_dict(self) -> dict[str, Any]:
        """That of `data`."""
        state: dict[str, Any] = self.data.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hands it to `data`."""
        self.data.load_state_dict(state_dict)

    @property
    def cameras(self) -> list[str]:
        """Those of `data`, if it has cameras."""
        cameras: list[str] = self.data.cameras
        return cameras

    @property
    def serve_whole_frames(self) -> Callable[..., Any]:
        """That of `data`, if it serves frames: for a teacher that labels each frame once."""
        serve: Callable[..., Any] = self.data.serve_whole_frames
        return serve

    @property
    def serve_views(self) -> Callable[[], None]:
        """That of `data`, if it serves frames."""
        serve: Callable[[], None] = self.data.serve_views
        return serve

    def val_dataloader(self) -> Any:
        """Validation data of `data`; an empty list if it has none."""
        return self._theirs("val_dataloader")

    def test_dataloader(self) -> Any:
        """Test data of `data`; an empty list if it has none."""
        return self._theirs("test_dataloader")

    def predict_dataloader(self) -> Any:
        """Predict data of `data`; an empty list if it has none."""
        return self._theirs("predict_dataloader")

    def _theirs(self, name: str) -> Any:
        """What a loader method of `data` gives, if it has one."""
        return getattr(self.data, name)() if overrides(self.data, name) else []


def carry(part: Part, data: LightningDataModule, plain: bool) -> None:
    """Sends the batches of clients through the hooks of a data module.

    Args:
        part: of all clients.
        data: whose hooks.
        plain: whether the hooks see a validation even while training goes on.
    """
    for batching in (part.batching, *part.views) if hooks_of(data) else ():
        batching.carry = partial(carried, data=data, plain=plain)


def carried(batch: Any, data: LightningDataModule, plain: bool) -> Any:
    """A batch after the hooks of a data module, where a Trainer runs; see `carry`."""
    trainer = data.trainer
    if trainer is None:  # somebody looks at the batches, without a fit
        return batch
    measures = trainer.evaluating or trainer.predicting
    with stage(trainer, "validating") if plain and not measures else nullcontext():
        return through_data(batch, data, trainer)


def _unless_cohort(hook: Callable[..., Any], batch: Any, *args: Any) -> Any:
    """A hook for batches of data: a cohort's clients carry their own."""
    cohort = isinstance(batch, list) and batch and all(isinstance(one, ClientShard) for one in batch)
    return batch if cohort else hook(batch, *args)
