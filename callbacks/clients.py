"""`ClientReport`: how well a federation serves each of its clients, and how evenly."""

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.checks import expect
from lkd.federated import Federation
from lkd.federated.protocol.cache_use import RATES, CacheUse
from lkd.federated.protocol.client_data import ClientData, Part
from lkd.federated.server.round import Record
from lkd.metrics.direction import rises
from lkd.metrics.tables import Row, print_table, save_table

COUNTED = ("rounds", "failures", "seconds", "bytes_down", "bytes_up")
SHOWN = 20  # with more clients than this, the terminal shows the summary only


class ClientReport(Callback):
    """Callback that measures the clients' models on their own data, and writes a row for each client.

    A client's model has the server's weights and its own personal layers. Of every metric that the module
    logs in validation, `clients/<metric>/mean`, `/best`, `/worst` and `/std` over the clients are logged (all
    clients count the same; the deviation is the fairness spread), so that
    `ModelCheckpoint(monitor="clients/val/acc/worst", mode="max")` works. A `test` run measures the clients'
    test data.

    Writes `clients.csv` and `clients.md` into the folder `report/` of the run: the rounds in which a client
    took part, its failures, its seconds, its bytes down and up over the whole run, and its last metrics.
    Where the algorithm has a cache of knowledge, the client's use of it is added (`cache/hit_rate`,
    `cache/bytes_saved`, ..., see `CacheUse`). W&B gets the table too.

    Args:
        every: Rounds between two measurements; the last round is always measured.
        part: Which of the clients' data are measured while training: `"val"` or `"test"`.
        limit: Most clients that are measured. From a larger population, that many are drawn at random once.
            They stay the same in all rounds and runs, so that figures can be compared; None measures all.
        folder: Where to write; default `report/` in the run's log folder.
        metrics: Which metrics are reported, by name or pattern (`"test/acc*"`), since losses of clients with
            different objectives do not compare. Default: all.

    Raises:
        ValueError: For a number below 1 or an unknown part; if clients log none of `metrics`; when it starts,
            for a module that is no federation or data without `clients`.

    Example:
        >>> ClientReport(every=5, limit=50).every
        5
    """

    def __init__(
        self,
        every: int = 1,
        part: Part = "val",
        limit: int | None = 100,
        folder: str | None = None,
        metrics: list[str] | None = None,
    ) -> None:
        expect(every=every, ge=1)
        expect(limit=limit, ge=1, none="all clients")
        expect(part=part, among=("val", "test"))
        self.every, self.part, self.limit, self.folder, self.metrics = every, part, limit, folder, metrics
        self.rows: list[Row] = []
        self._clients: dict[int, Row] = {}  # of those that took part or were measured
        self._measured = 0  # the round after which this was done last

    def state_dict(self) -> dict[str, Any]:
        """Returns what is known of the clients so far."""
        return {"clients": self._clients, "measured": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the interrupted run stopped."""
        self._clients, self._measured = state_dict["clients"], state_dict["measured"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are clients to measure, unless the run only predicts."""
        if stage == "predict":
            return
        if not isinstance(pl_module, Federation):
            raise ValueError(
                f"ClientReport measures the clients of a Federation, not {type(pl_module).__name__}."
            )
        if not hasattr(getattr(trainer, "datamodule", None), "clients"):
            raise ValueError("ClientReport needs a datamodule with `clients`, such as FederatedDataModule.")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds up what the round cost its clients."""
        for record in _federation(pl_module).records:
            row = self._row(record)
            done = (not record.error, bool(record.error), record.seconds, record.bytes_down, record.bytes_up)
            for name, amount in zip(COUNTED, done, strict=True):
                row[name] += amount
            if record.cache is not None:
                row["cache"] = asdict(record.cache + CacheUse(**row.get("cache", {})))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures along with the validation, so that a checkpoint may depend on it."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._measure_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures when a round had no validation."""
        self._measure_if_due(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the last weights, unless that is done, and writes the table."""
        if self._measured < pl_module.global_step:
            self._measure(trainer, pl_module, self.part)
        self._write(trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures on the clients' test data."""
        self._log(pl_module, self._measure(trainer, pl_module, "test"))
        self._write(trainer)

    def _measure_if_due(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rounds = pl_module.global_step - self._measured
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if rounds >= self.every or (last and rounds > 0):
            self._log(pl_module, self._measure(trainer, pl_module, self.part))

    def _measure(self, trainer: Trainer, pl_module: LightningModule, part: Part) -> list[Record]:
        clients = drawn(cast(Any, trainer).datamodule.clients, self.limit)
        records = _federation(pl_module).evaluate(clients, part)
        if not records:
            rank_zero_warn(
                f"ClientReport: no client has {part} data of its own, so its table has no {part} metrics: give the "
                "datamodule client_fractions, or partition by a column that its own splits have, too."
            )
        logged = list(dict.fromkeys(name for record in records for name in record.metrics))
        if logged and not any(map(self._reports, logged)):
            raise ValueError(
                f"metrics={self.metrics}: clients log none of these in {part}, only {', '.join(logged)}."
            )
        for record in records:
            record.metrics = {n: value for n, value in record.metrics.items() if self._reports(n)}
            if record.error:
                rank_zero_warn(f"client {record.name} could not be measured: {record.error}")
            row = self._row(record)
            row.update(name=record.name, samples=record.samples, metrics={**row["metrics"], **record.metrics})
        self._measured = pl_module.global_step
        return records

    def _reports(self, metric: str) -> bool:
        return self.metrics is None or any(fnmatch.fnmatchcase(metric, pattern) for pattern in self.metrics)

    def _row(self, record: Record) -> Row:
        start = {"name": record.name, "samples": record.samples, **dict.fromkeys(COUNTED, 0), "metrics": {}}
        return self._clients.setdefault(record.client, start)

    def _log(self, pl_module: LightningModule, records: Sequence[Record]) -> None:
        for row in summary({str(r.client): r.metrics for r in records}):
            for name in ("mean", "best", "worst", "std"):
                pl_module.log(
                    f"clients/{row['metric']}/{name}",
                    row[name],
                    on_step=False,
                    on_epoch=True,
                    batch_size=1,
                    sync_dist=True,
                )

    def _write(self, trainer: Trainer) -> None:
        run = trainer.log_dir or trainer.default_root_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or not self._clients:
            return
        everyone = sorted(self._clients.items())
        metrics = list(dict.fromkeys(name for _, row in everyone for name in row["metrics"]))
        rates = {i: CacheUse(**row["cache"]).rates() for i, row in everyone if "cache" in row}
        known = [name for name in ("bytes_saved", *RATES) if any(name in found for found in rates.values())]
        self.rows = [
            {
                "client": client,
                **{name: value for name, value in row.items() if name not in ("metrics", "cache")},
                **{f"cache/{name}": rates.get(client, {}).get(name, math.nan) for name in known},
                **{name: row["metrics"].get(name, math.nan) for name in metrics},
            }
            for client, row in everyone
        ]
        folder = Path(self.folder or Path(run) / "report")
        save_table(self.rows, folder / "clients")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                data = [list(row.values()) for row in self.rows]
                logger.log_table("report/clients", columns=list(self.rows[0]), data=data)
        if len(self.rows) <= SHOWN:
            columns = ("client" if everyone[0][1]["name"] == "0" else "name", "samples", *metrics)
            print_table([{name: row[name] for name in columns} for row in self.rows], "Clients")
        if spread := summary({row["name"]: row["metrics"] for _, row in everyone}):
            print_table(spread, "Spread over clients")
        print(f"Report: {folder}")


def drawn(clients: Sequence[ClientData], limit: int | None) -> list[ClientData]:
    """Draws the clients to measure at random: the same ones in all rounds and runs, or all of them.

    Args:
        clients: All of them.
        limit: How many at most; None for all.

    Example:
        >>> drawn(["a", "b"], None), len(drawn(list(range(100)), 5))
        (['a', 'b'], 5)
    """
    numbers = list(range(len(clients)))
    if limit is not None and len(numbers) > limit:
        found = np.random.default_rng([len(numbers)]).choice(len(numbers), limit, replace=False)
        numbers = sorted(found.tolist())
    return [clients[i] for i in numbers]


def summary(clients: dict[str, dict[str, float]]) -> list[Row]:
    """Returns mean, best, worst and deviation of every metric over the clients with a finite value of it.

    Best is the largest value, or the smallest of a metric whose name has a word like "loss" or "error"
    (see `lkd.metrics.direction`).

    Args:
        clients: Name of the client -> name of the metric -> value.

    Returns:
        A row for every metric: `metric`, `clients` (how many), `mean`, `best`, `worst` and `std` (of the
        population).

    Example:
        >>> summary({"C1": {"val/acc": 0.5}, "C2": {"val/acc": 1.0}})
        [{'metric': 'val/acc', 'clients': 2, 'mean': 0.75, 'best': 1.0, 'worst': 0.5, 'std': 0.25}]
    """
    rows = []
    for name in dict.fromkeys(name for metrics in clients.values() for name in metrics):
        values = np.array([m[name] for m in clients.values() if math.isfinite(m.get(name, math.nan))])
        if len(values):
            ends = [float(values.max()), float(values.min())]
            if not rises(name):
                ends.reverse()
            best, worst = ends
            rows.append(
                {"metric": name, "clients": len(values), "mean": float(values.mean()), "best": best, "worst": worst,
                 "std": float(values.std())}
            )  # fmt: skip
    return rows


def _federation(module: LightningModule) -> Federation:
    assert isinstance(module, Federation)  # `setup` has checked it
    return module
