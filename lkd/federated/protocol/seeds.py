"""Seeds of a client's work: a function of (seed, round, client) and of nothing else."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
"""Kinds that `seed_generators` knows."""


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


def seed_generators(generators: Iterable[Any], seed: int) -> None:
    """Seeds generators that a module holds, each with a stream of its own, as if each client had made its own.

    Args:
        generators: Of torch, NumPy or Python.
        seed: Of the client in this round.
    """
    for number, generator in enumerate(generators):
        own = derive(seed, number)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(own)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(own).state
        else:
            generator.seed(own if isinstance(generator, random.Random) else own % 2**32)
