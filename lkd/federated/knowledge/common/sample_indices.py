"""Which of its samples a client trains on in a step, for methods that know something of each sample."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from lkd.federated.client.context import ClientContext
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.seeds import derive


def places(context: ClientContext) -> Iterator[Tensor]:
    """For every training batch of this client in this round, the places of its samples in the client's data.

    Args:
        context: The client.

    Returns:
        Tensors `(B,)`, int64, where the module is, without end.

    Raises:
        ValueError: If the client cannot say.
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
