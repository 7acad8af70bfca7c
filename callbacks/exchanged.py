"""What travels between a federation's server and its clients, by kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lkd.federated import Federation
from lkd.federated.protocol.messages import TELL_SIZES, Message, Reply


class Exchanged:
    """Counter of the values in messages: weights, knowledge, and how many of them belong to a public sample.

    A client that goes through public samples and sends something has told the server of those samples. A
    client that is sent something and then goes through public samples, once or more, has been sent it for
    those. If it both receives and sends, both count for the samples that it looked at, however often. The
    exception is a message with fewer values than samples, or with flags alone: that is a question. So the
    values of a public sample are counted on the tensors that the engine passes on, whatever the algorithm,
    and not assumed.

    Attributes:
        counts: `weights_down`, `weights_up`, `knowledge_down` and `knowledge_up` (values); `told`,
            `told_samples` and `told_times` (values of public samples, number of samples, and how many times a
            client told some); `sent`, `sent_samples` and `sent_times` (the same of what clients were sent);
            `turns` (one for each client and round).
    """

    NAMES = (
        "weights_down",
        "weights_up",
        "knowledge_down",
        "knowledge_up",
        "told",
        "told_samples",
        "told_times",
        "sent",
        "sent_samples",
        "sent_times",
        "turns",
    )

    def __init__(self) -> None:
        self.counts = dict.fromkeys(self.NAMES, 0.0)
        self._passes: list[list[int]] = []  # sample numbers of each pass of the client at work
        self._restore: list[tuple[Any, str]] = []

    def watch(self, federation: Federation, public: Any) -> None:
        """Starts to count.

        Args:
            federation: The federation whose engine passes the messages on.
            public: The public data of its clients, or None.

        Raises:
            RuntimeError: If clients work in other processes.
        """
        federation.engine.require_shared_memory("a count of public samples")
        inner = federation.engine.exchange

        def exchange(
            verb: str, messages: Mapping[int, Message], timeout: float | None = None
        ) -> Iterator[Reply]:
            replies = iter(inner(verb, messages, timeout))
            while True:
                self._passes = []  # the client works inside `next`
                reply = next(replies, None)
                if reply is None:
                    return
                if verb not in ("evaluate", TELL_SIZES):  # sizes are no knowledge
                    self._add(messages[reply.client], reply)
                yield reply

        self._replace(federation.engine, "exchange", exchange)
        for name in (
            "batches",
            "whole",
            "labeled",
        ):  # ways to go through public samples; the second need not be there
            if hasattr(public, name):
                self._replace(public, name, self._counting(getattr(public, name)))

    def stop(self) -> None:
        """Stops counting, and puts the original methods back."""
        for owner, name in self._restore:
            vars(owner).pop(name, None)
        self._restore = []

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        setattr(owner, name, value)
        self._restore.append((owner, name))

    def _counting(self, method: Any) -> Any:
        def counted(rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterator[Any]:
            return follow(iter(method(rows, batch_size)), list(rows), batch_size, self._passes)

        def follow(
            batches: Iterator[Any], rows: list[int], batch_size: int, passes: list[list[int]]
        ) -> Iterator[Any]:
            seen: list[int] = []
            passes.append(seen)
            for batch in batches:  # counted as they come, since a client may stop early
                seen += rows[len(seen) : len(seen) + batch_size]
                yield batch

        return counted

    def _add(self, message: Message, reply: Reply) -> None:
        down, up = values(message.knowledge), values(reply.knowledge)
        found = {
            "weights_down": sum(values(group) for group in message.tensors.values()),
            "weights_up": sum(values(group) for group in reply.tensors.values()),
            "knowledge_down": down,
            "knowledge_up": up,
        }
        if any(self._passes):
            sizes, looked_at = [len(p) for p in self._passes], len({row for p in self._passes for row in p})
            if up:
                found |= {"told": up, "told_samples": looked_at if down else sum(sizes), "told_times": 1}
            flags = not any(t.is_floating_point() for t in message.knowledge.values())
            if (down >= looked_at and not flags) or (down and not up):
                found |= {"sent": down, "sent_samples": looked_at if up else max(sizes), "sent_times": 1}
        for name, amount in found.items():
            self.counts[name] += amount


def values(tensors: Mapping[str, Tensor]) -> int:
    """Returns how many numbers the tensors hold together.

    Example:
        >>> import torch
        >>> values({"logits": torch.zeros(5, 10)})
        50
    """
    return sum(tensor.numel() for tensor in tensors.values())


def weights_of_clients(federation: Federation, population: int) -> list[float]:
    """Returns how many values averaging would send for each client's model.

    Counted are trained parameters and the floating-point buffers that are saved.
    """
    sizes = []
    for model in federation.architectures.models:
        saved = model.state_dict().keys()
        trained = values({n: p for n, p in model.named_parameters() if p.requires_grad})
        floats = {n: b for n, b in model.named_buffers() if n in saved and b.is_floating_point()}
        sizes.append(float(trained + values(floats)))
    return [sizes[federation.architectures.kind_of(client)] for client in range(population)]
