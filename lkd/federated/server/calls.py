"""Calls from the server to clients, and the choice of replies that it accepts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Config, Message, RefusalError, Reply
from lkd.federated.protocol.tensors import Groups, Tensors, num_bytes
from lkd.federated.server.architectures import Architectures
from lkd.federated.server.outliers import Own, Size, harmless, middles, outlier, sizes
from lkd.federated.server.ranks import Ranks
from lkd.federated.server.records import Record, Records
from lkd.federated.server.reply_checks import Expected, fault

Exchange = Callable[[str, dict[int, Message]], Iterator[Reply]]
"""Sends messages to clients by their ids and yields the replies, in any order."""
Knowledge = Tensors | Mapping[int, Tensors]
"""Tensors for all clients, or tensors for each by its id."""
Configs = Config | dict[int, Config]
"""Plain values for all clients, or values for each by its id."""


class Calls:
    """Sender of messages that passes on the useful replies; the others go into the records.

    A reply that is no larger than the server's own weights passes at once. A larger one waits until all
    clients have replied, as only then there is a median to compare it with. So few models are in memory at
    once, and all ranks decide alike.

    Args:
        index: Number of the round.
        exchange: The engine's exchange.
        architectures: The architectures, with the server's weights and buffers.
        ranks: The processes.
        records: Records of this round.
        on_record: Is told of every client that is done.
        undo: Restores what a client kept before an answer that is not accepted.
        outlier_factor: How far a reply may be from the others, see `Federation`. None: any distance.
        fewest: Replies that a robust rule needs. If they would be fewer without the outliers, the rule gets
            these, too.
    """

    def __init__(
        self,
        index: int,
        exchange: Exchange,
        architectures: Architectures,
        ranks: Ranks,
        records: Records,
        on_record: Callable[[Record], None],
        undo: Callable[[int], None],
        outlier_factor: float | None,
        fewest: int = 0,
    ) -> None:
        self._index, self._exchange, self._ranks = index, exchange, ranks
        self._x, self._buffers = architectures.x, architectures.buffers
        self._layouts, self._kind_of = architectures.layouts, architectures.kind_of
        self._records, self._on_record, self._undo = records, on_record, undo
        self._factor, self._fewest = outlier_factor, fewest

    def __call__(
        self,
        verb: str,
        clients: Iterable[ClientInfo],
        send: Groups,
        config: dict[int, Config],
        knowledge: Knowledge | None = None,
    ) -> Iterator[Reply]:
        """Asks this rank's clients that have not failed; yields their replies.

        Args:
            verb: What they are asked to do.
            clients: The clients, over all ranks.
            send: Groups of the server's tensors that are sent beside x, or in its place.
            config: Plain values for each client, by its id.
            knowledge: Tensors of any name, for all or for each.

        Raises:
            RefusalError: If a client finds a mistake in the configuration.
        """
        failed = self._records.failed
        asked = {c.id: c for c in clients if c.id not in failed and self._ranks.owns(c.id)}
        layouts = {kind: self._layouts[kind] for kind in {self._kind_of(i) for i in asked}}
        groups = {
            kind: {g: layout.of_client(t) for g, t in {"x": self._x, **send}.items()}
            for kind, layout in layouts.items()
        }
        messages = {
            i: Message(
                {g: dict(tensors) for g, tensors in groups[self._kind_of(i)].items()},
                {"round": self._index, **config.get(i, {})},
                own_part(i, knowledge),
            )
            for i in asked
        }
        sent = {kind: num_bytes(given) for kind, given in groups.items()}
        expected = {k: Expected.of(lay, self._x, self._buffers) for k, lay in layouts.items()}
        own = {k: Own.of(lay.of_client(self._x), lay.of_client(self._buffers)) for k, lay in layouts.items()}
        measured: list[dict[str, Size]] = []
        held: list[tuple[Reply, dict[str, Size]]] = []

        def take(reply: Reply, error: str) -> Iterator[Reply]:
            client = asked[reply.client]
            if error and (
                not reply.error or reply.travelled is not None
            ):  # refused here, after its client kept it
                self._undo(reply.client)
            given = sent[self._kind_of(reply.client)] + messages[reply.client].nbytes_beside
            record = self._records.enter(client, given, reply, error)
            if verb == "train" or error:
                self._on_record(record)
            if not error:
                yield reply

        factor = None if verb == "evaluate" else self._factor  # a measurement changes nothing
        answered: set[int] = set()
        for reply in self._exchange(verb, messages):
            if reply.refused:
                raise reply.cause or RefusalError(reply.error)
            if reply.client not in asked or reply.client in answered:
                continue  # it was not asked, or has already answered
            answered.add(reply.client)
            kind, lengths = self._kind_of(reply.client), dict[str, float]()
            error = reply.error or fault(reply, expected[kind], lengths)
            if not error and reply.round not in (self._index, -1):
                error = f"its reply is of round {reply.round}"
            if not error and factor is not None:
                steps = config.get(reply.client, {}).get("steps", 1.0)
                found = sizes(reply, factor, own[kind], steps, lengths)
                measured.append(found)
                if not harmless(found):
                    _copy(reply)
                    held.append((reply, found))
                    continue
            yield from take(reply, error)
        if factor is None:
            return
        everyone = [one for part in self._ranks.gather_objects(measured) for one in part]
        medians = middles(everyone)
        left = sum(not outlier(one, medians, factor) for one in everyone)
        for reply, found in held:
            yield from take(reply, outlier(found, medians, factor) if left >= self._fewest else "")


def _copy(reply: Reply) -> None:
    """Copies a reply's tensors, which may be those of the module that the next client trains."""
    reply.tensors = {
        g: {n: t.detach().clone() for n, t in group.items()} for g, group in reply.tensors.items()
    }
    reply.knowledge = {name: tensor.detach().clone() for name, tensor in reply.knowledge.items()}


def own_part(client: int, given: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Returns a client's own part, or the part for all."""
    for_each = bool(given) and all(isinstance(key, int) for key in given or ())
    return dict((given or {}).get(client, {}) if for_each else given or {})
