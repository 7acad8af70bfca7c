"""A check that batches have several samples for the losses that compare samples."""

from collections.abc import Iterable

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.batches import size
from lkd.distillation.pairing import TermPair


def require_samples(module: LightningModule, pairs: Iterable[TermPair]) -> None:
    """Refuses batches that are too small for a loss; warns if only one is, since the last may be smaller.

    Args:
        module: The student.
        pairs: What the losses compare.

    Raises:
        ValueError: If all batches of the run are too small.
    """
    for pair in pairs:
        least = pair.term.least_samples
        if pair.term.raw or size(pair.student) >= least:
            continue
        why = (
            f"{type(pair.term).__name__} compares the samples of a batch with each other, and of {size(pair.student)} it learns "
            f"nothing: it takes at least {least}"
        )
        asked = _batch_size(module)
        if asked is not None and asked < least:
            raise ValueError(f"batch_size={asked}: {why}.")
        rank_zero_warn(f"{why}. Such batches count as 0 (drop_last=True leaves a last one out).")


def _batch_size(module: LightningModule) -> int | None:
    """Returns the batch size of the run's loader, or None without one, as at a client of a federation."""
    trainer = module._trainer
    if trainer is None or trainer.lightning_module is not module:
        return None
    asked = getattr(trainer.train_dataloader, "batch_size", None)
    return asked if isinstance(asked, int) else None
