"""Completion of embeddings of missing modalities, from the mean embeddings of classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.checks import expect


class ClassPrototypes(nn.Module):
    """The running mean embedding of each class, in one modality.

    `s <- mu s + (1 - mu) e` and `w <- mu w + (1 - mu)` for every class of a batch, where e is its mean
    embedding there; the prototype is `s / w`. Both are buffers, and a class that was never seen has w = 0. So
    an average of s and of w over clients gives each class the mean over the clients that have seen it.

    Args:
        classes: Number of classes, K.
        dim: Size D of an embedding.
        momentum: Momentum mu, in [0, 1).

    Raises:
        ValueError: If the momentum is out of range.

    Example:
        >>> prototypes = ClassPrototypes(classes=2, dim=1)
        >>> prototypes.learn(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 1]))
        >>> prototypes.known.tolist(), prototypes.means.tolist()
        ([False, True], [[0.0], [2.0]])
    """

    sums: Tensor
    weights: Tensor

    def __init__(self, classes: int, dim: int, momentum: float = 0.9) -> None:
        super().__init__()
        expect(momentum=momentum, ge=0, lt=1)
        self.momentum = momentum
        self.register_buffer("sums", torch.zeros(classes, dim))
        self.register_buffer("weights", torch.zeros(classes))

    @torch.no_grad()
    def learn(self, embeddings: Tensor, labels: Tensor) -> None:
        """Updates the means by embeddings `(N, D)` of samples of classes `(N,)`."""
        classes = torch.arange(len(self.weights), device=labels.device)
        one_hot = (labels.unsqueeze(1) == classes).to(self.sums)  # F.one_hot would read the labels
        count = one_hot.sum(0)
        means = one_hot.T @ embeddings.to(self.sums) / count.clamp_min(1).unsqueeze(1)
        rate = (1 - self.momentum) * (count > 0)
        self.sums += rate.unsqueeze(1) * (means - self.sums)
        self.weights += rate * (1 - self.weights)

    @property
    def known(self) -> Tensor:
        """Which classes were seen, `(K,)`."""
        return self.weights > 0

    @property
    def means(self) -> Tensor:
        """Prototypes `(K, D)`, zeros for classes that were never seen."""
        return self.sums / torch.where(self.known, self.weights, 1.0).unsqueeze(1)


def complete(
    embeddings: Tensor, present: Tensor, prototypes: Tensor, known: Tensor, temperature: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Fills in embeddings of absent modalities by a mixture of the modality's class prototypes.

    Class k of sample i scores the mean, over the modalities p that it has, of `cos(z_ip, c_pk)`; the missing
    embedding of modality m is `sum_k softmax_k(score / T) c_mk`. Only classes count that have a prototype in
    m and in one of those p. If there are none, the modality stays absent. No gradient flows into prototypes;
    it flows through the scores into the embeddings that are present.

    The idea that prototypes of classes replace a missing modality is from Bao et al., "Multimodal Federated
    Learning with Missing Modality via Prototype Mask and Contrast" (PmcmFL), arXiv:2312.13508. Their code
    uses, in training, the prototype of the sample's own label. Weighting by similarity is our choice: it
    needs no label, so that training and use are alike. MFCPL (Le et al., arXiv:2401.13898) fills missing
    modalities with zeros, by its abstract, and uses such prototypes for regularization and contrast instead.

    Args:
        embeddings: Embeddings `(B, M, D)`, finite everywhere.
        present: Which modalities each sample has, `(B, M)`.
        prototypes: Prototypes c, `(M, K, D)`.
        known: Which prototypes exist, `(M, K)`.
        temperature: Temperature T of cosines. Default .1.

    Returns:
        Embeddings `(B, M, D)`, and where there is one now, `(B, M)`.

    Example:
        >>> z, c = torch.tensor([[[5.0, 0.0], [0.0, 0.0]]]), torch.eye(2).repeat(2, 1, 1)
        >>> filled, there = complete(z, torch.tensor([[True, False]]), c, torch.ones(2, 2, dtype=torch.bool))
        >>> filled[0, 1].round(decimals=3).tolist(), there.tolist()
        ([1.0, 0.0], [[True, True]])
    """
    cosines = torch.einsum(
        "bmd,mkd->bmk", F.normalize(embeddings.to(prototypes), dim=2), F.normalize(prototypes, dim=2)
    )
    compared = present.unsqueeze(2) & known  # (B, M, K)
    number = compared.sum(1)
    scores = (cosines * compared).sum(1) / number.clamp_min(1)
    usable = known & (number > 0).unsqueeze(1)
    # a modality without a usable class: NaN in its row would spoil the gradients
    logits = (scores / temperature).unsqueeze(1).masked_fill(~usable, torch.finfo(scores.dtype).min)
    mixture = torch.einsum("bmk,mkd->bmd", logits.softmax(2), prototypes).to(embeddings)
    filled = ~present & usable.any(2)
    return torch.where(filled.unsqueeze(2), mixture, embeddings), present | filled
