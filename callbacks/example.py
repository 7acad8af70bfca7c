"""A training batch to look at before training, without taking anything from what training will see."""

import contextlib
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, IterableDataset

from lkd.packages import overrides
from lkd.unchanged import unopened


def example_batch(trainer: Trainer, module: LightningModule) -> Any:
    """Returns the first samples of the training data, joined and moved to the device as a batch.

    No sampler, stream or worker is started: samples are read from the data set by their numbers.

    Args:
        trainer: The Trainer, while it makes the module's optimizers or later.
        module: The module that the Trainer fits.

    Returns:
        The batch, or None where the data cannot be looked at yet: streams and several loaders at once have no
        sample numbers, and some data are made or changed by hooks that only run with training.
    """
    hooks = [hook for hook in (module, getattr(trainer, "datamodule", None)) if hook is not None]
    if any(overrides(hook, "on_before_batch_transfer") for hook in hooks):
        return None
    try:
        trainer.fit_loop.setup_data()  # the fit would do it a moment later
        loader: Any = trainer.train_dataloader
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            return None
        data: Any = loader.dataset  # torch's class has no length
        with isolate_rng():
            count = min(loader.batch_size or 2, len(data))
            alone = loader.batch_sampler is None
            with unopened(data):
                samples: Any = data[0] if alone else [data[k] for k in range(count)]
            batch = trainer.precision_plugin.convert_input(loader.collate_fn(samples))
            return trainer.strategy.batch_to_device(batch, module.device, 0)
    except Exception:  # whatever it is, training will meet it too, or its hooks will have prevented it
        return None


@contextlib.contextmanager
def without_loggers(trainer: Trainer) -> Iterator[None]:
    """Hides the loggers, so that a step which writes to a logger by hand finds none."""
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers
