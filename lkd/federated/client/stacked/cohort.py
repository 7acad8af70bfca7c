"""A cohort's work, stacked where that is possible, and client by client where it is not."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.client.host import Host
from lkd.federated.client.single_samples import normalizes
from lkd.federated.client.stacked.member import Member
from lkd.federated.client.stacked.reasons import why_not
from lkd.federated.client.stacked.stack import ChangedError, answer
from lkd.federated.client.verbs import ATTRIBUTES, OWN, VERBS
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.seeds import derive


class StackedCohort:
    """Answers for the clients of a process, letting those that are alike work together.

    Alike are clients of one architecture that make the same number of steps, and were sent and keep the same
    groups of tensors. At every verb the first client of an architecture works by itself: it shows whether the
    module changes its own attributes, which a stack cannot keep apart. So do clients whose stack fails.

    Args:
        host: The client side of the federation.
        most: Most clients of one stack.
    """

    def __init__(self, host: Host, most: int) -> None:
        self.host, self.most = host, most
        self.not_stacked: dict[int, str] = {}  # why, by architecture
        self._shown: set[tuple[str, int]] = (
            set()
        )  # verbs, and architectures of which a client did so by itself
        self._rehearse: set[tuple[str, int]] = (
            set()
        )  # those of an interrupted run: they are shown, and done again
        self._normalizes: list[bool] = []  # whether a batch of one sample may be too few

    def prepare(self) -> None:
        """Learns which architectures can be stacked.

        Raises:
            ValueError: If none can.
        """
        self._shown.clear()
        self._rehearse.clear()
        self._normalizes = [normalizes(slot.module) for slot in self.host.slots]
        found = {kind: why_not(slot, self.host.algorithm) for kind, slot in enumerate(self.host.slots)}
        self.not_stacked = {kind: why for kind, why in found.items() if why is not None}
        some = self.not_stacked if len(self.not_stacked) < len(found) else {}
        for kind, why in some.items():
            self._leave(kind, why)
        if len(self.not_stacked) == len(found):
            raise ValueError(
                f"engine=Stacked: {self.not_stacked[0]}; take engine=Loop(), which trains one client after the other."
            )

    def state_of(self, kind: int) -> dict[str, Any]:
        """Returns, of an architecture, the verbs that its clients do together, and why they do so no more."""
        verbs = {verb for verb, shown in self._shown | self._rehearse if shown == kind}
        return {"verbs": sorted(verbs), "why": self.not_stacked.get(kind)}

    def restore(self, kind: int, state: dict[str, Any]) -> None:
        """Goes on as an interrupted run would have, so that a resumed one has its bits."""
        self._rehearse |= {(verb, kind) for verb in state["verbs"]}
        if state["why"] is not None and kind not in self.not_stacked:
            self._leave(kind, state["why"])

    def stacks(self, verb: str) -> bool:
        """Tells whether a verb is one that clients of a stack do together."""
        if verb in VERBS:
            return verb in ("train", "gradient")
        return bool(getattr(getattr(self.host.algorithm, verb, None), "stacks", False))

    def answer(self, verb: str, messages: Mapping[int, Message], timeout: float | None) -> Iterator[Reply]:
        """Lets the clients work, and yields their replies.

        Args:
            verb: A verb that `stacks`.
            messages: Message to each client, by its id.
            timeout: Seconds that a client may take; a stack of K may take K times as long.
        """
        waiting = dict(messages)
        for client in list(waiting):
            kind = self.host.kind_of(client)
            if kind in self.not_stacked or (verb, kind) not in self._shown:
                reply = self._alone(verb, client, waiting[client], timeout)
                if (
                    (verb, kind) in self._rehearse
                    and (verb, kind) in self._shown
                    and kind not in self.not_stacked
                ):
                    self.host.undo(client)  # it was in a stack, whose sums are rounded in another way
                    continue
                del waiting[client]
                yield reply
        data: dict[int, ClientData] = {}
        for client, message in list(waiting.items()):
            try:
                data[client] = self.host.data(client, message)
            except Exception:  # the loop makes a reply of it
                yield self._alone(verb, client, waiting.pop(client), timeout)
        for stack in self._stacks(waiting, data):
            alone = [m for m in stack if not self._fits(verb, m)] if len(stack) > 1 else stack
            together = [m for m in stack if m not in alone]
            for member in alone:
                yield self._alone(verb, member.data.id, member.message, timeout)
            yield from self._together(verb, together, timeout)

    def _alone(self, verb: str, client: int, message: Message, timeout: float | None) -> Reply:
        reply = self.host.answer(verb, client, message, timeout)
        kind, idle = self.host.kind_of(client), verb == "train" and not message.config.get("steps", 0)
        if (verb, kind) not in self._shown and not reply.error and not idle:
            self._shown.add((verb, kind))
            kept = self.host.store.get(client)
            beside = [*kept.get(ATTRIBUTES, {}), *self.host.slots[kind].worker.strays(kept.get(OWN, {}))]
            changed = self.host.verbs.changed.get(kind, [])
            if kind in self.not_stacked:
                pass
            elif changed:
                self._leave(kind, f"training changes {', '.join(changed[:3])}")
            elif beside:
                self._leave(kind, f"a client keeps {', '.join(beside[:3])} beside what it trains")
        return reply

    def _leave(self, kind: int, why: str) -> None:
        self.not_stacked[kind] = why
        name = type(self.host.slots[kind].module).__name__
        rank_zero_warn(f"engine=Stacked: clients of {name} are trained one after the other, since {why}.")

    def _stacks(
        self, messages: Mapping[int, Message], data: Mapping[int, ClientData]
    ) -> Iterator[list[Member]]:
        alike: dict[Any, list[Member]] = {}
        for client, message in messages.items():
            kind, steps = self.host.kind_of(client), message.config.get("steps", 0)
            member = Member(
                data[client],
                message,
                self.host.store.get(client),
                derive(self.host.seed, message.config["round"], client),
            )
            public = id(getattr(member.data, "public", None))
            alike.setdefault((kind, steps, public, *member.kinds), []).append(member)
        for members in alike.values():
            for start in range(0, len(members), self.most):
                yield members[start : start + self.most]

    def _fits(self, verb: str, member: Member) -> bool:
        """Whether a client has nothing that a stack cannot have."""
        size = getattr(member.data, "smallest_batch", lambda ordered: 2)
        kind = self.host.kind_of(member.data.id)
        trains = verb in ("train", "gradient")
        return (
            (verb != "train" or member.message.config.get("steps", 0) > 0)
            and not member.kept.get(ATTRIBUTES)  # of a run that began with another engine
            and not self.host.slots[kind].worker.strays(member.kept.get(OWN, {}))
            and not (trains and self._normalizes[kind] and size(verb == "gradient") == 1)
        )

    def _together(self, verb: str, members: Sequence[Member], timeout: float | None) -> Iterator[Reply]:
        if not members:
            return
        kind = self.host.kind_of(members[0].data.id)
        started = time.perf_counter()
        try:
            with self.host.clock.running(None if timeout is None else timeout * len(members)):
                replies = answer(self.host, verb, members)
        except ChangedError as error:  # what was computed may be of several clients: it is left
            self._leave(kind, str(error))
            for member in members:
                yield self._alone(verb, member.data.id, member.message, timeout)
            return
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            replies = [self._alone(verb, m.data.id, m.message, timeout) for m in members]
            if not any(reply.error for reply in replies):  # else one of them is at fault, and not the stack
                self._leave(kind, f"a stack of {len(members)} of them fails ({why})")
            yield from replies
            return
        seconds = (time.perf_counter() - started) / len(members)
        for member, reply in zip(members, replies, strict=True):
            reply.client, reply.round = member.data.id, member.message.config["round"]
            reply.seconds = seconds
            yield reply
