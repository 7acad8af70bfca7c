"""How good a student was before training, on the data that it is tested on in the end."""

import copy
from itertools import islice
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.metrics import DetectionTable


@torch.no_grad()
def measure(trainer: Trainer, module: LightningModule) -> list[dict[str, Any]]:
    """Measures a detector on the test data while a fit begins.

    It changes neither the module, nor the fit's data module, nor the state of the random generators.

    Args:
        trainer: The Trainer. Its data module has `cameras` and test data with labels; `limit_test_batches`
            counts.
        module: The module. Its `predict_step` gives the detections of a batch.

    Returns:
        The rows of a `DetectionTable`.

    Raises:
        ValueError: If the module has no `predict_step` of its own.
    """
    if not is_overridden("predict_step", module):
        raise ValueError(
            f"before=true needs the detections of a batch before training, and {type(module).__name__} has no predict_step that gives "
            "them; leave it out."
        )
    data: Any = copy.copy(cast(Any, trainer).datamodule)
    training = module.training
    with isolate_rng():
        data.setup("test")
        loader, limit = data.test_dataloader(), trainer.limit_test_batches
        batches = None if limit == 1.0 and isinstance(limit, float) else _count(limit, loader)
        # every rank measures all of it
        table = DetectionTable(data.cameras, distributed_available_fn=lambda: False).to(module.device)
        module.eval()
        for number, batch in enumerate(islice(loader, batches)):
            batch = trainer.strategy.batch_to_device(batch, module.device, 0)
            with trainer.precision_plugin.val_step_context():
                found = module.predict_step(batch, number)
            table.update(found, batch["targets"], batch["cameras"])
    module.train(training)
    return list(table.compute())


def _count(limit: int | float, loader: Any) -> int:
    return limit if isinstance(limit, int) else int(limit * len(loader))
