"""Logged values of a client's module, collected without a Trainer."""

import contextlib
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.data import extract_batch_size
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric


class Log:
    """Stand-in for `LightningModule.log` at a client; `compute` gives the averages of a round.

    Numbers and tensors are averaged, weighted by `batch_size` (or by the size of the batch that `at` was given,
    and outside of batches alike); `reduce_fx` may be `"mean"`, `"sum"`, `"min"` or `"max"`. A torchmetrics `Metric` is
    computed and reset at the end. Arguments on where Lightning shows a value (`on_step`, `prog_bar`, ...) are
    ignored.

    A step that is a pure function must leave nothing behind, least of all tensors of `torch.func.vmap`. So
    `returning` gives its caller what is logged inside, and `add` records one client's share of it.

    Example:
        >>> log = Log()
        >>> log("loss", 2.0, batch_size=1)
        >>> log("loss", torch.tensor(5.0), batch_size=2)
        >>> log.compute()
        {'loss': 4.0}
    """

    def __init__(self) -> None:
        self._at: Any = None
        self._size: int | None = 1  # None until it is asked for: most steps say it, or log nothing
        self._values: dict[str, tuple[list[Any], list[int]]] = {}
        self.reductions: dict[str, str] = {}
        self._metrics: dict[str, Metric] = {}
        self.last: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        """Number of samples of each value in the last step inside `returning`."""

    def __call__(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        batch_size: int | None = None,
        **_: Any,
    ) -> None:
        """Records a value.

        Raises:
            ValueError: For a value that is no scalar, or an unknown `reduce_fx`.
        """
        if isinstance(value, Metric):
            self._metrics[name] = value
            return
        entry = self._values.get(name)
        if entry is None:
            self._check(name, value, reduce_fx)
            entry = self._values[name] = ([], [])
        entry[0].append(value.detach() if isinstance(value, Tensor) else value)
        entry[1].append(batch_size or (self._samples(name) if self.reductions[name] == "mean" else 1))

    def at(self, batch: Any) -> None:
        """Says which batch is at work; values that are logged are of its samples. None where there is none.

        A batch that does not tell its size counts as one sample, with a warning.

        Example:
            >>> log = Log()
            >>> for batch in (torch.zeros(3), torch.ones(1)):
            ...     log.at(batch)
            ...     log("mean", batch.mean())
            >>> log.compute()
            {'mean': 0.25}
        """
        self._at, self._size = batch, 1 if batch is None else None

    def _samples(self, name: str) -> int:
        if self._size is None:
            try:
                self._size = extract_batch_size(self._at)
            except MisconfigurationException:
                self._size = 1
                rank_zero_warn(
                    f"self.log({name!r}, ...) of a client has no batch_size, and a batch that is a {type(self._at).__name__} "
                    "does not tell it: all batches count alike. Log it with batch_size=..."
                )
        return self._size

    def _check(self, name: str, value: Any, reduce_fx: Any) -> None:
        if not isinstance(value, numbers.Number) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise ValueError(f"self.log({name!r}, ...) takes a number or a scalar tensor, not {value!r:.80}.")
        reduction = getattr(reduce_fx, "__name__", reduce_fx)
        if reduction not in ("mean", "sum", "min", "max"):
            raise ValueError(
                f"self.log({name!r}, reduce_fx={reduction!r}): a client's log knows mean, sum, min and max."
            )
        self.reductions[name] = reduction

    def compute(self) -> dict[str, float]:
        """Returns the values by name, and forgets them; `last` keeps the last value of each."""
        self.last = {name: values[-1] for name, (values, _) in self._values.items()}
        result = {name: self._reduce(name, *entry) for name, entry in self._values.items()}
        # all before the first reset: one metric may have two names, and those of a collection share their states
        values = {name: metric.compute() for name, metric in self._metrics.items()}
        for name, value in values.items():
            self._check(name, value, "mean")
            result[name] = float(value)
        for metric in self._metrics.values():
            metric.reset()
        self.clear()
        return result

    def value(self, name: str, computed: dict[str, float]) -> float | None:
        """Looks a value up by its name, or by Lightning's names for its mean and its last step.

        Args:
            name: Such as `"loss"`, `"loss_epoch"` or `"loss_step"`.
            computed: Result of the last `compute`.

        Returns:
            The value, or None where there is none.

        Example:
            >>> log = Log()
            >>> log("loss", 2.0), log("loss", 5.0)
            (None, None)
            >>> computed = log.compute()
            >>> log.value("loss_epoch", computed), log.value("loss_step", computed), log.value("acc", computed)
            (3.5, 5.0, None)
        """
        if name in computed:
            return computed[name]
        base, _, suffix = name.rpartition("_")
        if suffix == "step" and base in self.last:
            return float(self.last[base])
        return computed.get(base) if suffix == "epoch" else None

    @contextlib.contextmanager
    def returning(self) -> Iterator[dict[str, Tensor]]:
        """Yields a dict, which afterwards has a scalar for each name logged inside; the log stays as it was.

        Raises:
            ValueError: If a torchmetrics `Metric` is logged inside, since it keeps what it has seen.

        Example:
            >>> log, whole = Log(), Log()
            >>> with log.returning() as logs:
            ...     log("loss", torch.tensor(5.0), batch_size=2)
            >>> logs, log.compute()
            ({'loss': tensor(5.)}, {})
            >>> whole.add(logs, log), whole.compute()
            (None, {'loss': 5.0})
        """
        logs: dict[str, Tensor] = {}
        kept, self._values = self._values, {}
        metrics, self._metrics = self._metrics, {}
        try:
            yield logs
            if self._metrics:
                raise ValueError(
                    f"self.log({next(iter(self._metrics))!r}, ...) is given a torchmetrics Metric, which keeps what it has seen, and a step "
                    "that is stacked over clients can keep nothing: log a tensor."
                )
            logs |= {name: self._joined(name, *entry) for name, entry in self._values.items()}
            self.sizes = {name: sum(sizes) for name, (_, sizes) in self._values.items()}
        finally:
            self._values, self._metrics = kept, metrics

    def add(self, logs: Mapping[str, Tensor], of: "Log") -> None:
        """Records what a step has returned.

        Args:
            logs: The dict of `returning`, or one client's share of it.
            of: The log that gave it, which knows sizes and reductions.
        """
        for name, value in logs.items():
            self(name, value, reduce_fx=of.reductions[name], batch_size=of.sizes[name])

    def clear(self) -> None:
        """Forgets all values, such as those of a client that failed."""
        self._values.clear()
        self._metrics.clear()
        self.at(None)

    def _joined(self, name: str, values: list[Any], sizes: list[int]) -> Tensor:
        """Joins the values that a step logged under a name into one tensor, which may be of many clients."""
        tensors = [v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in values]
        if len(tensors) == 1:
            return tensors[0].reshape(())
        stacked = torch.stack([tensor.reshape(()).to(tensors[0].device) for tensor in tensors])
        if self.reductions[name] == "mean":
            weights = torch.tensor(sizes, dtype=stacked.dtype, device=stacked.device)
            return (stacked * weights).sum() / weights.sum()
        found: Tensor = getattr(stacked, self.reductions[name])()
        return found

    def _reduce(self, name: str, values: list[Any], sizes: list[int]) -> float:
        if all(isinstance(value, Tensor) for value in values):
            found = torch.stack(
                [value.reshape(()) for value in values]
            ).tolist()  # with one wait for the device
        else:
            found = [float(value) for value in values]
        how = self.reductions[name]
        if how == "mean":
            return sum(number * size for number, size in zip(found, sizes, strict=True)) / sum(sizes)
        if any(map(math.isnan, found)):
            return math.nan  # of which min and max of Python know nothing
        return float(sum(found) if how == "sum" else min(found) if how == "min" else max(found))
