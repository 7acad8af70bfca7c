"""The in-process engine: clients work one after the other on this process's worker."""

import time
from collections.abc import Iterator, Mapping

import torch

from lkd.federated.algorithms.base import Algorithm
from lkd.federated.client import Client, Part
from lkd.federated.client_run import ClientRun
from lkd.federated.given import check_lists
from lkd.federated.loop import LocalLoop
from lkd.federated.messages import Message, Reply
from lkd.federated.seeds import derive, seed_everything
from lkd.federated.store import ClientStore, as_lists, as_tensors
from lkd.federated.tensors import all_finite
from lkd.federated.work import passes
from lkd.federated.worker import Worker

OWN = "personal"
"""Group of a client's state that holds its personal layers; the others are its algorithm's."""


class LoopEngine:
    """Answers verbs for clients.

    Args:
        worker: The module.
        loop: How it is trained.
        algorithm: Its client half runs here.
        store: What clients keep.
        seed: With the round and the client, where all randomness of a client's work comes from.
    """

    def __init__(
        self, worker: Worker, loop: LocalLoop, algorithm: Algorithm, store: ClientStore, seed: int
    ) -> None:
        self.worker, self.loop, self.algorithm, self.store, self.seed = worker, loop, algorithm, store, seed

    def exchange(self, verb: str, messages: Mapping[Client, Message]) -> Iterator[Reply]:
        """Sends every client its message and yields the replies in the order of the clients.

        A client that fails yields a reply with an `error`, never an exception.

        Args:
            verb: `"train"`, `"gradient"` or `"evaluate"`.
            messages: What each is sent. Numbers: `round`; for training also `steps`.
        """
        for client, message in messages.items():
            started = time.perf_counter()
            try:
                reply = getattr(self, verb)(client, message)
            except Exception as error:
                if "Expected more than 1 value per channel" in str(error):
                    raise ValueError(
                        f"client {client.name} has a training batch of one sample, on which batch normalisation is not "
                        "defined: choose a batch_size that leaves no batch of one, a network with GroupNorm, or "
                        "drop_last in the data's loader."
                    ) from error
                reply = Reply(error=f"{type(error).__name__}: {error}".splitlines()[0], cause=error)
            reply.client, reply.seconds = client.id, time.perf_counter() - started
            yield reply

    def _enter(self, client: Client, message: Message) -> int:
        """The worker becomes this client; returns the seed of its work in this round."""
        own = self.store.get(client.id).get(OWN)
        self.worker.load(message.tensors["x"], message.tensors.get("buffers", {}), own)
        seed = derive(self.seed, int(message.numbers["round"]), client.id)
        seed_everything(seed, self.worker.module.device)
        return seed

    def train(self, client: Client, message: Message) -> Reply:
        """Local training; replies the change of the weights, the buffers, and what the algorithm adds."""
        seed = self._enter(client, message)
        names, device = self.worker.shared, self.worker.module.device
        kept = {k: g for k, g in self.store.get(client.id).items() if k != OWN}
        sent = {k: g for k, g in message.tensors.items() if k not in ("x", "buffers")}
        x = message.tensors["x"]
        local = ClientRun(
            self.loop,
            [x[name] for name in names],
            as_lists(sent, names, device),
            as_lists(kept, names, device, copy=True),
            message.numbers,
            int(message.numbers["steps"]),
            lambda: client.ordered_batches("train"),
        )
        self.loop.local.begin_client()
        self.algorithm.begin(local)
        self.loop.train(passes(client, seed), local, self.algorithm.correction())
        with torch.no_grad():
            who = type(self.algorithm).__name__
            extra = check_lists(
                self.algorithm.finish(local), f"what {who}.finish returns", local.params, True
            )
            check_lists(local.own, f"local.own of {who}", local.params, False)
            delta = [p.detach() - x for p, x in zip(local.params, local.x, strict=True)]
        groups = {"delta": delta, **extra}
        if not all_finite([tensor for group in (*groups.values(), *local.own.values()) for tensor in group]):
            raise FloatingPointError("the local model is not finite (NaN or infinite)")
        metrics = self.worker.log.compute()
        # kept only once everything above went well
        own = {**as_tensors(local.own, names), OWN: self.worker.take(self.worker.own)}
        self.store.put(client.id, own)
        return Reply(
            tensors={**as_tensors(groups, names), "buffers": self.worker.take(self.worker.buffers)},
            numbers={"steps": float(local.steps), **local.report},
            metrics=metrics,
        )

    def gradient(self, client: Client, message: Message) -> Reply:
        """The gradient of the client's whole loss at x."""
        self._enter(client, message)
        x = [message.tensors["x"][name] for name in self.worker.shared]
        gradient = self.loop.full_gradient(client.ordered_batches("train"), x)
        kept = self.store.get(client.id)
        if self.algorithm.keeps_gradient:
            self.store.put(
                client.id, {**kept, "gradient": dict(zip(self.worker.shared, gradient, strict=True))}
            )
        return Reply(tensors=as_tensors({"gradient": gradient}, self.worker.shared))

    def evaluate(self, client: Client, message: Message) -> Reply:
        """The module's own validation (or test) step on the client's own data, with its personal layers."""
        part: Part = "test" if message.numbers.get("test") else "val"
        self._enter(client, message)
        return Reply(metrics=self.loop.evaluate(client.ordered_batches(part), part))
