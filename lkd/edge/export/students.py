"""The students that a checkpoint holds, each loaded when its turn comes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lightning.pytorch import LightningDataModule, LightningModule

from lkd.checkpoint_io import read
from lkd.checkpoints import FEDERATION, load_client, own_models
from lkd.edge.export.measure import TestData
from lkd.own_arguments import class_path
from lkd.pruned import replay
from lkd.server_model import is_federation

SERVER = "server"


class TrainedStudent(NamedTuple):
    """A trained module, with the data that it is measured on.

    Attributes:
        name: Name of the client, or empty.
        module: The module. A federation's has its weights; for others Lightning loads them from `ckpt_path`.
        test: Its test data.
        ckpt_path: The checkpoint; None if the weights are loaded.
    """

    name: str
    module: LightningModule
    test: TestData
    ckpt_path: str | None


def students(
    module: LightningModule,
    data: LightningDataModule,
    ckpt_path: str,
    only: Sequence[str] | None,
    limit: float | int | None,
) -> Iterator[TrainedStudent]:
    """Yields the module of a checkpoint; for a federation the server's, or each client's if clients differ.

    Args:
        module: Module of the checkpoint's class; a federation is a module with `model` and `other_models`.
        data: Data module whose test data measure; a client is measured on its own test data, if it has any.
        ckpt_path: The checkpoint.
        only: Names of clients, or `"server"`; None for all.
        limit: Most batches of a test.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another class, or if a client does not exist.
    """
    checkpoint = read(ckpt_path)
    federated = FEDERATION in checkpoint
    if federated != is_federation(module):
        what = "a federation" if federated else "no federation"
        raise ValueError(
            f"ckpt_path={ckpt_path!r} is of {what}, and the model is {type(module).__name__}: give the configuration that it was "
            "trained by."
        )
    if not federated:
        _check_class(checkpoint, module, ckpt_path)
        replay(module, checkpoint)
        yield TrainedStudent("", module, TestData(data, limit=limit), ckpt_path)
        return
    yield from _members(module, data, ckpt_path, only, limit)


def _members(
    federation: Any,
    data: LightningDataModule,
    ckpt_path: str,
    only: Sequence[str] | None,
    limit: float | int | None,
) -> Iterator[TrainedStudent]:
    data.prepare_data()
    data.setup("test")
    kinds = own_models(ckpt_path)
    names = _names(kinds, getattr(data, "names", None))
    wanted = list(only) if only is not None else (list(names) or [SERVER])
    if strange := sorted(set(wanted) - {SERVER, *names}):
        raise ValueError(
            f"only={wanted}: the checkpoint has no model of {', '.join(strange)}; it has {', '.join([SERVER, *names])}."
        )
    for name in wanted:
        client = names.get(name)
        kind = 0 if client is None else kinds[client]
        module = federation.model if kind == 0 else federation.other_models[kind - 1]
        load_client(ckpt_path, client, module)
        test = TestData(data, limit=limit)
        population = getattr(data, "clients", None)
        if client is not None and population is not None and population[client].has("test"):
            test = TestData(data, _Again(population[client]), f"test data of client {name}", limit)
        yield TrainedStudent(name if client is not None else "", module, test, None)


class _Again(Iterable[Any]):
    """A client's own test batches, which can be iterated any number of times."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Any]:
        return iter(self._client.ordered_batches("test"))


def _names(kinds: dict[int, int], names: Sequence[str] | None) -> dict[str, int]:
    """Returns clients by a name that a file can have."""
    known = [names[client] if names is not None and client < len(names) else str(client) for client in kinds]
    return dict(zip(file_names(known, [str(client) for client in kinds]), kinds, strict=True))


def file_names(names: Sequence[str], numbers: Sequence[str] | None = None) -> list[str]:
    """Returns names that files can have, or numbers where the names would clash.

    Example:
        >>> file_names(["north", "cam/1"]), file_names(["cam/1", "cam 1"])
        (['north', 'cam_1'], ['0', '1'])
    """
    safe = [re.sub(r"[^\w.-]+", "_", name) for name in names]
    return safe if len(set(safe)) == len(safe) else list(numbers or map(str, range(len(safe))))


def _check_class(checkpoint: dict[str, Any], module: LightningModule, ckpt_path: str) -> None:
    """Refuses weights of another class, or of layers with other shapes."""
    here, there = class_path(type(module)), checkpoint.get("hyper_parameters", {}).get("_class_path", "")
    if there and there.rpartition(".")[2] != here.rpartition(".")[2]:
        raise ValueError(
            f"ckpt_path={ckpt_path!r} is of the class {there}, and the model is {here}: give the configuration that it was "
            "trained by."
        )
