"""A cohort's work, stacked where that is possible, and client by client where it is not."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lkd.federated.client.host import Host
from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.single_samples import normalizes
from lkd.federated.client.stacked.member import Member
from lkd.federated.client.stacked.stack import ChangedError, answer
from lkd.federated.client.stacked.trial import StackTrial
from lkd.federated.client.verbs import ATTRIBUTES, OWN, VERBS
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.seeds import derive_each

TRIED = "tried"
"""Stands among the verbs of an architecture whose step was tried in a stack."""


class StackedCohort:
    """Answers for the clients of a process, letting those that are alike work together.

    Alike are clients of one architecture that make the same number of steps, and were sent and keep the same
    groups of tensors. At every verb the first client of an architecture works by itself: it shows whether the
    module changes its own attributes, which a stack cannot keep apart. So do clients whose stack fails.

    Args:
        host: The client side of the federation.
        most: Most clients of one stack.
        tell: Says that an architecture is not stacked, given its name and why.
    """

    def __init__(self, host: Host, most: int, tell: Callable[[str, str], None]) -> None:
        self.host, self.most, self._tell = host, most, tell
        self.not_stacked: dict[int, str] = {}  # why, by architecture
        self.shown: set[tuple[str, int]] = (
            set()
        )  # verbs, and architectures of which a client did so by itself
        self._found: dict[int, str] = {}  # the part of `not_stacked` that only work has shown
        self._normalizes: list[bool] = []  # whether a batch of one sample may be too few

    def prepare(self, why_not: Callable[[ModelSlot, Any], str | None]) -> None:
        """Learns which architectures can be stacked.

        Args:
            why_not: Gives why an architecture, under an algorithm, is not to be stacked; None if it is.
        """
        self.shown.clear()
        self._found.clear()
        self._normalizes = [normalizes(slot.module) for slot in self.host.slots]
        found = {kind: why_not(slot, self.host.algorithm) for kind, slot in enumerate(self.host.slots)}
        self.not_stacked = {kind: why for kind, why in found.items() if why is not None}

    def state_of(self, kind: int) -> dict[str, Any]:
        """Returns what work has shown of an architecture, so that a resumed run stacks the same clients."""
        return {
            "verbs": sorted(v for v, shown in self.shown if shown == kind),
            "why_not": self._found.get(kind),
        }

    def set_state_of(self, kind: int, state: Mapping[str, Any]) -> None:
        """Restores what `state_of` gave."""
        self.shown |= {(verb, kind) for verb in state["verbs"]}
        if state["why_not"] is not None:
            self._found[kind] = state["why_not"]
            self.not_stacked.setdefault(kind, state["why_not"])

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
            if kind in self.not_stacked or (verb, kind) not in self.shown:
                yield self.alone(verb, client, waiting.pop(client), timeout)
        data: dict[int, ClientData] = {}
        for client, message in list(waiting.items()):
            try:
                data[client] = self.host.data(client, message)
            except Exception:  # the loop makes a reply of it
                yield self.alone(verb, client, waiting.pop(client), timeout)
        for stack in self._stacks(waiting, data):
            alone = [m for m in stack if not self._fits(verb, m)] if len(stack) > 1 else stack
            together = [m for m in stack if m not in alone]
            for member in alone:
                yield self.alone(verb, member.data.id, member.message, timeout)
            yield from self._together(verb, together, timeout)

    def alone(self, verb: str, client: int, message: Message, timeout: float | None) -> Reply:
        """Lets a client work by itself; the first one of an architecture shows whether others can be stacked."""
        reply = self.host.answer(verb, client, message, timeout)
        kind, idle = self.host.kind_of(client), verb == "train" and not message.config.get("steps", 0)
        if (verb, kind) not in self.shown and not reply.error and not idle:
            self.shown.add((verb, kind))
            kept = self.host.store.get(client)
            beside = [*kept.get(ATTRIBUTES, {}), *self.host.slots[kind].worker.strays(kept.get(OWN, {}))]
            changed = self.host.verbs.changed.get(kind, [])
            if kind in self.not_stacked:
                return reply
            if changed:
                self.leave(kind, f"training changes {', '.join(name.lstrip('.') for name in changed[:3])}")
            elif beside:
                self.leave(kind, f"a client keeps {', '.join(beside[:3])} beside what it trains")
        return reply

    def _undo(self, members: Sequence[Member]) -> None:
        """Restores what the clients of a stack kept before it, if it has failed after that was stored."""
        for member in members:
            self.host.undo(member.data.id)

    def _try(self, verb: str, kind: int, member: Member) -> None:
        """Lets a client make a step by itself and in a stack, before the first stack of an architecture."""
        try:
            why = StackTrial(self.host, member, begins=verb == "train").why_not()
        except Exception:  # the client is at fault, which its reply tells
            return
        self.shown.add((TRIED, kind))
        if why is not None:
            self.leave(kind, why)

    def leave(self, kind: int, why: str) -> None:
        """Lets the clients of an architecture work one after the other from now on."""
        self._found[kind] = self.not_stacked[kind] = why
        self._tell(type(self.host.slots[kind].module).__name__, why)

    def _stacks(
        self, messages: Mapping[int, Message], data: Mapping[int, ClientData]
    ) -> Iterator[list[Member]]:
        alike: dict[Any, list[Member]] = {}
        rounds = np.fromiter((message.config["round"] for message in messages.values()), dtype=np.int64)
        seeds = derive_each(self.host.seed, rounds, np.fromiter(messages, dtype=np.int64)) if messages else []
        for (client, message), seed in zip(messages.items(), seeds, strict=True):
            kind, steps = self.host.kind_of(client), message.config.get("steps", 0)
            member = Member(data[client], message, self.host.store.get(client), seed)
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
        if verb in ("train", "gradient") and (TRIED, kind) not in self.shown:
            self._try(verb, kind, members[0])
            if kind in self.not_stacked:
                yield from (self.alone(verb, m.data.id, m.message, timeout) for m in members)
                return
        started = time.perf_counter()
        for member in members:
            self.host.remember(member.data.id)
        try:
            with self.host.clock.running(None if timeout is None else timeout * len(members)):
                replies = answer(self.host, verb, members)
                for member, reply in zip(members, replies, strict=True):
                    self.host.encoded(verb, member.data.id, reply)
        except ChangedError as error:  # what was computed may be of several clients: it is left
            self.leave(kind, str(error))
            self._undo(members)
            for member in members:
                yield self.alone(verb, member.data.id, member.message, timeout)
            return
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            self._undo(members)
            replies = [self.alone(verb, m.data.id, m.message, timeout) for m in members]
            if not any(reply.error for reply in replies):  # else one of them is at fault, and not the stack
                self.leave(kind, f"a stack of {len(members)} of them fails ({why})")
            yield from replies
            return
        seconds = (time.perf_counter() - started) / len(members)
        for member, reply in zip(members, replies, strict=True):
            reply.client, reply.round = member.data.id, member.message.config["round"]
            reply.seconds = seconds
            yield reply
