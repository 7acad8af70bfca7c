"""The samples that a client trains on in each step, for methods that know something of each sample."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.seeds import derive


def places(context: ClientContext) -> Iterator[Tensor]:
    """Yields the places of the samples of every training batch of this client and round.

    A place is a sample's position in the client's data.

    Args:
        context: The client.

    Returns:
        Tensors `(B,)`, int64, on the module's device, without end.

    Raises:
        ValueError: If the client's data have no `train_places`.
    """
    client: ClientData = context.client
    if not hasattr(client, "train_places"):
        raise ValueError(
            f"client {client.name} has no method `train_places`, but this algorithm has to know which samples are in a batch."
        )
    return (
        torch.as_tensor(rows, dtype=torch.long, device=context.module.device)
        for epoch in itertools.count()
        for rows in client.train_places(derive(context.seed, epoch))
    )
