"""How much a client trains in a round."""

import math

import numpy as np

from lkd.checks import expect
from lkd.federated.protocol.description import LocalSettings
from lkd.federated.server.heterogeneity import Fate, epochs, steps

FINE = Fate()


class LocalTraining:
    """Local epochs or optimizer steps, the same for every client or drawn for each.

    Args:
        epochs: Passes over the client's data; two numbers draw it anew for every client and round, uniformly,
            both ends included, as in `E ~ U(2, 5)` of the FedNova paper. Default 1.
        steps: Optimizer steps instead; two numbers as above.
        accumulate_grad_batches: Batches whose gradients are averaged into one optimizer step; what is left at
            the end of an epoch makes a step too. Default 1.
        gradient_clip_val: Largest norm of a step's gradient, after the algorithm's correction. Default: none.

    Raises:
        ValueError: For numbers below 1, a range that goes down, or both of epochs and steps.

    Example:
        >>> LocalTraining(epochs=5).draw(batches=3, seed=0)
        15
    """

    def __init__(
        self,
        epochs: int | tuple[int, int] | None = None,
        steps: int | tuple[int, int] | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
    ) -> None:
        if epochs is not None and steps is not None:
            raise ValueError(f"epochs={epochs} and steps={steps}: give one of them.")
        name, amount = ("steps", steps) if steps is not None else ("epochs", 1 if epochs is None else epochs)
        low, high = (amount, amount) if isinstance(amount, int) else amount
        if low < 1 or high < low:
            raise ValueError(f"{name}={amount} must be 1 or more, or a range such as [2, 5].")
        expect(accumulate_grad_batches=accumulate_grad_batches, ge=1)
        expect(gradient_clip_val=gradient_clip_val, gt=0, none="no clipping")
        self.by_epochs, self.low, self.high = name == "epochs", low, high
        self.settings = LocalSettings(accumulate_grad_batches, gradient_clip_val, self.by_epochs, high)

    @property
    def accumulate(self) -> int:
        """Batches in an optimizer step."""
        return self.settings.accumulate

    def draw(self, batches: int, seed: int, fate: Fate = FINE) -> int:
        """Optimizer steps of a client.

        Args:
            batches: Batches in its epoch.
            seed: From which a range is drawn.
            fate: A straggler makes fewer: whole epochs, as in FedProx, or a share of the steps of a single one.
        """
        amount = self.low if self.low == self.high else self._random(seed)
        if not self.by_epochs:
            return steps(amount, fate)
        per_epoch = math.ceil(batches / self.accumulate)
        return steps(per_epoch, fate) if amount == 1 else per_epoch * epochs(amount, fate)

    def _random(self, seed: int) -> int:
        return int(np.random.default_rng(seed).integers(self.low, self.high, endpoint=True))
