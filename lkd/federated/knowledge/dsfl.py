"""DS-FL: clients and server learn the sharpened mean of the clients' predictions on open data."""

import math
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.knowledge.common.consensus import consensus
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.public_logits import PublicExchange, at_server

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound

Aggregation = Literal["entropy_reduction", "enhanced", "mean"]


def entropy_reduction(probabilities: Tensor, temperature: float = 0.1) -> Tensor:
    """Sharpens the mean of probabilities by entropy reduction, `softmax(1/K sum_k p_k / T)`.

    Itahara et al. 2021. The softmax is taken of probabilities, which lie in [0, 1]: T = 1 flattens them, to
    at most e / (e + C - 1) of C classes.

    Args:
        probabilities: `(K, N, C)`, one row per client.
        temperature: T, above 0; the smaller, the sharper.

    Returns:
        `(N, C)`.

    Example:
        >>> import torch
        >>> entropy_reduction(torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]))
        tensor([[0.9820, 0.0180]])
    """
    return (probabilities.mean(0) / temperature).softmax(-1)


def enhanced_entropy_reduction(probabilities: Tensor, beta: float = 2.0) -> Tensor:
    """Sharpens the mean p of probabilities to `p_c^beta / sum_j p_j^beta` (enhanced entropy reduction).

    Azuma et al. 2025, arXiv:2504.19602, as in the authors' code. Unlike `entropy_reduction`, it can leave the
    mean as it is, with beta = 1.

    Args:
        probabilities: `(K, N, C)`, one row per client.
        beta: Above 0; above 1 it sharpens, below 1 it flattens.

    Returns:
        `(N, C)`.

    Example:
        >>> import torch
        >>> enhanced_entropy_reduction(torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]]]))
        tensor([[0.9000, 0.1000]])
    """
    return (beta * probabilities.mean(0).log()).softmax(-1)  # powers themselves would underflow


class DSFL(PublicExchange):
    """Exchange of predictions on open data, whose sharpened mean clients and the server's model learn.

    Itahara, Nishio, Koda, Morikura and Yamamoto, "Distillation-Based Semi-Supervised Federated Learning for
    Communication-Efficient Collaborative Training with Non-IID Private Data", IEEE Transactions on Mobile
    Computing 2021, arXiv:2008.06180. A round is: update on private data, predict the round's open samples,
    aggregate their probabilities, broadcast, and distill, `w <- w - eta d CE(target, softmax(f(w, x))) / dw`,
    at the clients and at the server. Aggregation is ERA, see `entropy_reduction`, or the simple mean of
    probabilities (SA). Formulas, order and T = .1 are as in public implementations, one of the authors'
    group; the numbers of the equations could not be checked, and samples, epochs and batch size are from
    memory. The distillation uses the module's own optimizer, and no factor T^2, as the student's temperature
    is 1. The server's model is the federation's `model`; it learns from the targets alone. Travels: see
    `PublicExchange`; clients send logits, of which the server takes the softmax, as many numbers.

    Args:
        aggregation: `"entropy_reduction"`, `"enhanced"` (see `enhanced_entropy_reduction`) or `"mean"`.
        temperature: T of the entropy reduction.
        beta: Exponent of the enhanced entropy reduction.
        samples: Open samples in a round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        server_epochs: Passes of the server's model; 0 leaves it as it is. Default: as `epochs`.
        layer: Layer that gives the logits; `""` is the module's output.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range or another aggregation.

    Example:
        >>> import torch
        >>> DSFL().compare(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
        tensor(0.6931)
    """

    stacks = True
    trains_first = True
    trains_server_model = True

    def __init__(
        self,
        aggregation: Aggregation = "entropy_reduction",
        temperature: float = 0.1,
        beta: float = 2.0,
        samples: int | None = 1000,
        epochs: int = 5,
        batch_size: int = 100,
        server_epochs: int | None = None,
        layer: str = "",
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, 0, input_key)
        expect(aggregation=aggregation, among=get_args(Aggregation))
        expect(temperature=temperature, beta=beta, gt=0, lt=math.inf)
        expect(server_epochs=server_epochs, ge=0, none="as many as `epochs`")
        self.aggregation, self.temperature, self.beta = aggregation, temperature, beta
        self.server_epochs = epochs if server_epochs is None else server_epochs

    def agree(self, server: "ServerRound", logits: Tensor, clients: list[int]) -> Tensor:
        """Sharpens the mean of the probabilities."""
        if self.aggregation == "mean":
            return consensus(logits)
        if self.aggregation == "enhanced":
            return enhanced_entropy_reduction(logits.softmax(-1), self.beta)
        return entropy_reduction(logits.softmax(-1), self.temperature)

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the cross entropy with the targets."""
        return soft_cross_entropy(logits, targets)

    def learn(self, server: "ServerRound", targets: Tensor, size: int) -> None:
        """Distills into the server's model, too."""
        rows = self.rows(server.seed, server.index, size)
        at_server(
            server,
            rows,
            targets,
            self.compare,
            self.server_epochs,
            self.batch_size,
            self.layer,
            input_key=self.input_key,
        )
