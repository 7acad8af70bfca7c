"""Seeds of a client's work: functions of (seed, round, client) alone."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
"""Types of generators that `seed_generators` seeds."""


def derive(*parts: int) -> int:
    """Derives a seed of 63 bits from integers, such as (seed, round, client); their order matters.

    Args:
        *parts: Integers of 0 or more.

    Example:
        >>> derive(0, 1) == derive(0, 1), derive(0, 1) == derive(1, 0)
        (True, False)
    """
    low, high = np.random.SeedSequence(parts).generate_state(2).tolist()
    return int(high << 32 | low) >> 1


def seed_everything(seed: int, device: torch.device) -> None:
    """Seeds the global generators of Python, NumPy and torch, for user code that draws from them.

    It is called inside `isolate_rng`, so that code outside of a client's work is not affected.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(
        seed
    )  # torch.manual_seed would cost a stack trace where CUDA is not in use
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def seed_generators(generators: Iterable[Any], seed: int) -> None:
    """Seeds generators that a module holds, each with its own stream, as if each client had created its own.

    Args:
        generators: Generators of torch, NumPy or Python.
        seed: Seed of the client in this round.
    """
    for number, generator in enumerate(generators):
        own = derive(seed, number)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(own)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(own).state
        else:
            generator.seed(own if isinstance(generator, random.Random) else own % 2**32)
