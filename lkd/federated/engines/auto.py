"""The default engine: in this process, stacked where that pays, and one after the other where not."""

from collections.abc import Callable, Iterator, Mapping

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lkd.federated.client.stacked.worth import FEWEST, name, size, too_much, why_not_worth
from lkd.federated.engines.loop import Loop
from lkd.federated.engines.stacked import Stacked
from lkd.federated.protocol.messages import Message, Reply
from lkd.metrics.flops import FlopCount


class Auto(Stacked):
    """Trains clients as `Stacked` does where that pays, and as `Loop` does elsewhere; says which, and why.

    In a round, clients are stacked if 8 or more of one architecture make the same number of steps, on a CPU
    and in one process, if the architecture has up to 40,000 weights for each of its weight tensors in the
    mean, and if a step of it takes up to 18 million floating-point operations for each, forward and backward:
    the first client, which trains by itself, shows how many. What such clients do beside training, as
    predictions on public data, is stacked, too. What `Stacked` refuses is never stacked here, without an
    error. All others work one after the other, with the bits of `Loop`.

    The choice follows from the configuration and the round's clients; what the first client has shown is part
    of a checkpoint. So a resumed run has the same bits. A run on another number of processes, or a larger
    cohort, may be stacked where this one is not, which changes results by rounding, and random draws in a
    step (dropout): name `Loop` where that matters.

    Example:
        >>> from lkd.federated import Federation
        >>> from lkd.models import MLP
        >>> from lkd.modules import Classifier
        >>> type(Federation(Classifier(MLP(64, 10), num_classes=10)).engine).__name__
        'Auto'
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def look(self) -> None:
        """Looks where a stack may pay."""
        self._said.clear()
        self.cohort.prepare(why_not_worth)

    def tell(self, name: str, why: str) -> None:
        """Says that clients of an architecture are stacked no more; what came before is in the first line."""
        if self._said:
            self._said.add("Loop")
            rank_zero_info(f"engine: Loop for {name} from now on, since {why}.")

    def _answers(self, verb: str, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        if verb == "train":
            return self._train(messages, timeout)
        if self.cohort.stacks(verb):
            return self._other(verb, messages, timeout)
        return Loop._answers(self, verb, messages, timeout)

    def _other(self, verb: str, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        """Lets clients that would train in a stack do other work in one, too, once training has shown that."""
        waiting, cohort = dict(messages), self.cohort
        some = [
            clients
            for (kind, _), clients in _alike(messages, self.host.kind_of).items()
            if len(clients) >= FEWEST and ("train", kind) in cohort.shown and kind not in cohort.not_stacked
        ]
        stacked = {c: waiting.pop(c) for clients in some for c in clients}
        yield from Loop._answers(self, verb, waiting, timeout)
        yield from cohort.answer(verb, stacked, timeout)

    def _train(self, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        waiting, cohort = dict(messages), self.cohort
        groups = _alike(messages, self.host.kind_of)
        some = [
            clients
            for (kind, steps), clients in groups.items()
            if steps and len(clients) >= FEWEST and kind not in cohort.not_stacked
        ]
        shown = {kind for verb, kind in cohort.shown if verb == "train"}
        for kind in sorted({self.host.kind_of(group[0]) for group in some} - shown):
            for client in [c for c in messages if self.host.kind_of(c) == kind]:
                yield self._first(client, waiting.pop(client), timeout)
                if ("train", kind) in cohort.shown:
                    break
        together = [g for g in some if self.host.kind_of(g[0]) not in cohort.not_stacked]
        self._say(groups, together)
        stacked = {c: waiting.pop(c) for group in together for c in group if c in waiting}
        yield from Loop._answers(self, "train", waiting, timeout)
        yield from cohort.answer("train", stacked, timeout)

    def _first(self, client: int, message: Message, timeout: float | None) -> Reply:
        """Trains a client by itself, and counts what a step takes."""
        with FlopCount() as count:
            reply = self.cohort.alone("train", client, message, timeout)
        if reply.error:  # perhaps of the counting
            reply = self.cohort.alone("train", client, message, timeout)
        kind = self.host.kind_of(client)
        if ("train", kind) in self.cohort.shown and kind not in self.cohort.not_stacked:
            why = too_much(self.host.slots[kind], count.total / message.config["steps"])
            if why is not None:
                self.cohort.leave(kind, why)
        return reply

    def _say(self, groups: Mapping[tuple[int, int], list[int]], together: list[list[int]]) -> None:
        """Says once in a fit that clients are stacked, and once that a round's are not."""
        slots, kind_of = self.host.slots, self.host.kind_of
        if together:
            shared = {kind_of(group[0]): 0 for group in together}
            for group in together:
                shared[kind_of(group[0])] += len(group)
            each = [
                f"{clients} clients a round share {name(slots[kind])} of {size(slots[kind]):,} weights"
                for kind, clients in shared.items()
            ]
            others = {kind for kind, _ in groups} - shared.keys()
            left = [f"; {name(slots[k])} by Loop, since {self._why(k, groups)}" for k in sorted(others)]
            self._once("Stacked", " and ".join(each) + "".join(left))
        elif groups:
            kind, _ = max(groups, key=lambda alike: len(groups[alike]))
            self._once("Loop", self._why(kind, groups))

    def _why(self, kind: int, groups: Mapping[tuple[int, int], list[int]]) -> str:
        """Returns why clients of an architecture are not stacked in this round."""
        most = max(len(clients) for (other, _), clients in groups.items() if other == kind)
        whole = sum(len(clients) for (other, _), clients in groups.items() if other == kind)
        few = f"{most} of a round's clients share {name(self.host.slots[kind])} and the number of steps, and {FEWEST} or more pay"
        if most < FEWEST <= whole:
            few += f" (with LocalTraining(steps=...) all {whole} would)"
        return self.cohort.not_stacked.get(kind, few)

    def _once(self, engine: str, why: str) -> None:
        if engine not in self._said:
            self._said.add(engine)
            rank_zero_info(f"engine: {engine}, since {why}.")


def _alike(
    messages: Mapping[int, Message], kind_of: Callable[[int], int]
) -> dict[tuple[int, int], list[int]]:
    """Groups clients by their architecture and their number of steps."""
    found: dict[tuple[int, int], list[int]] = {}
    for client, message in messages.items():
        found.setdefault((kind_of(client), int(message.config.get("steps", 0))), []).append(client)
    return found
