"""`TradeoffLog`: what a run achieved, and what it cost until then, as one JSON file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.callbacks.clients import drawn, summary
from lkd.callbacks.costs import FitCosts
from lkd.callbacks.everywhere import (
    everywhere,
    measured,
    shared_batches,
    with_modalities,
)
from lkd.callbacks.exchanged import weights_of_clients
from lkd.checks import expect
from lkd.federated import Federation
from lkd.federated.protocol.client_data import Part
from lkd.metrics.tables import Row

FILE = "tradeoff.json"
SPREAD = ("mean", "best", "worst", "std")


class TradeoffLog(Callback):
    """Callback that measures a federation over its rounds, with the bytes, seconds and FLOPs so far.

    Recorded is every metric that the module logs in validation or test, such as `test/acc`:

    - `test/acc` of the server's model on the shared data. A model that nobody trains
        (`Federation.trains_server_model`) is left out.
    - `clients/test/acc/mean`, `/best`, `/worst` and `/std` over the clients' models on the clients' own data.
    - `shared/test/acc/mean` and so on, of the clients' models on the shared data. These compare methods with
      and without a server's model.

    For a module that is no federation, it records what the module's own validation and test log.

    Writes `tradeoff.json` into the run's folder `report/`: the curve, the test after the fit, a row for each
    client, sizes of models and messages, and the use of a cache of knowledge (`CacheUse`). Costs are seconds
    of training (on this machine, one client after the other, without measurements), FLOPs of training (2 per
    multiply-accumulate, see `FlopCount`), peak memory and, where codecarbon is installed
    (`lightning-kd[energy]`), the estimated energy of the whole fit in watt-hours.

    Args:
        every: Rounds between two measurements; the last round is always measured.
        part: Which data: `"test"` or `"val"`.
        limit: Most clients that are measured, as in `ClientReport`.
        flops: Whether FLOPs are counted.
        folder: Where to write; default `report/` in the run's log folder.

    Raises:
        ValueError: For a number below 1 or an unknown part.

    Example:
        >>> TradeoffLog(every=5).part
        'test'
    """

    def __init__(
        self,
        every: int = 1,
        part: Part = "test",
        limit: int | None = 100,
        flops: bool = True,
        folder: str | None = None,
    ) -> None:
        expect(every=every, ge=1)
        expect(limit=limit, ge=1, none="all clients")
        expect(part=part, among=("val", "test"))
        self.every, self.part, self.limit, self.folder = every, part, limit, folder
        self.costs = FitCosts(flops)
        self.curve: list[Row] = []
        self.clients: list[Row] = []
        self.result: Row = {}
        self._measured = 0  # the round after which this was done last

    def state_dict(self) -> dict[str, Any]:
        """Returns what is known so far, so that a resumed run has all of it."""
        return {"curve": self.curve, "costs": self.costs.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues where the interrupted run stopped."""
        self.curve, self.costs.state = state_dict["curve"], state_dict["costs"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the meters of the run."""
        data: Any = cast(Any, trainer).datamodule
        self._measured, self.result = pl_module.global_step, {}
        if isinstance(pl_module, Federation) and data is not None and self.part == "test":
            data.setup("test")
        self.costs.begin(pl_module, getattr(getattr(data, "clients", None), "public", None))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of the epoch."""
        self.costs.tick()

    def on_train_batch_start(self, *args: Any) -> None:
        """Begins a step, or a round of a federation."""
        self.costs.begin_step()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Ends the step or round for the meters."""
        self.costs.end_step(len(getattr(pl_module, "records", [])))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restarts the clock after a validation, and records it for a module that is no federation."""
        self.costs.tick()
        if (
            not isinstance(pl_module, Federation)
            and trainer.state.fn == "fit"
            and not trainer.sanity_checking
        ):
            self._point(trainer, pl_module, trainer.current_epoch + 1, trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures a federation when it is due."""
        rounds = pl_module.global_step - self._measured
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if isinstance(pl_module, Federation) and rounds and (rounds >= self.every or last):
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the last weights, unless that is done, and writes the file."""
        weights = [float(sum(p.numel() for p in pl_module.parameters() if p.requires_grad))]
        population = 0
        if isinstance(pl_module, Federation):
            if self._measured < pl_module.global_step:
                self._measure(trainer, pl_module)
            population = len(getattr(cast(Any, trainer).datamodule, "clients", [None]))
            weights = weights_of_clients(pl_module, population)
        self.result = {
            "federation": isinstance(pl_module, Federation),
            "algorithm": type(getattr(pl_module, "algorithm", pl_module)).__name__,
            "weights": sum(weights) / len(weights),
            **self.costs.in_all(trainer, pl_module),
            "curve": self.curve,
            "population": population,
            "clients": with_modalities(self.clients, trainer),
            "final": {},
        }
        self.costs.let_go()
        self._write(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the results of a test after the fit."""
        if self.result:  # a test without a fit has cost nothing
            has_model = not isinstance(pl_module, Federation) or pl_module.trains_server_model
            found = _floats(trainer.callback_metrics)
            self.result["final"] = {n: v for n, v in found.items() if has_model or not n.startswith("test/")}
            self._write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the meters when a run breaks off."""
        self.costs.let_go()

    def _measure(self, trainer: Trainer, federation: Federation) -> None:
        batches, found = shared_batches(trainer, self.part), {}
        if batches is not None and federation.trains_server_model:
            found = measured(federation.model, batches, self.part, trainer)
        clients = drawn(getattr(cast(Any, trainer).datamodule, "clients", []), self.limit)
        kinds = {"clients": federation.evaluate(clients, self.part)}
        if batches is not None:
            kinds["shared"] = everywhere(federation, clients, batches, self.part)
        for kind, records in kinds.items():
            for record in records:
                if record.error:
                    rank_zero_warn(
                        f"TradeoffLog: client {record.name} could not be measured and is in no mean: {record.error}"
                    )
            # a metric without a finite value was measured all the same
            found |= {f"{kind}/{m}/{name}": math.nan for r in records for m in r.metrics for name in SPREAD}
            for row in summary({str(r.client): r.metrics for r in records}):
                found |= {f"{kind}/{row['metric']}/{name}": row[name] for name in SPREAD}
        metrics = {kind: {r.client: _floats(r.metrics) for r in records} for kind, records in kinds.items()}
        self.clients = [
            {"client": c.id, "name": c.name, "samples": c.num_samples}
            | {kind: of.get(c.id, {}) for kind, of in metrics.items()}
            for c in clients
        ]
        self._measured = federation.global_step
        self._point(trainer, federation, federation.global_step, found)

    def _point(
        self, trainer: Trainer, module: LightningModule, round: int, metrics: Mapping[str, Any]
    ) -> None:
        self.curve.append({"round": round, **self.costs.so_far(trainer, module), "metrics": _floats(metrics)})

    def _write(self, trainer: Trainer) -> None:
        run = trainer.log_dir or trainer.default_root_dir  # on every rank: it is broadcast
        if trainer.is_global_zero:
            path = Path(self.folder or Path(run) / "report") / FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.result, indent=1) + "\n", encoding="utf-8")


def _floats(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns metrics as JSON can hold them: None for a value that was measured and is not finite."""
    return {name: float(v) if math.isfinite(v) else None for name, v in metrics.items()}
