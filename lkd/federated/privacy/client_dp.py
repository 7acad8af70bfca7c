"""Settings of client-level differential privacy, and what a client does for it."""

import importlib.util
import math

from lkd.checks import expect
from lkd.federated.privacy.clipping import clipped
from lkd.federated.protocol.messages import RefusalError, Reply


class ClientDP:
    """Client-level differential privacy of federated averaging (DP-FedAvg).

    McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018, arXiv:1710.06963,
    Algorithm 1 with the fixed-denominator estimator and flat clipping. Each client's change of the weights is
    clipped to the length `clip`, at the client and again at the server. The mean is the sum of what arrived,
    divided by the number of clients that a round is *expected* to have, plus Gaussian noise of deviation
    `noise_multiplier * clip / expected` for each number. Clients count alike, whatever their samples; one
    that fails counts as zero.

    What the noise is worth, epsilon at `delta`, is found by Google's dp-accounting from how clients are drawn
    (`PoissonSampler`, `UniformSampler`, all, or the same ones), logged in every round as `privacy/epsilon`,
    and part of every checkpoint. docs/privacy.md says what it protects and what not.

    Args:
        clip: Length that a client's change may have, over all weights that travel.
        noise_multiplier: Deviation of the noise on the sum, in units of `clip`. 0 is no noise, and no privacy.
        delta: Chance with which the guarantee may fail; below one over the number of clients.
        max_epsilon: The run ends before the round that would exceed it. Default: no bound.
        log_clients: Whether what clients log in training (losses) is averaged and logged all the same. It is
            not protected. Default: it does not leave the clients.
        secret: Whether the seed of the noise, 128 bits, is drawn from the operating system when the run begins;
            who is drawn then follows from it, too. It is then in checkpoints alone. Default: it follows from the run's seed, so that a run can be repeated;
            whoever knows that seed can take the noise away again.

    Raises:
        ValueError: For numbers out of their ranges, or noise for an infinite `clip`.

    Example:
        >>> ClientDP(clip=1.0, noise_multiplier=1.1, delta=1e-5, max_epsilon=8.0)
        ClientDP(clip=1.0, noise_multiplier=1.1, delta=1e-05, max_epsilon=8.0, log_clients=False, secret=False)
    """

    def __init__(
        self,
        clip: float,
        noise_multiplier: float,
        delta: float,
        max_epsilon: float | None = None,
        log_clients: bool = False,
        secret: bool = False,
    ) -> None:
        expect(clip=clip, gt=0, why="it is the length of a change")
        expect(noise_multiplier=noise_multiplier, ge=0, lt=math.inf)
        expect(delta=delta, gt=0, lt=1, why="it is a chance")
        expect(max_epsilon=max_epsilon, gt=0, none="no bound")
        if math.isinf(clip) and noise_multiplier:
            raise ValueError(
                f"clip=inf with noise_multiplier={noise_multiplier} would need infinite noise: give a finite length, such as 1."
            )
        self.clip, self.noise_multiplier, self.delta = clip, noise_multiplier, delta
        self.max_epsilon, self.log_clients, self.secret = max_epsilon, log_clients, secret

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in vars(self).items())})"

    @property
    def mechanism(self) -> str:
        """What must stay the same in a resumed run, in words."""
        return f"{type(self).__name__}(clip={self.clip}, noise_multiplier={self.noise_multiplier}, delta={self.delta}, secret={self.secret})"

    def limit(self, reply: Reply) -> None:
        """Clips the change in the reply of a client that has trained, and removes what is not protected.

        Args:
            reply: The reply.

        Raises:
            RefusalError: If it holds more than one change of the weights.
        """
        more = [name for name, group in reply.tensors.items() if name != "delta" and group]
        if more or reply.knowledge:
            raise RefusalError(
                f"privacy={type(self).__name__} protects the change of the weights alone, and this client would also send "
                f"{', '.join(repr(name) for name in [*more, *reply.knowledge][:3])}: use FedAvg or FedProx, without batch statistics."
            )
        if "delta" in reply.tensors:
            reply.tensors["delta"] = clipped(reply.tensors["delta"], self.clip)
        self.strip(reply)

    def strip(self, reply: Reply) -> None:
        """Removes from a reply what is not protected: numbers that follow from the data."""
        reply.metrics = {name: number for name, number in reply.metrics.items() if name == "steps"}
        if not self.log_clients:
            reply.logs = {}


def require_accountant() -> None:
    """Refuses to account without a library for it.

    Raises:
        ModuleNotFoundError: If dp-accounting is not installed.
    """
    if importlib.util.find_spec("dp_accounting") is None:
        raise ModuleNotFoundError(
            'privacy=ClientDP(...) needs dp-accounting, which says what the noise is worth: pip install "lightning-kd[privacy]".'
        )
