"""Random draws that depend on a seed and on how many came before, and that continue from a checkpoint."""

import numpy as np
import torch
from torch import Tensor, nn


class Draws(nn.Module):
    """Source of a new generator for every step.

    The number of steps is a buffer, so that a resumed run continues.

    It is part of a term's adapter. Steps without gradients, such as a rehearsal before training, do not
    count.

    Args:
        seed: Seed of all draws.

    Example:
        >>> draws = Draws(seed=3)
        >>> first, second = (torch.rand(1, generator=draws.generator("cpu")) for _ in range(2))
        >>> bool(first == second), bool(first == torch.rand(1, generator=Draws(seed=3).generator("cpu")))
        (False, True)
    """

    count: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def generator(self, device: torch.device | str) -> torch.Generator:
        """Returns the generator of this step, for draws on `device`."""
        state = np.random.SeedSequence([self.seed, int(self.count)]).generate_state(1, np.uint64)
        if torch.is_grad_enabled():
            self.count += 1
        return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))
