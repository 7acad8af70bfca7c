"""`RoundReport`: what the rounds achieved, and what they cost."""

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from lkd.callbacks.pictures import over_rounds
from lkd.federated import Federation
from lkd.federated.protocol.cache_use import total


class RoundReport(Callback):
    """Callback that draws losses and the server's validation metrics over rounds and over the bytes sent.

    Where the algorithm has a cache of knowledge, its rate of hits and of correct answers is drawn as well.
    Writes `rounds.png` into the folder `report/` of the run; W&B gets it too. Rounds in which clients failed
    are marked. The figures themselves are in the CSV logger's `metrics.csv`.

    Args:
        folder: Where to write; default `report/` in the run's log folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.history: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Returns the rounds so far, so that a resumed run draws them all."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rounds of the interrupted run."""
        self.history = state_dict["history"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that the module is trained in rounds."""
        if not isinstance(pl_module, Federation):
            raise ValueError(
                f"RoundReport draws the rounds of a Federation, not of {type(pl_module).__name__}."
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Records the round's losses and bytes."""
        federation = cast(Federation, pl_module)
        good = [record for record in federation.records if not record.error]
        row = {
            "round": float(federation.global_step),
            "bytes": float(federation.bytes_down + federation.bytes_up),
            "failures": float(len(federation.records) - len(good)),
        }
        for name in dict.fromkeys(name for record in good for name in record.metrics):
            pairs = [(r.metrics[name], r.samples) for r in good if name in r.metrics]
            row[name] = sum(value * n for value, n in pairs) / sum(n for _, n in pairs)
        use = total(record.cache for record in good)
        rates = {} if use is None else use.rates()
        row |= {f"cache/{name}": rate for name, rate in rates.items()}
        self.history.append(row)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the validation's metrics to the last round, if the server has a model that is trained."""
        if not trainer.sanity_checking and self.history and cast(Federation, pl_module).trains_server_model:
            found = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            self.history[-1].update(found)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the picture of all rounds."""
        run = trainer.log_dir or trainer.default_root_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or not self.history:
            return
        path = Path(self.folder or Path(run) / "report") / "rounds.png"
        over_rounds(self.history, path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("report/rounds", images=[str(path)])
