"""The amount of a client's training in a round."""

import math

import numpy as np

from lkd.checks import expect
from lkd.federated.protocol.description import LocalSettings
from lkd.federated.server.heterogeneity import Fate, epochs, steps

FINE = Fate()


class LocalTraining:
    """Number of local epochs or optimizer steps, the same for every client or drawn for each.

    Args:
        epochs: Passes over the client's data. Two numbers are a range, from which it is drawn anew for every
            client and round, uniformly, both ends included, as in `E ~ U(2, 5)` of the FedNova paper. Default
            1.
        steps: Optimizer steps in place of epochs; two numbers as above.
        accumulate_grad_batches: Batches whose gradients are averaged into one optimizer step; the rest at
            the end of an epoch makes a step, too. Default 1.
        gradient_clip_val: Largest norm of a step's gradient, after the algorithm's correction. Default: none.

    Raises:
        ValueError: For numbers below 1, a descending range, or both epochs and steps.

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
        """Batches per optimizer step."""
        return self.settings.accumulate

    def draw(self, batches: int, seed: int, fate: Fate = FINE) -> int:
        """Returns the optimizer steps of a client.

        Args:
            batches: Batches in the client's epoch.
            seed: Seed for drawing from a range.
            fate: Fate of the client. A straggler makes fewer: whole epochs, as in FedProx, or a share of a
                single one's steps.
        """
        amount = self.low if self.low == self.high else self._random(seed)
        if not self.by_epochs:
            return steps(amount, fate)
        per_epoch = math.ceil(batches / self.accumulate)
        return steps(per_epoch, fate) if amount == 1 else per_epoch * epochs(amount, fate)

    def _random(self, seed: int) -> int:
        return int(np.random.default_rng(seed).integers(self.low, self.high, endpoint=True))
