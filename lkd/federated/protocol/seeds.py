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


def derive_each(*parts: int | np.ndarray) -> list[int]:
    """Derives many seeds at once, in a third of the time of a hundred calls of `derive`, which it equals.

    It is the hash of NumPy's `SeedSequence` (M. O'Neill's `seed_seq`, without its biases), on arrays.

    Args:
        *parts: Integers of 0 or more, or arrays `(K)` of them.

    Example:
        >>> derive_each(7, np.array([0, 2**40])) == [derive(7, 0), derive(7, 2**40)]
        True
    """
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(part, dtype=np.uint64)) for part in parts))
    found = np.zeros(len(arrays[0]), dtype=np.uint64)
    large = np.stack([array >> np.uint64(32) > 0 for array in arrays])  # of two words each
    for pattern in np.unique(large, axis=1).T:
        rows = np.flatnonzero((large == pattern[:, None]).all(0))
        words = []
        for array, two in zip(arrays, pattern, strict=True):
            words += [array[rows].astype(np.uint32)]
            words += [(array[rows] >> np.uint64(32)).astype(np.uint32)] if two else []
        low, high = _states(words)
        found[rows] = (high.astype(np.uint64) << np.uint64(32) | low) >> np.uint64(1)
    return found.tolist()


def _states(words: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The first two words of the state of a `SeedSequence` of these words."""
    constant, half = 0x43B0D7E5, np.uint32(16)

    def hashed(value: np.ndarray, factor: int = 0x931E8875) -> np.ndarray:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * factor & 0xFFFFFFFF
        value = value * np.uint32(constant)
        return value ^ value >> half

    def mixed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        value: Any = np.uint32(0xCA01F9DD) * x - np.uint32(0x4973F715) * y
        return value ^ value >> half

    padded = [*words, *[np.zeros_like(words[0])] * (4 - len(words))]
    pool = [hashed(word) for word in padded[:4]]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for word in padded[4:]:
        pool = [mixed(one, hashed(word)) for one in pool]
    constant = 0x8B51F9DD
    return hashed(pool[0], 0x58F38DED), hashed(pool[1], 0x58F38DED)


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
