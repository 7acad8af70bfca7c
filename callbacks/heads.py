"""`HeadReport`: how well every head of every client knows the client's own classes, and all classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lkd.callbacks.everywhere import shared_batches
from lkd.checks import expect
from lkd.copies import copied
from lkd.distillation.own_call import shown_call
from lkd.federated import Federation
from lkd.metrics.betas import betas, hits
from lkd.metrics.tables import Row, print_table, save_table
from lkd.modules.classifier import labeled
from lkd.taps import Call, Taps
from lkd.transfers import stage, through_module


class HeadReport(Callback):
    """Callback that measures each client's heads on the shared validation (or test) data.

    `beta_priv` is the accuracy under the client's own label distribution, `beta_sh` that under the uniform
    one (see `lkd.metrics.betas`). Logs the means over the clients, `heads/<number>/beta_priv` and
    `heads/<number>/beta_sh`, and writes them for each client into `heads.csv` and `heads.md` in the run's
    folder `report/`.

    Args:
        every: Rounds between two measurements; the last round is always measured.
        layers: Layers that give the heads' logits, the main head first. Default: those of a
            `MultiHeadClassifier`; for other modules their output.
        part: Which part of the wrapped data module is used: `"val"` or `"test"`.
        folder: Where to write; default `report/` in the run's log folder.

    Raises:
        ValueError: For a number or name that does not fit; when it starts, for a module that is no federation
            or data without `label_counts`.

    Example:
        >>> HeadReport(every=10).part
        'val'
    """

    def __init__(
        self,
        every: int = 1,
        layers: list[str] | None = None,
        part: Literal["val", "test"] = "val",
        folder: str | None = None,
    ) -> None:
        expect(every=every, ge=1)
        expect(part=part, among=("val", "test"))
        self.every, self.layers, self.part, self.folder = every, layers, part, folder
        self.rows: list[Row] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are clients whose labels are known."""
        if not isinstance(pl_module, Federation):
            raise ValueError(
                f"HeadReport measures the clients of a Federation, not {type(pl_module).__name__}."
            )
        pl_module.engine.require_shared_memory("HeadReport")
        if not hasattr(getattr(trainer, "datamodule", None), "label_counts"):
            raise ValueError(
                "HeadReport needs a datamodule with `label_counts`, such as FederatedDataModule."
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures when it is due."""
        done = trainer.current_epoch + 1
        if done % self.every == 0 or done == trainer.max_epochs:
            self.rows = self.measure(trainer, cast(Federation, pl_module))
            for row in means(self.rows):
                for name in ("beta_priv", "beta_sh"):
                    pl_module.log(f"heads/{row['head']}/{name}", row[name], batch_size=1, sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table of the last measurement."""
        run = trainer.log_dir or trainer.default_root_dir  # on every rank: it is broadcast
        if trainer.is_global_zero and self.rows:
            save_table(self.rows, Path(self.folder or Path(run) / "report") / "heads")
            print_table(means(self.rows), "Heads, mean over the clients")

    def measure(self, trainer: Trainer, federation: Federation) -> list[Row]:
        """Returns a row for each client and head on all ranks: `client`, `head`, `beta_priv`, `beta_sh`."""
        data = cast(Any, trainer).datamodule
        private = torch.from_numpy(data.label_counts())
        batches = shared_batches(trainer, self.part)
        if batches is None or not len(cast(Any, batches)):
            raise ValueError(
                f"part={self.part!r}: the data have none; choose the other one, or data that have it."
            )
        clients = [data.clients[i] for i in range(len(data.clients))]
        rows: list[Row] = []
        for client, module in federation.models(clients):
            mine = private[client.id]
            for head, counts in enumerate(self._count(trainer, module, batches, len(mine))):
                priv, shared = betas(counts, mine)
                rows.append({"client": client.id, "head": head, "beta_priv": priv, "beta_sh": shared})
        everyone = [row for part in federation.ranks.gather_objects(rows) for row in part]
        return sorted(everyone, key=lambda row: (row["client"], row["head"]))

    @torch.no_grad()
    def _count(
        self, trainer: Trainer, module: LightningModule, batches: Iterable[Any], classes: int
    ) -> list[Tensor]:
        """Counts the hits of every head on these data, which go the way of the module's own evaluation."""
        layers = self.layers or getattr(module, "layers", [""])
        counts = [torch.zeros(2, classes) for _ in layers]
        which, name = ("validating", "validation_step") if self.part == "val" else ("testing", "test_step")
        with stage(trainer, cast(Any, which)):
            shows: bool | None = None
            for given in batches:
                batch = through_module(given, module, trainer)
                x, y = labeled(batch)
                if shows is None:  # a step that goes past its forward would run to its end, with its metrics
                    shows = shown_call(copied(module, "module").eval(), batch, name) is not None
                call = shown_call(module, batch, name) if shows else None
                call = call or Call((x,), {})
                with trainer.precision_plugin.forward_context(), Taps(module, layers, "layers") as taps:
                    module(*call.args, **call.kwargs)
                for place, layer in enumerate(layers):
                    counts[place] += hits(taps.output(layer).float(), y, classes)
        return counts


def means(rows: Sequence[Row]) -> list[Row]:
    """Returns the mean over the clients for every head.

    Example:
        >>> means([{"client": 0, "head": 0, "beta_priv": 1.0, "beta_sh": 0.0},
        ...        {"client": 1, "head": 0, "beta_priv": 0.0, "beta_sh": 0.5}])
        [{'head': 0, 'beta_priv': 0.5, 'beta_sh': 0.25}]
    """
    found = []
    for head in sorted({row["head"] for row in rows}):
        here = [row for row in rows if row["head"] == head]
        mean = {name: sum(r[name] for r in here) / len(here) for name in ("beta_priv", "beta_sh")}
        found.append({"head": head, **mean})
    return found
