"""Records of a round: what clients did, and whether enough of them succeeded."""

from dataclasses import dataclass, field

from lkd.federated.protocol.cache_use import CacheUse
from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Reply
from lkd.federated.server.ranks import Ranks
from lkd.federated.topology.base import listed


class TooFewClientsError(RuntimeError):
    """Error for a round in which fewer clients succeeded than it needs.

    Args:
        message: What went wrong.
        spoiled: Whether all clients failed in a way for which the server's weights may be to blame.
    """

    def __init__(self, message: str, spoiled: bool = False) -> None:
        super().__init__(message)
        self.spoiled = spoiled


@dataclass
class Record:
    """Record of a client's part in a round, for reports.

    `seconds` and bytes are those of this process and its messages. `cache` tells how a cache of the algorithm
    was used, if it has one. `without_loss` counts batches for which the module gave no loss (None); `batches`
    counts all batches if there are such.
    """

    client: int
    name: str
    samples: int
    steps: int = 0
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    error: str = ""
    without_loss: int = 0
    batches: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    cache: CacheUse | None = None


class Records(dict[int, Record]):
    """Records of a round by client; every rank keeps those of its own clients.

    Args:
        round: Number of the round.
        ranks: The processes.
    """

    def __init__(self, round: int, ranks: Ranks) -> None:
        super().__init__()
        self._round, self._ranks = round, ranks
        self._cause: Exception | None = None

    def enter(self, client: ClientInfo, sent: int, reply: Reply, error: str) -> Record:
        """Adds a client's answer to its record.

        Args:
            client: The client.
            sent: Bytes of the message to it.
            reply: Its reply.
            error: Why the reply is not accepted; empty if it is.

        Returns:
            The record.
        """
        record = self.setdefault(client.id, Record(client.id, client.name, client.num_samples))
        record.error = error
        self._cause = self._cause or reply.cause
        record.seconds += reply.seconds
        record.bytes_down += sent
        if not error:
            record.bytes_up += reply.nbytes
            record.steps += int(reply.metrics.get("steps", 0))
            record.without_loss += int(reply.metrics.get("without_loss", 0))
            record.batches += int(reply.metrics.get("batches", 0))
            record.metrics.update(reply.logs)
        return record

    @property
    def failed(self) -> set[int]:
        """Clients whose reply was not accepted; they are not asked again in this round."""
        return {client for client, record in self.items() if record.error}

    def everyone(self) -> list[Record]:
        """Gathers the records of all ranks, ordered by client."""
        joined = [record for part in self._ranks.gather_objects(list(self.values())) for record in part]
        return sorted(joined, key=lambda record: record.client)

    def require(self, fewest: int, succeeded: int, asked: int) -> None:
        """Stops the run if fewer clients than needed, or none at all, succeeded.

        Args:
            fewest: Number of clients that have to succeed.
            succeeded: Number of clients that did.
            asked: Number of clients that were asked.

        Raises:
            TooFewClientsError: If they are too few; the message says what went wrong.
        """
        if succeeded >= max(1, fewest):
            return
        by_error: dict[str, list[str]] = {}
        for record in self.everyone():
            if record.error:
                by_error.setdefault(record.error, []).append(record.name)
        errors = [f"{listed(names)}: {error}" for error, names in by_error.items()]
        why = "; ".join(errors[:3]) + (f"; and {len(errors) - 3} other errors" if len(errors) > 3 else "")
        none = "no more could be reached" if asked else "nobody was there"
        failed = sum(map(len, by_error.values()))
        raise TooFewClientsError(
            f"round {self._round}: {succeeded} of {asked} clients succeeded, and min_clients={fewest} are needed ({why or none})",
            spoiled=bool(
                self._round and failed == asked and all("not finite" in error for error in by_error)
            ),
        ) from self._cause
