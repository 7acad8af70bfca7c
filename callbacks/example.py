"""A training batch to look at before training, without taking anything from what training will see."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, IterableDataset

from lkd.packages import overrides


def example_batch(trainer: Trainer, module: LightningModule) -> Any:
    """The first samples of the training data, joined and transferred as a batch.

    No sampler, stream or worker is started: samples come from the data set by their numbers.

    Args:
        trainer: While it makes the module's optimizers, or later.
        module: The module that it fits.

    Raises:
        LookupError: If the data has no numbers, as streams and several loaders at once, or is changed by hooks that only run
            with training.
    """
    trainer.fit_loop.setup_data()  # the fit would do it a moment later
    loader: Any = trainer.train_dataloader
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise LookupError(f"{type(loader).__name__} cannot be looked at")
    hooks: list[Any] = [h for h in (module, getattr(trainer, "datamodule", None)) if h is not None]
    if any(overrides(h, "on_before_batch_transfer") for h in hooks):
        raise LookupError("on_before_batch_transfer runs with training")
    with isolate_rng():
        if loader.batch_sampler is None:
            batch = loader.collate_fn(loader.dataset[0])
        else:
            count = min(loader.batch_size or 2, len(loader.dataset))  # type: ignore[arg-type]
            batch = loader.collate_fn([loader.dataset[k] for k in range(count)])
        batch = trainer.precision_plugin.convert_input(batch)
        return trainer.strategy.batch_to_device(batch, module.device, 0)
