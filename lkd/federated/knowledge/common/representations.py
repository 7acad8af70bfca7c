"""Representations of public samples in several modalities: computed, scored, and joined."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from lkd.federated.knowledge.common.batch_inputs import inputs_of, public_batches
from lkd.federated.knowledge.common.forward import outputs
from lkd.federated.knowledge.common.modality_layers import present
from lkd.federated.protocol.client_data import PublicSamples
from lkd.federated.protocol.runtime import Runtime
from lkd.losses.unit import gram, unit
from lkd.taps import Call


def complete(
    module: LightningModule,
    modalities: Iterable[str],
    public: PublicSamples,
    rows: Sequence[int] | np.ndarray,
    batch_size: int,
    runtime: Runtime,
) -> Iterator[Any]:
    """Yields batches of public samples on the module's device, and requires all these modalities.

    Raises:
        ValueError: If a sample lacks one of them.
    """
    names = list(modalities)
    for given in public_batches(public, rows, batch_size, runtime):
        batch = inputs_of(given)
        there = present(module, batch)
        for m in names:
            if not there[m].all():
                raise ValueError(
                    f"public: {int((~there[m]).sum())} of {len(there[m])} samples of a batch have no {m!r}, and this algorithm "
                    "compares the modalities of the same samples: let the public data have all that clients have."
                )
        yield batch


def represent(
    module: LightningModule,
    layers: Mapping[str, str],
    public: PublicSamples,
    rows: Sequence[int] | np.ndarray,
    batch_size: int,
    runtime: Runtime,
) -> dict[str, Tensor]:
    """Computes a module's representations of public samples in each modality, in eval mode, as unit vectors.

    Args:
        module: The module.
        layers: Its layers by modality.
        public: The public samples.
        rows: Numbers of the samples.
        batch_size: Samples at a time.
        runtime: How this process moves batches, and in which precision.

    Returns:
        `(N, D)` by modality, float32.

    Raises:
        ValueError: If a sample lacks one of the modalities.
    """
    complete_ones = complete(module, layers, public, rows, batch_size, runtime)
    calls = (Call((batch,), {}) for batch in complete_ones)
    found = outputs(module, calls, list(layers.values()), runtime.trainer)
    return {m: unit(z.flatten(1)) for m, z in zip(layers, found, strict=True)}


def info_nce(z: Tensor, bank: Tensor, places: Tensor, temperature: float = 0.5) -> Tensor:
    """Computes `-log softmax_j(z_i . g_j / T)` at each sample's place, mean over the batch.

    All other entries of the bank are negatives.

    Args:
        z: Unit vectors `(B, D)`.
        bank: Unit vectors `(N, D)`; no gradient flows into them.
        places: Place of each sample's positive in the bank, `(B,)`.
        temperature: T.

    Example:
        >>> info_nce(torch.tensor([[1.0, 0.0]]), torch.zeros(2, 2), torch.tensor([0]))
        tensor(0.6931)
    """
    return F.cross_entropy(gram(z, bank.detach()) / temperature, places)


def pair_loss(representations: Sequence[Tensor], temperature: float = 0.5) -> Tensor:
    """Computes `info_nce` within a batch for every ordered pair of modalities; mean over the pairs.

    The gradient flows into both modalities of a pair.

    Args:
        representations: Unit vectors `(B, D)` of the same samples, one tensor per modality, at least two.
            Zeros stand for a modality that a sample lacks, by dropout: it is neither positive nor negative in
            that pair of modalities.
        temperature: T.

    Example:
        >>> pair_loss([torch.ones(3, 2), torch.ones(3, 2)])
        tensor(1.0986)
    """
    losses = []
    for i, j in itertools.permutations(range(len(representations)), 2):
        there = representations[i].any(1) & representations[j].any(1)
        logits = gram(representations[i][there], representations[j][there]) / temperature
        places = torch.arange(len(logits), device=logits.device)
        losses.append(F.cross_entropy(logits, places, reduction="sum") / max(len(logits), 1))
    return torch.stack(losses).mean()


def cross_modal_scores(
    own: Tensor, others: Sequence[Tensor], temperature: float = 1.0, chunk: int = 1024
) -> Tensor:
    """Scores how well representations find their samples in other modalities.

    The score of sample i is `log softmax_j(z_i . g_j / T)_i`.

    Args:
        own: `(N, D)`, of one modality.
        others: Representations `(N, D)` of the same samples in other modalities, over which scores are
            averaged; without any, all scores are 0.
        temperature: T.
        chunk: Samples at a time; memory is needed for `chunk` times N numbers.

    Returns:
        `(N,)`, 0 or less.

    Example:
        >>> cross_modal_scores(torch.zeros(2, 3), [torch.ones(2, 3)])
        tensor([-0.6931, -0.6931])
    """
    scores = own.new_zeros(len(own))
    for other in others:
        for start in range(0, len(own), chunk):
            part = slice(start, start + chunk)
            logits = own[part] @ other.T / temperature
            scores[part] += logits.diagonal(start) - logits.logsumexp(1)
    return scores / max(len(others), 1)


def joined(told: Tensor, scores: Tensor) -> Tensor:
    """Sums representations over clients, weighted by the softmax over clients of their scores.

    Args:
        told: `(K, N, D)`.
        scores: `(K, N)`.

    Returns:
        `(N, D)`; the sums are not normalized to length 1.

    Example:
        >>> told = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
        >>> joined(told, torch.tensor([[0.0], [0.0]]))
        tensor([[0.5000, 0.5000]])
    """
    return (scores.softmax(0)[..., None] * told).sum(0)
