"""What a round's records add up to, and who is told."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.records import Record, TooFewClientsError

if TYPE_CHECKING:
    from lkd.federated.federation import Federation


def report(federation: "Federation", round: int, records: Sequence[Record], speeds: dict[int, float]) -> None:
    """Logs a round, and warns of clients that failed.

    Args:
        federation: Whose loggers are told.
        round: Its number.
        records: Of all clients of the round.
        speeds: See `totals`.
    """
    for record in records:
        if record.error:
            rank_zero_warn(f"round {round}: client {record.name} failed and is left out: {record.error}")
    numbers = totals(records, speeds)
    numbers |= {"bytes/down": float(federation.bytes_down), "bytes/up": float(federation.bytes_up)}
    for logger in federation.trainer.loggers:  # `self.log` costs more than a round of small clients
        logger.log_metrics(numbers, step=round)  # as Lightning numbers what a step logs
    for name, mean in means(records).items():
        bar = name.endswith("loss")
        federation.log(name, mean, on_step=False, on_epoch=True, prog_bar=bar, batch_size=1, sync_dist=True)


@contextlib.contextmanager
def advised(trainer: Trainer) -> Iterator[None]:
    """Within, a round may find too few clients; if there is a checkpoint, the message says that the run can go on from it.

    Args:
        trainer: The federation's.

    Raises:
        TooFewClientsError: As within.
    """
    try:
        yield
    except TooFewClientsError as error:
        callbacks: list[Any] = list(trainer.checkpoint_callbacks)
        paths = [getattr(c, "last_model_path", "") or getattr(c, "best_model_path", "") for c in callbacks]
        if path := next(filter(None, paths), None):
            raise TooFewClientsError(
                f"{error}; the last checkpoint is intact, and the run goes on from it: ckpt_path={path!r}."
            ) from error.__cause__
        raise


def totals(records: Sequence[Record], speeds: dict[int, float]) -> dict[str, float]:
    """Numbers of a round for its loggers.

    Args:
        records: Of all clients of the round.
        speeds: Speed of a client's machine, relative to this one, where it is not 1.

    Returns:
        Clients that succeeded, failures, seconds of all, and of the slowest were each a machine of its own.

    Example:
        >>> records = [Record(0, "a", 10, seconds=2.0), Record(1, "b", 10, seconds=1.0, error="OSError")]
        >>> totals(records, {0: 0.5})["round/slowest_seconds"]
        4.0
    """
    good = [record for record in records if not record.error]
    return {
        "round/clients": float(len(good)),
        "round/failures": float(len(records) - len(good)),
        "round/client_seconds": sum(record.seconds for record in records),
        "round/slowest_seconds": max((r.seconds / speeds.get(r.client, 1.0) for r in good), default=0.0),
    }


def means(records: Sequence[Record]) -> dict[str, float]:
    """What the clients that succeeded logged, averaged by their samples.

    Example:
        >>> means([Record(0, "a", 10, metrics={"loss": 1.0}), Record(1, "b", 30, metrics={"loss": 3.0})])
        {'loss': 2.5}
    """
    good = [record for record in records if not record.error]
    result = {}
    for name in dict.fromkeys(name for record in good for name in record.metrics):
        pairs = [(record.metrics[name], record.samples) for record in good if name in record.metrics]
        result[name] = sum(value * n for value, n in pairs) / sum(n for _, n in pairs)
    return result
