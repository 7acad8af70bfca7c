"""What the server asks of clients, and which replies it takes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Config, Message, RefusalError, Reply
from lkd.federated.protocol.tensors import Groups, Tensors
from lkd.federated.server.architectures import Architectures
from lkd.federated.server.outliers import Own, Size, harmless, middles, outlier, sizes
from lkd.federated.server.ranks import Ranks
from lkd.federated.server.records import Record, Records
from lkd.federated.server.reply_checks import fault

Exchange = Callable[[str, dict[int, Message]], Iterator[Reply]]
"""Sends messages to clients by their ids and yields the replies, in any order."""
Knowledge = Tensors | Mapping[int, Tensors]
"""The same tensors for every client, or those of each by its id."""
Configs = Config | dict[int, Config]
"""The same plain values for every client, or those of each."""


class Calls:
    """Sends every client its message and passes the replies on that are of use; the others go into the records.

    A reply that is no larger than what the server has passes at once. A larger one waits until all have replied, as only then
    there is a median to compare it with. So few models are in memory at once, and every rank comes to the same verdict.

    Args:
        index: Number of the round.
        exchange: The engine.
        architectures: With the server's weights and buffers.
        ranks: The processes.
        records: Who did what in this round.
        on_record: Told of every client that is done.
        undo: Puts back what a client kept before an answer that is not taken.
        outlier_factor: How far a reply may be from the others, see `Federation`. None: any distance.
        fewest: Replies that a robust rule needs: it decides itself where there would be fewer without the outliers.
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
        """Asks those clients that are this rank's and have not failed; yields their replies.

        Args:
            verb: What for.
            clients: Whom, over all ranks.
            send: Groups of the server's tensors that go with x, or in its place.
            config: Plain values for each, by its id.
            knowledge: Tensors of any name, for all or for each.
        """
        asked = {c.id: c for c in clients if c.id not in self._records.failed and self._ranks.owns(c.id)}
        messages = {
            i: Message(
                {g: self._layouts[self._kind_of(i)].of_client(t) for g, t in {"x": self._x, **send}.items()},
                {"round": self._index, **config.get(i, {})},
                own_part(i, knowledge),
            )
            for i in asked
        }
        layouts = {kind: self._layouts[kind] for kind in {self._kind_of(i) for i in asked}}
        own = {k: Own.of(lay.of_client(self._x), lay.of_client(self._buffers)) for k, lay in layouts.items()}
        measured: list[dict[str, Size]] = []
        held: list[tuple[Reply, dict[str, Size]]] = []

        def take(reply: Reply, error: str) -> Iterator[Reply]:
            client = asked[reply.client]
            if error and not reply.error:
                self._undo(reply.client)
            record = self._records.enter(client, messages[reply.client].nbytes, reply, error)
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
                continue  # nobody asked it, or it has answered already: the first answer counts
            answered.add(reply.client)
            layout = self._layouts[self._kind_of(reply.client)]
            error = reply.error or fault(reply, layout, self._x, self._buffers)
            if not error and reply.round not in (self._index, -1):
                error = f"its reply is of round {reply.round}"
            if not error and factor is not None:
                steps = config.get(reply.client, {}).get("steps", 1.0)
                found = sizes(reply, factor, own[self._kind_of(reply.client)], steps)
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
    """Makes a reply outlast the client's turn: what it tells may be the very tensors of the module that trains."""
    reply.tensors = {
        g: {n: t.detach().clone() for n, t in group.items()} for g, group in reply.tensors.items()
    }
    reply.knowledge = {name: tensor.detach().clone() for name, tensor in reply.knowledge.items()}


def own_part(client: int, given: Mapping[Any, Any] | None) -> dict[str, Any]:
    """What this client gets: its own part, or what all get."""
    for_each = bool(given) and all(isinstance(key, int) for key in given or ())
    return dict((given or {}).get(client, {}) if for_each else given or {})
