"""Checks, before training, that clients exchange tensors of matching sizes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule

from lkd.batches import Keys, call_of
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.batch_inputs import public_batches
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.protocol.messages import TELL_SIZES, RefusalError

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

Shapes = dict[tuple[int, ...], list[int]]
"""Architectures by the shape that their layer gives."""


def check_sizes(
    server: "ServerRound",
    layer: str,
    what: str = "classes",
    input_key: Keys | None = None,
    layers: Callable[[LightningModule], Sequence[str]] | None = None,
) -> None:
    """Compares the sizes that a layer gives in all architectures, on a public sample.

    Args:
        server: The round; its own modules are run, so nothing travels.
        layer: The layer, or the common name of several for the message.
        what: What the sizes are of, for the message.
        input_key: Entries of the batch that the forward is given, see `call_of`.
        layers: Gives the layers of a module, where it has several, all of one size. Default: `layer` alone.

    Raises:
        ValueError: If sizes differ; the message names the clients.
    """
    found: Shapes = {}
    sample = next(public_batches(server.public, [0], 1, server.runtime, input_key))
    for kind, model in enumerate(server.models):
        asked = [layer] if layers is None else layers(model)
        given = outputs(model, [call_of(model, sample, input_key)], asked, server.runtime.trainer)
        for shape in {tuple(g.shape[1:]): None for g in given}:
            found.setdefault(shape, []).append(kind)
    _compare(server, layer, what, found)


class OwnSizes:
    """Comparison of the sizes that a layer gives, on batches of the clients' own.

    A client of every architecture is asked, since inputs may be of other kinds than other clients'. The
    algorithm must have a method `tell_sizes`, which the clients run.

    Args:
        layer: The layer, or the common name of several for the message.
        what: What the sizes are of, for the message.
    """

    def __init__(self, layer: str, what: str = "classes") -> None:
        self._layer, self._what = layer, what
        self._found: Shapes = {}

    def check(self, server: "ServerRound") -> None:
        """Asks a client of every architecture that has not been asked yet.

        Raises:
            ValueError: If sizes differ; the message names the clients.
        """
        known = {kind for kinds in self._found.values() for kind in kinds}
        first = {server.kind_of(i): i for i in reversed(server.cohort)}
        if not (asked := [i for kind, i in first.items() if kind not in known]):
            return
        told = [
            (server.kind_of(reply.client), [tuple(shape.tolist()) for shape in reply.knowledge.values()])
            for reply in server.call(TELL_SIZES, to=asked, weights=False)
        ]
        for kind, shapes in (one for part in server.gather_objects(told) for one in part):
            for shape in dict.fromkeys(shapes):
                self._found.setdefault(shape, []).append(kind)
        _compare(server, self._layer, self._what, self._found)


def tell_sizes(
    context: ClientContext,
    layers: Sequence[str],
    input_key: Keys | None = None,
    label_key: str | int = 1,
) -> None:
    """Replies the shapes that layers give at a client, without the dimension of the batch.

    Args:
        context: The client.
        layers: Addresses of the layers.
        input_key: Entries of the batch that the forward is given, see `call_of`.
        label_key: Entry of the labels.

    Raises:
        RefusalError: If a layer does not exist, or gives no tensor.
    """
    batch = context.loop.on_device(next(iter(context.client.train_batches(context.seed))))
    call = call_of(context.module, batch, input_key, label_key)
    try:
        given = outputs(context.module, [call], layers, context.loop.trainer)
    except ValueError as error:
        raise RefusalError(str(error)) from error
    context.reply_tensors = {str(i): torch.tensor(g.shape[1:]) for i, g in enumerate(given)}


def _compare(server: "ServerRound", layer: str, what: str, found: Shapes) -> None:
    if len(found) > 1:
        who = " and ".join(f"{_size(shape)} at {_who(server, kinds)}" for shape, kinds in found.items())
        raise ValueError(
            f"layer={layer!r} gives different {what}, {who}: clients that exchange it must have the same {what} in the "
            "same order; give their modules heads (projections) of one size, over all classes."
        )


def _size(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else str(shape)


def _who(server: "ServerRound", kinds: list[int]) -> str:
    ids = sorted(client for client in server.cohort if server.kind_of(client) in kinds)
    names = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    modules = ", ".join(f"other_models[{kind - 1}]" if kind else "model" for kind in kinds)
    return f"{modules} (client {names})" if ids else modules
