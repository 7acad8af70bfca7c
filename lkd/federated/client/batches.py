"""A client's training batches, epoch after epoch."""

from collections.abc import Iterator
from typing import Any

from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.seeds import derive


def passes(client: ClientData, seed: int) -> Iterator[tuple[bool, Any]]:
    """Yields training batches without end, epoch after epoch, each with whether it is the last of its epoch.

    Args:
        client: The client's data.
        seed: Seed of the order of the samples.

    Raises:
        ValueError: If the client has no training batch.
    """
    for epoch in range(2**31):
        previous: Any = None
        started = False
        for batch in client.train_batches(derive(seed, epoch)):
            if started:
                yield False, previous
            previous, started = batch, True
        if not started:
            raise ValueError(f"client {client.name} has no training batch.")
        yield True, previous
