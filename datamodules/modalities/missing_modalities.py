"""Which modalities samples lack, and which labels are wrong: functions of seed, client and sample alone."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lkd.datamodules.classification.image_dataset import uniforms


class ClientSamples(NamedTuple):
    """Samples of all clients, n in number."""

    client: np.ndarray  # (n,) client that has the sample
    row: np.ndarray  # (n,) row of the data set
    source: int = 0  # number of the data set: rows of another one are different samples
    part: int = 0  # number of the part: training, validation or test data


def by_sample(
    seed: int, rows: ClientSamples, names: Sequence[str], owned: np.ndarray, given: np.ndarray, rate: float
) -> np.ndarray:
    """Returns what is present where each modality of each sample is missing with an independent probability.

    Args:
        seed: seed of the draws, not negative.
        rows: n samples.
        names: names of the modalities, M.
        owned: whether the client of each sample owns each modality (n, M).
        given: whether the data have it (n, M).
        rate: the probability, in [0, 1].

    Returns:
        Bools (n, M), with at least one modality of every sample that could have any.

    Example:
        >>> rows, ones = ClientSamples(np.zeros(4, int), np.arange(4)), np.ones((4, 2), bool)
        >>> by_sample(0, rows, ["phone", "watch"], ones, ones, rate=1.0).sum(1)
        array([1, 1, 1, 1])
    """
    could, numbers = owned & given, _draw(seed, rows.source, rows.client, rows.row, names)[0]
    return _keep(could & (numbers >= rate), could, numbers)


def by_client(
    seed: int, rows: ClientSamples, names: Sequence[str], owned: np.ndarray, given: np.ndarray, rate: float
) -> np.ndarray:
    """Returns the same with one draw for all samples of a client; a sample may then keep nothing at all.

    That happens to a sample which lacks the modalities that its client keeps. Arguments are those of
    `by_sample`.
    """
    numbers = _draw(seed, 0, rows.client, np.zeros_like(rows.row), names)[0]
    return _keep(owned & (numbers >= rate), owned, numbers) & given


def by_time(
    seed: int,
    rows: ClientSamples,
    names: Sequence[str],
    owned: np.ndarray,
    given: np.ndarray,
    rate: float,
    time: np.ndarray,
) -> np.ndarray:
    """Returns the same where each modality is out for one stretch, a share `rate`, of a client's samples.

    Args:
        seed: seed of the draws, not negative.
        rows: n samples.
        names: names of the modalities, M.
        owned: whether the client of each sample owns each modality (n, M).
        given: whether the data have it (n, M).
        rate: the share, in [0, 1].
        time: times of the samples (n,), as numbers; samples of the same time are ordered by their rows.
    """
    once = np.full_like(rows.row, rows.part)
    place, rank = _draw(seed, rows.source, rows.client, once, names, 2)
    order, sizes = np.lexsort((rows.row, time, rows.client)), np.bincount(rows.client)
    at = np.empty_like(order)  # the place of every sample among its client's, from 0
    at[order] = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[rows.client[order]]
    size = sizes[rows.client][:, None]
    length = np.floor(rate * size + 0.5).astype(np.int64)
    start = (place * (size - length + 1)).astype(np.int64)
    could, after = owned & given, at[:, None] - start
    return _keep(could & ((after < 0) | (after >= length)), could, rank)


def wrong_labels(
    seed: int, rows: ClientSamples, right: np.ndarray, classes: Sequence[int] | np.ndarray, rate: float
) -> np.ndarray:
    """Replaces labels, each with a probability, by another class that is drawn uniformly.

    Args:
        seed: seed of the draws, not negative.
        rows: n samples.
        right: their labels (n,).
        classes: all classes, at least two, ascending.
        rate: the probability, in [0, 1].

    Example:
        >>> rows = ClientSamples(np.zeros(6, int), np.arange(6))
        >>> sorted(set(wrong_labels(0, rows, np.array([5] * 6), [2, 5, 7], rate=1.0).tolist()))
        [2, 7]
    """
    chance, which = _draw(seed, rows.source, rows.client, rows.row, ["label, no modality"], 2)[..., 0]
    other = (which * (len(classes) - 1)).astype(np.int64)
    other += other >= np.searchsorted(classes, right)  # every class but the right one
    return np.where(chance < rate, np.asarray(classes)[other], right)


def _draw(
    seed: int,
    source: int,
    client: np.ndarray,
    row: np.ndarray,
    names: Sequence[str],
    count: int = 1,
) -> np.ndarray:
    """Draws numbers (count, n, names) in [0, 1), each a function of the first four arguments and one name."""
    drawn = []
    for name in names:
        fixed = (np.full_like(row, number) for number in (source, zlib.crc32(name.encode())))
        drawn.append(uniforms(seed, np.stack([*fixed, client, row], axis=1), count))
    return np.stack(drawn, axis=1).transpose(2, 0, 1)


def _keep(there: np.ndarray, could: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Keeps the modality of the highest rank where nothing else is left of a sample; all are (n, M)."""
    none = np.flatnonzero(could.any(1) & ~there.any(1))
    there[none, np.where(could, rank, -1.0)[none].argmax(1)] = True
    return there
