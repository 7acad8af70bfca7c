"""Measuring models while a fit goes on: one model, or every client's, on the shared data."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer

from lkd.federated import Federation
from lkd.federated.client.evaluation import evaluate
from lkd.federated.client.logger import Log
from lkd.federated.protocol.client_data import ClientData, Part
from lkd.federated.server.records import Record
from lkd.metrics.tables import Row
from lkd.packages import overrides
from lkd.transfers import hooks_of, through_data, through_module


class Everywhere:
    """Client whose data are replaced by the shared data in every part.

    Args:
        client: The client in all other respects.
        batches: The shared data.
    """

    def __init__(self, client: ClientData, batches: Iterable[Any]) -> None:
        self._client, self._batches = client, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def has(self, part: Part) -> bool:
        """Returns true, since the shared data stand in for every part."""
        return True

    def ordered_batches(self, part: Part) -> Iterable[Any]:
        """Returns the shared data in place of the client's own."""
        return self._batches


def shared_batches(trainer: Trainer, part: Part) -> Iterable[Any] | None:
    """Returns validation or test data of the datamodule (the first of several loaders), or None."""
    data: Any = cast(Any, trainer).datamodule
    name = f"{part}_dataloader"
    if data is None or not overrides(data, name):
        return None
    loaders = getattr(data, name)()
    loader = next(iter(loaders), None) if isinstance(loaders, list | tuple) else loaders
    return _Carried(loader, trainer) if loader is not None and hooks_of(data) else loader


class _Carried(Iterable[Any]):
    """Batches of a loader after the hooks of the datamodule, as in the Trainer's own loops."""

    def __init__(self, loader: Iterable[Any], trainer: Trainer) -> None:
        self._loader, self._trainer = loader, trainer

    def __len__(self) -> int:
        return len(cast(Any, self._loader))

    def __iter__(self) -> Iterator[Any]:
        data = cast(Any, self._trainer).datamodule
        return (through_data(batch, data, self._trainer) for batch in self._loader)


def everywhere(
    federation: Federation, clients: Sequence[ClientData], batches: Iterable[Any], part: Part
) -> list[Record]:
    """Measures every client's model on the shared data; a model that several clients share is measured once.

    Args:
        federation: The federation.
        clients: Clients whose models are measured.
        batches: The shared data.
        part: Whether the module's validation or test steps measure.

    Returns:
        A record for each client, by id.

    Raises:
        RuntimeError: If clients work in other processes, which have data of their own.
    """
    federation.engine.require_shared_memory("a measurement of all clients on the shared data")
    same = not any(one.has_own for one in federation.architectures)
    asked = clients
    if same:
        first = {federation.architectures.kind_of(c.id): c for c in reversed(clients)}
        asked = [first[kind] for kind in sorted(first)]
    records = federation.evaluate([cast(ClientData, Everywhere(c, batches)) for c in asked], part)
    if not same:
        return records
    by_kind = {federation.architectures.kind_of(record.client): record for record in records}
    return [
        Record(c.id, c.name, c.num_samples, error=found.error, metrics=dict(found.metrics))
        for c in clients
        if (found := by_kind.get(federation.architectures.kind_of(c.id)))
    ]


def measured(
    module: LightningModule, batches: Iterable[Any], part: Part, trainer: Trainer
) -> dict[str, float]:
    """Returns what a module's validation or test steps log on these batches, outside of the Trainer's loops.

    Args:
        module: The module; its mode and its log are afterward as they were.
        batches: The data.
        part: Whether validation or test steps measure.
        trainer: The Trainer whose device and precision are used.
    """
    if not overrides(module, "validation_step" if part == "val" else "test_step"):
        return {}
    training, before, log = module.training, vars(module).get("log"), Log()
    vars(module)["log"] = log
    try:
        return evaluate(
            module, batches, part, trainer, log, lambda batch: through_module(batch, module, trainer)
        )
    finally:
        vars(module).pop("log")
        if before is not None:
            vars(module)["log"] = before
        module.train(training)


def with_modalities(clients: list[Row], trainer: Trainer) -> list[Row]:
    """Adds to every client's row which modalities it owns, where the data know."""
    data: Any = cast(Any, trainer).datamodule
    rows = data.summary() if clients and hasattr(data, "summary") else []
    owned = {row["client"]: row["modalities"] for row in rows if "modalities" in row}
    return [{**row, "modalities": owned[row["client"]]} if row["client"] in owned else row for row in clients]
