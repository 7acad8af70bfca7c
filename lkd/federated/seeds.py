"""Seeds of a client's work: a function of (seed, round, client) and of nothing else."""

import random

import numpy as np
import torch


def derive(*parts: int) -> int:
    """A seed of 63 bits from integers, such as (seed, round, client); every part and their order count.

    Args:
        *parts: Integers of 0 or more.

    Example:
        >>> derive(0, 1) == derive(0, 1), derive(0, 1) == derive(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(seed: int, device: torch.device) -> None:
    """Seeds the global generators of Python, NumPy and torch, for code of the user's that draws from them.

    Called inside `isolate_rng`, so that what runs outside of a client's work sees nothing of it.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(
        seed
    )  # torch.manual_seed costs a stack trace where CUDA is not in use
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
