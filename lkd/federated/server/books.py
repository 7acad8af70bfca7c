"""A round's records: their sums and means, logs and warnings."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.protocol.cache_use import total
from lkd.federated.server.records import Record, TooFewClientsError

if TYPE_CHECKING:
    from lkd.federated.federation import Federation


def report(federation: "Federation", round: int, records: Sequence[Record], speeds: dict[int, float]) -> None:
    """Logs a round, and warns of clients that failed.

    Args:
        federation: The federation, whose loggers are used.
        round: Number of the round.
        records: Records of all clients of the round.
        speeds: Speeds of the clients' machines, see `totals`.
    """
    for record in records:
        if record.error:
            rank_zero_warn(f"round {round}: client {record.name} failed and is left out: {record.error}")
    odd = left_out(records)
    for name in sorted(odd.keys() - federation.told):
        record = odd[name][0]
        rank_zero_warn(
            f"round {round}: {name} of client {record.name} is {record.metrics[name]}, and is left out of the mean over the clients; "
            "this is told once a metric, and round/left_out_metrics counts."
        )
    federation.told |= odd.keys()
    numbers = totals(records, speeds)
    numbers["round/left_out_metrics"] = float(sum(map(len, odd.values())))
    if federation.cache is not None:
        numbers["bytes/saved"] = float(federation.cache.bytes_saved)
    if federation.budget is not None:
        numbers["privacy/epsilon"] = federation.budget.ledger.epsilon()
    numbers |= {"bytes/down": float(federation.bytes_down), "bytes/up": float(federation.bytes_up)}
    for logger in federation.trainer.loggers:  # `self.log` costs more than a round of small clients
        logger.log_metrics(numbers, step=round)  # as Lightning numbers what a step logs
    for name, mean in means(records).items():
        bar = name.endswith("loss")
        federation.log(name, mean, on_step=False, on_epoch=True, prog_bar=bar, batch_size=1, sync_dist=True)


@contextlib.contextmanager
def advised(trainer: Trainer) -> Iterator[None]:
    """Completes the message of `TooFewClientsError` inside: with a checkpoint the run can be resumed.

    Args:
        trainer: The federation's Trainer.

    Raises:
        TooFewClientsError: If a round inside finds too few clients.
    """
    try:
        yield
    except TooFewClientsError as error:
        callbacks: list[Any] = list(trainer.checkpoint_callbacks)
        paths = [getattr(c, "last_model_path", "") or getattr(c, "best_model_path", "") for c in callbacks]
        if path := next(filter(None, paths), None):
            goes_on = f"the last checkpoint is intact, and the run goes on from it: ckpt_path={path!r}"
            if error.spoiled:
                goes_on = f"where all clients fail so, it may be the server's weights: resume from an earlier checkpoint than {path!r}"
            raise TooFewClientsError(f"{error}; {goes_on}.", error.spoiled) from error.__cause__
        raise


def totals(records: Sequence[Record], speeds: dict[int, float]) -> dict[str, float]:
    """Sums the numbers of a round for its loggers.

    Args:
        records: Records of all clients of the round.
        speeds: Speeds of clients' machines relative to this one, where they are not 1.

    Returns:
        Numbers of clients that succeeded and failed, their seconds in total, and those of the slowest if each
        had its own machine; where the algorithm has a cache, its rates (see `CacheUse.rates`).

    Example:
        >>> records = [Record(0, "a", 10, seconds=2.0), Record(1, "b", 10, seconds=1.0, error="OSError")]
        >>> totals(records, {0: 0.5})["round/slowest_seconds"]
        4.0
    """
    good = [record for record in records if not record.error]
    cache = total(record.cache for record in records)
    rates = {} if cache is None else cache.rates()
    return {
        **{f"cache/{name}": rate for name, rate in rates.items() if name != "bytes_saved"},
        "round/clients": float(len(good)),
        "round/failures": float(len(records) - len(good)),
        "round/client_seconds": sum(record.seconds for record in records),
        "round/slowest_seconds": max((r.seconds / speeds.get(r.client, 1.0) for r in good), default=0.0),
    }


def left_out(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Finds, by metric, the clients without a finite value where other clients have one.

    A metric without any finite value is not reported here, so that it stays visible.

    Example:
        >>> one = Record(0, "a", 10, metrics={"loss": 1.0, "odd": math.nan})
        >>> other = Record(1, "b", 30, metrics={"loss": math.nan, "odd": math.nan})
        >>> {name: [record.name for record in who] for name, who in left_out([one, other]).items()}
        {'loss': ['b']}
    """
    found: dict[str, list[Record]] = {}
    for name, having in _having(records).items():
        wrong = [record for record in having if not math.isfinite(record.metrics[name])]
        if wrong and len(wrong) < len(having):
            found[name] = wrong
    return found


def means(records: Sequence[Record]) -> dict[str, float]:
    """Averages what successful clients logged by their samples, without the values in `left_out`.

    Example:
        >>> means([Record(0, "a", 10, metrics={"loss": 1.0}), Record(1, "b", 30, metrics={"loss": 3.0})])
        {'loss': 2.5}
    """
    odd, result = left_out(records), {}
    for name, having in _having(records).items():
        wrong = {record.client for record in odd.get(name, ())}
        pairs = [(r.metrics[name], r.samples) for r in having if r.client not in wrong]
        result[name] = sum(value * n for value, n in pairs) / sum(n for _, n in pairs)
    return result


def _having(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Lists, by metric, the successful clients that logged it."""
    good = [record for record in records if not record.error]
    names = dict.fromkeys(name for record in good for name in record.metrics)
    return {name: [record for record in good if name in record.metrics] for name in names}
