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
    """The first samples of the training data, joined and transferred as a batch.

    No sampler, stream or worker is started: samples come from the data set by their numbers.

    Args:
        trainer: While it makes the module's optimizers, or later.
        module: The module that it fits.

    Returns:
        The batch, or None where the data cannot be looked at yet: it has no numbers, as streams and several loaders at once, or
        hooks that only run with training make or change it.
    """
    hooks = [hook for hook in (module, getattr(trainer, "datamodule", None)) if hook is not None]
    if any(overrides(hook, "on_before_batch_transfer") for hook in hooks):
        return None
    try:
        trainer.fit_loop.setup_data()  # the fit would do it a moment later
        loader: Any = trainer.train_dataloader
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            return None
        with isolate_rng():
            count = min(loader.batch_size or 2, len(loader.dataset))  # type: ignore[arg-type]
            alone = loader.batch_sampler is None
            with unopened(loader.dataset):
                samples: Any = loader.dataset[0] if alone else [loader.dataset[k] for k in range(count)]
            batch = trainer.precision_plugin.convert_input(loader.collate_fn(samples))
            return trainer.strategy.batch_to_device(batch, module.device, 0)
    except Exception:  # whatever it is, training will meet it too, or its hooks will have prevented it
        return None


@contextlib.contextmanager
def without_loggers(trainer: Trainer) -> Iterator[None]:
    """A step that writes to a logger by hand finds none inside."""
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers
