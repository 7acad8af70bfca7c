"""One stack: the messages to several clients become one piece of work, and that their replies."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lkd.federated.client.batches import passes
from lkd.federated.client.checks import check_lists
from lkd.federated.client.contents import SMALL
from lkd.federated.client.context import SCRATCH
from lkd.federated.client.host import Host
from lkd.federated.client.stacked.context import StackedContext
from lkd.federated.client.stacked.member import Member, sent_to, states_of, tensors_of
from lkd.federated.client.stacked.replies import StackResult, deal
from lkd.federated.client.stacked.rows import RowPasses
from lkd.federated.client.stacked.training import StackedLoop
from lkd.federated.client.traces import switches
from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.seeds import derive, seed_everything
from lkd.unchanged import attributes_back


class ChangedError(Exception):
    """A module that keeps something of a step, which then belongs to several clients."""


def answer(host: Host, verb: str, members: Sequence[Member]) -> list[Reply]:
    """Lets several clients work together, and stores what each keeps.

    Args:
        host: The client side of the federation.
        verb: `"train"`, `"gradient"`, or a `stackable` method of the algorithm.
        members: The clients: of one architecture, with equal numbers of steps and equal groups of tensors.

    Raises:
        ChangedError: If the module keeps something of the work; nothing is stored then.
    """
    slot = host.slots[host.kind_of(members[0].data.id)]
    with switches(), host.verbs.apart(slot.module) as traces:
        before, back = traces.contents(), attributes_back(slot.module, SMALL)
        try:
            stack = Stack(host, members)
            result = getattr(stack, verb)() if verb in ("train", "gradient") else stack.call(verb)
            if changed := traces.changed(before, but=(SCRATCH,)):
                raise ChangedError(f"training changes {', '.join(name.lstrip('.') for name in changed[:3])}")
        except Exception:
            back()  # a tensor of the stack that the module kept would be there when a client works alone
            raise
        return deal(host, members, stack.context, result)


class Stack:
    """Several clients of one architecture, loaded into its slot; its methods are those of `Verbs`.

    Args:
        host: The client side of the federation.
        members: The clients.
    """

    def __init__(self, host: Host, members: Sequence[Member]) -> None:
        self.algorithm, self.members, first = host.algorithm, members, members[0]
        slot = host.slots[host.kind_of(first.data.id)]
        worker, device, config = slot.worker, slot.module.device, first.message.config
        worker.load(first.message.tensors["x"], first.message.tensors.get("buffers", {}), None)
        seed_everything(derive(host.seed, config["round"], first.data.id, len(members)), device)
        slot.local_optimizer.enter(config["round"], config.get("steps", 0), {})
        ordered = [functools.partial(m.data.ordered_batches, "train") for m in members]
        self.loop = StackedLoop(slot, tensors_of(members, worker), ordered)
        sent = sent_to(members, worker)
        self.context = StackedContext(
            [member.view(device) for member in members],
            self.loop,
            sent.pop("x"),
            sent,
            states_of(members, worker),
            config,
        )
        vars(slot.module)[SCRATCH] = self.context.scratch

    def train(self) -> StackResult:
        """Trains locally."""
        algorithm, context = self.algorithm, self.context
        self.loop.local_optimizer.begin_client()
        algorithm.begin(context)
        self.loop.train(self._batches(), context, algorithm.correction())
        with torch.no_grad():
            who = type(algorithm).__name__
            what = f"what {who}.finish returns"
            extra = check_lists(algorithm.finish(context), what, context.params, True)
            check_lists(context.state, f"context.state of {who}", context.params, False)
            delta = [p - start for p, start in zip(context.params, context.x, strict=True)]
        context.deal()
        metrics = {"steps": float(context.steps), **context.reply_metrics}
        return StackResult({"delta": delta, **extra}, metrics, keeps=True, trained=True)

    def _batches(self) -> Sequence[Iterator[tuple[bool, Any]]] | RowPasses:
        if not self.loop.slot.loop.moves:
            rows = RowPasses([m.data for m in self.members], [m.seed for m in self.members])
            if rows.usable:
                return rows
        return [passes(m.data, m.seed) for m in self.members]

    def call(self, method: str) -> StackResult:
        """Runs a method of the algorithm's client half."""
        getattr(self.algorithm, method)(self.context)
        self.context.deal()
        return StackResult({}, self.context.reply_metrics, keeps=self.context.save_state)

    def gradient(self) -> StackResult:
        """Computes the gradient of each client's whole training loss at x."""
        gradient = self.loop.full_gradient((), self.context.x)
        if self.algorithm.keeps_full_gradient:
            self.context.state["gradient"] = gradient
        return StackResult({"gradient": gradient}, {}, keeps=self.algorithm.keeps_full_gradient, moves=False)
