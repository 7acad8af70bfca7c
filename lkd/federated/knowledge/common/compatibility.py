"""Refuses, before anybody trains, clients that would exchange what does not fit together."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule

from lkd.batches import Keys, call_of
from lkd.federated.knowledge.common.batch_inputs import public_batches
from lkd.federated.knowledge.common.forward import outputs

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


def check_sizes(
    server: "ServerRound",
    layer: str,
    public: bool = False,
    what: str = "classes",
    layers: Callable[[LightningModule], Sequence[str]] | None = None,
    input_key: Keys | None = None,
    label_key: str | int = 1,
) -> None:
    """Compares what a layer gives in all architectures, on the same inputs or on their clients' own.

    Args:
        server: The round; its own modules are asked, so nothing travels.
        layer: The layer, or the name of all of them for the message.
        public: Whether they look at a public sample. Default: for every architecture of the cohort at a batch of its first
            client, whose inputs may be of other kinds than others'.
        what: Of what the sizes are, for the message.
        layers: Those of a module, where it has several, all of one size. Default: the one.
        input_key: Entries of the batch that the forward is given, see `call_of`.
        label_key: Entry of the labels.

    Raises:
        ValueError: If they differ; it names the clients.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    sample = next(public_batches(server.public, [0], 1, server.loop, input_key)) if public else None
    for kind, model in enumerate(server.models):
        batch = sample if public else _own(server, kind)
        if batch is None:
            continue
        call = call_of(model, batch, input_key, label_key)
        asked = [layer] if layers is None else layers(model)
        given = outputs(model, [call], asked, server.loop.trainer)
        for shape in {tuple(g.shape[1:]): None for g in given}:
            found.setdefault(shape, []).append(kind)
    if len(found) > 1:
        who = " and ".join(f"{_size(shape)} at {_who(server, kinds)}" for shape, kinds in found.items())
        raise ValueError(
            f"layer={layer!r} gives different {what}, {who}: clients that exchange it must have the same {what} in the "
            "same order; give their modules heads (projections) of one size, over all classes."
        )


def _own(server: "ServerRound", kind: int) -> Any:
    """A batch of the first client of an architecture; None if nobody of the cohort has it."""
    client = next((client for i, client in server.cohort.items() if server.kind_of(i) == kind), None)
    if client is None:
        return None
    return server.loop.on_device(next(iter(client.train_batches(server.seed))))


def _size(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(shape)


def _who(server: "ServerRound", kinds: list[int]) -> str:
    ids = sorted(client for client in server.cohort if server.kind_of(client) in kinds)
    names = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    modules = ", ".join(f"other_models[{kind - 1}]" if kind else "model" for kind in kinds)
    return f"{modules} (client {names})" if ids else modules
