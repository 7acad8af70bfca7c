"""Weights & Biases for lkd: one row for each round of a federation, one group for a method's runs."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from torch import nn

from lkd.federated import Federation


class WandbRunLogger(WandbLogger):
    """Lightning's WandbLogger, with one row for each round if a Federation is trained.

    What clients, server and reports log in a round is sent together, with the number of the round as `round`,
    the horizontal axis of all charts. Other modules are logged as by Lightning's logger: by
    `trainer/global_step`.

    On the command line, `group` and `tags` are filled in from the configuration, see `lkd.run_labels.labels`.

    Args:
        project: W&B's project.
        save_dir: Folder in which W&B makes its own folder `wandb/`; it is made if it does not exist.
        name: Name of the run. Default: a name by W&B.
        group: Name of the runs that belong together, such as the seeds of one method.
        tags: Words to filter runs by.
        id: Id of a run to continue, from W&B's page or its local folder. Default: a new one.
        offline: Whether to write to `save_dir` only; `wandb sync` uploads it.
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
        """Notes whether a federation is trained; Lightning calls this with the module before every run."""
        self._federation = model if isinstance(model, Federation) else None
        if self._federation is not None:
            self.experiment.define_metric("round")
            self.experiment.define_metric("*", step_metric="round")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Sends metrics; for a federation, when its next round begins or the run ends."""
        if self._federation is None:
            super().log_metrics(metrics, step)
            return
        if self._federation.global_step != self._round:
            self._send()
        self._round = self._federation.global_step
        self._row.update(metrics)

    def finalize(self, status: str) -> None:
        """Sends the remaining metrics, also after an error."""
        self._send()
        super().finalize(status)

    def _send(self) -> None:
        if self._row:
            self.experiment.log({**self._row, "round": self._round})
            self._row = {}
