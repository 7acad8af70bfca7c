"""Cronus: clients learn a robust mean of their predictions for each public sample."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.public_logits import PublicExchange
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.robust import Rule
from lkd.shown import shown

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


@torch.no_grad()
def filtered_mean(points: Tensor, epsilon: float = 0.2) -> Tensor:
    """Averages points without the `floor(epsilon K)` that lie farthest out along the main direction.

    The main direction is that of the largest variance. The filter is that of Diakonikolas et al., "Being
    Robust (in High Dimensions) Can Be Practical", ICML 2017, arXiv:1703.00893, in its fast form with one
    pass: v is the top eigenvector of the points' covariance, and the points with the largest
    `|v . (x_k - mean)|` are removed. A few points far off in one direction make that direction v. One pass
    finds clients that agree on a wrong answer, and single outliers; points hidden among the others are kept.

    Args:
        points: `(K, ..., D)`, one row per client; each place of the `...` has a mean of its own.
        epsilon: Share that is removed, at least 0 and below a half. At 0, or with fewer than `1 / epsilon`
            points, none is.

    Returns:
        Means `(..., D)`.

    Raises:
        ValueError: If epsilon is out of its range.

    Example:
        >>> filtered_mean(torch.tensor([[1.0, 0.0], [1.1, 0.1], [0.9, 0.1], [1.0, 0.2], [-9.0, 9.0]]))
        tensor([1.0000, 0.1000])
    """
    expect(epsilon=epsilon, ge=0, lt=0.5, why="it is the share of clients that is cut")
    clients, at = len(points), points.shape[1:]
    keep = clients - int(epsilon * clients + 1e-9)  # .29 * 100 is 28.999... in binary
    x = points.double().reshape(clients, -1, at[-1]).transpose(0, 1)  # (N, K, D)
    away = x - x.mean(1, keepdim=True)
    # a point's projection on v is, up to a factor, its entry in the top eigenvector of the inner products
    projections = torch.linalg.eigh(away @ away.mT).eigenvectors[..., -1].abs()
    nearest = projections.sort(dim=1, stable=True).indices[:, :keep].sort(dim=1).values
    kept = x.gather(1, nearest[..., None].expand(-1, -1, at[-1]))
    return kept.mean(1).reshape(at).to(points)


class Cronus(PublicExchange):
    """Exchange of probabilities of public samples, joined by a robust mean of each sample.

    Chang, Shejwalkar, Shokri and Houmansadr, "Cronus: Robust and Heterogeneous Collaborative Learning with
    Black-Box Knowledge Transfer", 2019, arXiv:1912.11279. First, clients train alone (`warmup` rounds). Then,
    in each round, they predict the public samples, the server joins the predictions of a sample to a robust
    mean, and each client learns these soft labels and its private data. A prediction has as many dimensions
    as classes, far fewer than weights, so few clients are enough for a meaningful robust mean.

    The robust mean is the filter that the paper takes from Diakonikolas et al., see `filtered_mean`,
    normalized to a sum of 1; any other rule can take its place. The cross entropy is on soft labels at T = 1.
    Here a client first learns the soft labels and then its own data, rather than batches of both, which is
    our choice: neither the paper's text nor its epsilon could be checked. Travels: see `PublicExchange`.

    Args:
        epsilon: Largest share of clients that may lie.
        rule: Another robust rule instead, applied to the predictions `(K, C)` of one sample after the other.
        samples: Public samples in a round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        layer: Layer that gives the logits; `""` is the module's output.
        warmup: Rounds of private training before the first exchange.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range; before any training, if the rule needs more clients than there
            are.
        TypeError: For a `rule` that is not a `Rule`.

    Example:
        >>> liar, honest = torch.tensor([[-90.0, 90.0]]), torch.tensor([[2.0, 0.0]])
        >>> Cronus().agree(None, torch.stack([honest, honest, liar, honest, honest]), [0, 1, 2, 3, 4])
        tensor([[0.8808, 0.1192]])
    """

    stacks = True

    def __init__(
        self,
        epsilon: float = 0.2,
        rule: Rule | None = None,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 256,
        layer: str = "",
        warmup: int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, warmup, input_key)
        filtered_mean(torch.zeros(1, 1), epsilon)  # checks epsilon now, not after the first round
        if rule is not None and not isinstance(rule, Rule):
            raise TypeError(f"rule={shown(rule)} must be an object of Rule, such as GeometricMedian().")
        self.epsilon, self.rule = epsilon, rule

    def round(self, server: "ServerRound") -> Tensors:
        """Refuses a cohort that is too small for the rule, then runs the exchange."""
        if self.rule is not None and len(server.cohort) < self.rule.min_clients:
            raise ValueError(
                f"rule={type(self.rule).__name__} as it is set needs at least {self.rule.min_clients} clients, but "
                f"{len(server.cohort)} take part in round {server.index}."
            )
        return super().round(server)

    def agree(self, server: "ServerRound | None", logits: Tensor, clients: list[int]) -> Tensor:
        """Joins the probabilities to their robust mean, sample by sample."""
        said = logits.softmax(-1)
        if self.rule is None:
            return filtered_mean(said, self.epsilon)  # a mean of distributions sums to 1
        joined = torch.stack([self.rule(sample) for sample in said.unbind(1)]).clamp_min(0)
        return joined / joined.sum(-1, keepdim=True).clamp_min(1e-12)

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the cross entropy with the soft labels."""
        return soft_cross_entropy(logits, targets)
