"""A round whose mean is private: changes of a limited length, a fixed denominator, and noise."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.privacy.clipping import factor
from lkd.federated.protocol.client_data import ClientInfo
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.tensors import Groups, Tensors, as_real, as_type
from lkd.federated.server.aggregation import ClientReply
from lkd.federated.server.architectures import Architectures
from lkd.federated.server.calls import Exchange
from lkd.federated.server.round import ServerRound
from lkd.federated.server.weighted_sum import Averaged, RunningSum


@dataclass(frozen=True)
class Release:
    """What a round lets out of its clients' changes.

    Attributes:
        privacy: Length of a change, and the noise.
        expected: Number of clients that the round is expected to have, by which the sum is divided.
        seed: Integers of 0 or more that seed the noise, of this round alone.
    """

    privacy: ClientDP
    expected: float
    seed: tuple[int, ...]

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on each number of the mean."""
        noise = self.privacy.noise_multiplier
        return noise * self.privacy.clip / self.expected if noise else 0.0

    def noise(self, like: Tensors) -> Tensors:
        """Draws the noise in double precision, the same on every rank, in the order of the names.

        NumPy's Philox takes a key of 128 bits. Torch's generator on the CPU looks at 32 bits of a seed alone, so that
        whoever sees the weights could try them all, and rounds would soon have the same noise.
        """
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(self.seed)))
        found: Tensors = {}
        for name in sorted(like):
            shape = as_real(like[name]).shape
            drawn = torch.from_numpy(generator.standard_normal(shape.numel()))
            found[name] = drawn.mul_(self.deviation).reshape(shape)
        return found

    def on(self, exchange: Exchange) -> Exchange:
        """Wraps an exchange such that replies to `"train"` hold no number that is not protected."""

        def bare(verb: str, messages: dict[int, Message]) -> Iterator[Reply]:
            for reply in exchange(verb, messages):
                if verb == "train":
                    self.privacy.strip(reply)
                yield reply

        return bare


class PrivateRound(ServerRound):
    """Round of `ClientDP`: its `mean` is `(sum_i clip(delta_i) + noise) / expected`.

    Clients that fail, or have not been drawn, count as zero. A round for which nobody was drawn is noise
    alone: leaving it out would tell that nobody was.

    There are no outliers, since all changes have a limited length, and a median over clients would let one of
    them decide about another.

    Args:
        release: What is let out.
        index: Number of the round, from 0.
        cohort: All clients that work in this round, over all ranks.
        population: Number of all registered clients.
        architectures: The architecture, with the server's weights.
        exchange: The engine's exchange.
        *args: Further arguments of `ServerRound`.
        **kwargs: Further arguments of `ServerRound`.
    """

    def __init__(
        self,
        release: Release,
        index: int,
        cohort: Sequence[ClientInfo],
        population: int,
        architectures: Architectures,
        exchange: Exchange,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        more = {**kwargs, "outlier_factor": None}
        super().__init__(index, cohort, population, architectures, release.on(exchange), *args, **more)
        self._release, self._released = release, False
        sums: dict[str, RunningSum] | None = kwargs.get("sums")
        self._kept_sums = {} if sums is None else sums

    def mean(
        self,
        replies: Iterable[Reply],
        *groups: str,
        metrics: Sequence[str] = (),
        weight: Callable[[Reply], float] | None = None,
    ) -> Groups:
        """Releases the private mean of the changes, once a round.

        Args:
            replies: The replies.
            *groups: None, or `"delta"`.
            metrics: None.
            weight: None: clients count alike.

        Raises:
            TooFewClientsError: If clients were asked and fewer than `min_clients` replied.
            ValueError: If anything else is asked for.
        """
        if groups not in ((), ("delta",)) or metrics or weight is not None or self._released:
            self._refuse("one mean of the changes, unweighted")
        self._released = True
        total = self._kept_sums.get("private")
        if total is None:
            total = self._kept_sums["private"] = RunningSum({n: _double(x) for n, x in self.x.items()})
        total.reset()
        for reply in replies:
            delta = reply.tensors["delta"]
            theirs = {at: own for own, at in self._layouts[self.kind_of(reply.client)].weights.items()}
            by = factor(delta, self._release.privacy.clip)  # a client is not trusted to have clipped
            total.add({name: delta[theirs[name]] for name in self.x}, by)
        if self._ranks.world_size > 1:
            total.gather(self._ranks.gather_tensors, self._ranks.device)
        if self.cohort:
            self._enough(total.count)
        return Averaged({"delta": self._noised(total.sum())})

    def _noised(self, sums: Tensors) -> Tensors:
        """Divides the sums, which are in double precision, and adds noise before anything is rounded."""
        noise = self._release.noise(self.x) if self._release.deviation else {}
        found: Tensors = {}
        for name, x in self.x.items():
            value = as_real(sums[name])
            # a tensor, since CUDA multiplies by the inverse of a number
            value = value / torch.tensor(self._release.expected, dtype=value.dtype, device=value.device)
            if name in noise:
                value = value + noise[name].to(value.device)
            found[name] = as_type(value, x.dtype)
        return found

    def sum(self, replies: Iterable[Reply], *groups: str, weight: Callable[[Reply], float]) -> NoReturn:
        """Refuses: a sum with weights has no limited sensitivity."""
        self._refuse("one mean of the changes, and no sum")

    def gather(self, replies: Iterable[Reply]) -> list[ClientReply]:
        """Refuses: what each client says is not to be known."""
        self._refuse("one mean of the changes, and not what each client says")

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"privacy={type(self._release.privacy).__name__} lets out {what}: use FedAvg or FedProx with it."
        )


def _double(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float64))
