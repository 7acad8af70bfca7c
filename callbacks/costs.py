"""What a run has cost so far: bytes, seconds of training, FLOPs, energy."""

import time
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lkd.callbacks.exchanged import Exchanged
from lkd.federated import Federation
from lkd.federated.protocol.cache_use import CacheUse
from lkd.metrics.energy import EnergyMeter, peak_memory
from lkd.metrics.flops import FlopCount
from lkd.metrics.tables import Row


class FitCosts:
    """Meters of a fit. Seconds and FLOPs count training alone, on all ranks.

    Args:
        flops: Whether FLOPs are counted.
    """

    def __init__(self, flops: bool = True) -> None:
        self.flops = FlopCount() if flops else None
        self.exchanged = Exchanged()
        self._energy = EnergyMeter()
        self._seconds, self._since = 0.0, 0.0

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting."""
        flops = self.flops.total if self.flops else 0
        return {"seconds": self._seconds, "flops": flops, "counts": self.exchanged.counts}

    @state.setter
    def state(self, saved: dict[str, Any]) -> None:
        self._seconds, self.exchanged.counts = saved["seconds"], saved["counts"]
        if self.flops:
            self.flops.total = saved["flops"]

    def begin(self, module: LightningModule, public: Any) -> None:
        """Starts the meters, once, before the first step.

        Args:
            module: The module that trains.
            public: The public data of a federation's clients, or None.
        """
        self._energy.start()
        if isinstance(module, Federation):
            self.exchanged.watch(module, public)

    def tick(self) -> None:
        """Starts the clock of a step."""
        self._since = time.perf_counter()

    def begin_step(self) -> None:
        """Counts what networks compute from here on as training."""
        if self.flops:
            self.flops.__enter__()

    def end_step(self, clients: int) -> None:
        """Ends a step, or a round with so many clients; the clock goes on, as loading a batch counts."""
        if self.flops:
            self.flops.__exit__()
        self._seconds += time.perf_counter() - self._since
        self.exchanged.counts["turns"] += clients
        self.tick()

    def so_far(self, trainer: Trainer, module: LightningModule) -> Row:
        """Returns `bytes_down`, `bytes_up`, `seconds` and `flops` until now; every rank has to call it."""
        return {
            "bytes_down": getattr(module, "bytes_down", 0),
            "bytes_up": getattr(module, "bytes_up", 0),
            "seconds": self._seconds,
            "flops": over_ranks(trainer, float(self.flops.total)) if self.flops else None,
        }

    def in_all(self, trainer: Trainer, module: LightningModule) -> Row:
        """Returns all costs at the end.

        These are the costs of `so_far`, `energy_wh`, `peak_memory_mb`, `exchanged` and, for an algorithm with
        a cache of knowledge, its rates as `cache`.
        """
        counts = {name: over_ranks(trainer, amount) for name, amount in self.exchanged.counts.items()}
        counts["turns"] = self.exchanged.counts["turns"]  # every rank knows all records
        use = getattr(module, "cache", None)
        return {
            **self.so_far(trainer, module),
            "cache": use.rates() if isinstance(use, CacheUse) else {},
            "energy_wh": self._energy.stop(),
            "peak_memory_mb": peak_memory(),
            "exchanged": counts,
        }

    def let_go(self) -> None:
        """Removes all hooks and meters."""
        if self.flops:
            self.flops.__exit__()
        self.exchanged.stop()
        self._energy.stop()


def over_ranks(trainer: Trainer, amount: float) -> float:
    """Returns the sum of an amount over all ranks."""
    if trainer.world_size == 1:
        return amount
    value = torch.tensor(amount, dtype=torch.float64, device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(value, reduce_op="sum"))
