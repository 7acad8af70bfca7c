"""Weights & Biases for runs of lkd: a federation's rounds are its rows, and the runs of a method are its groups."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from torch import nn

from lkd.federated import Federation


class WandbRunLogger(WandbLogger):
    """Lightning's WandbLogger, with one row a round where a Federation is trained.

    What clients, server and reports log in a round is sent together, with the number of the round as `round`, which is
    the horizontal axis of all charts. Other modules are logged as Lightning's logger does it: by `trainer/global_step`.

    On the command line `group` and `tags` are filled in from the configuration, see `lkd.run_labels.labels`.

    Args:
        project: W&B's project.
        save_dir: The folder in which W&B makes its own folder `wandb/`; it is made where it does not exist.
        name: Of the run. Default: W&B's invention.
        group: The name of the runs that belong together, such as the seeds of one method.
        tags: Words to filter runs by.
        id: Of a run that goes on; W&B's page and its local folder say it. Default: a new one.
        offline: Write to `save_dir` alone; `wandb sync` uploads it.
        log_model: As Lightning's: upload checkpoints at the end (`True`), always (`"all"`), or not.

    Example:
        >>> WandbRunLogger(group="FedAvg", offline=True).name is None  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        project: str = "lkd",
        save_dir: str | Path = "runs",
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        id: str | None = None,
        offline: bool = False,
        log_model: bool | str = False,
    ) -> None:
        Path(save_dir).mkdir(parents=True, exist_ok=True)  # W&B would silently write elsewhere
        more: dict[str, Any] = {"project": project, "id": id, "offline": offline, "log_model": log_model}
        super().__init__(name=name, save_dir=save_dir, group=group, tags=tags, **more)
        self._federation: Federation | None = None
        self._round, self._row = 0, dict[str, Any]()

    def log_graph(self, model: nn.Module, input_array: Any = None) -> None:
        """Notes whether a federation is trained: Lightning calls this with the module before every run."""
        self._federation = model if isinstance(model, Federation) else None
        if self._federation is not None:
            self.experiment.define_metric("round")
            self.experiment.define_metric("*", step_metric="round")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Sends metrics; of a federation, when its next round begins or the run ends."""
        if self._federation is None:
            super().log_metrics(metrics, step)
            return
        if self._federation.global_step != self._round:
            self._send()
        self._round = self._federation.global_step
        self._row.update(metrics)

    def finalize(self, status: str) -> None:
        """Sends what is left, also after an error."""
        self._send()
        super().finalize(status)

    def _send(self) -> None:
        if self._row:
            self.experiment.log({**self._row, "round": self._round})
            self._row = {}
