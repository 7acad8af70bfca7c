"""KT-pFL: every client learns its own mixture of all predictions, and the server learns the mixtures."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lkd.batches import Keys
from lkd.checks import expect
from lkd.federated.knowledge.common.distill_public import soft_cross_entropy
from lkd.federated.knowledge.common.public_logits import PublicExchange
from lkd.federated.protocol.tensors import Tensors

if TYPE_CHECKING:
    from lkd.federated.server.round import ServerRound


def mixtures(probabilities: Tensor, coefficients: Tensor) -> Tensor:
    """Mixes soft predictions for each client, `t_k = sum_j c_kj z_j`.

    Args:
        probabilities: z, `(K, N, C)`, one row per client.
        coefficients: c, `(K, K)`; a row is a client's mixture, with the sum 1.

    Returns:
        `(K, N, C)`.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
        >>> mixtures(z, torch.tensor([[0.75, 0.25], [0.5, 0.5]]))[:, 0]
        tensor([[0.7500, 0.2500],
                [0.5000, 0.5000]])
    """
    return torch.einsum("kj,jnc->knc", coefficients, probabilities)


def coefficient_gradient(probabilities: Tensor, coefficients: Tensor) -> Tensor:
    """Returns the gradient of every client's `KL(t_k || z_k)` with respect to its row of c.

    It is `d/dc_kj = 1/N sum_n sum_c z_jnc (log t_knc - log z_knc + 1)`, smallest for clients j with the
    predictions of k.

    Args:
        probabilities: z, `(K, N, C)`.
        coefficients: c, `(K, K)`.

    Returns:
        `(K, K)`.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
        >>> coefficient_gradient(z, torch.full((2, 2), 0.5)).argmin(1)
        tensor([0, 1])
    """
    tiny = torch.finfo(probabilities.dtype).tiny
    ratio = mixtures(probabilities, coefficients).clamp_min(tiny).log() - probabilities.clamp_min(tiny).log()
    return torch.einsum("jnc,knc->kj", probabilities, ratio + 1) / probabilities.shape[1]


def project_to_simplex(rows: Tensor) -> Tensor:
    """Projects rows to the nearest ones that are at least 0 and have the sum 1.

    The projection is `max(x - theta, 0)`, theta from the sorted entries; Duchi et al., ICML 2008, Fig. 1.

    Args:
        rows: `(..., K)`.

    Example:
        >>> import torch
        >>> project_to_simplex(torch.tensor([[0.5, 0.9], [2.0, 0.0]]))
        tensor([[0.3000, 0.7000],
                [1.0000, 0.0000]])
    """
    falling = rows.sort(-1, descending=True).values
    counts = torch.arange(1, rows.shape[-1] + 1, device=rows.device)
    thetas = (falling.cumsum(-1) - 1) / counts
    last = (falling > thetas).sum(-1, keepdim=True) - 1
    return (rows - thetas.gather(-1, last)).clamp_min(0)


class KTpFL(PublicExchange):
    """Exchange of predictions, of which each client learns its own mixture with learned coefficients.

    Zhang, Guo, Ma, Wang, Xu and Wu, "Parameterized Knowledge Transfer for Personalized Federated Learning",
    NeurIPS 2021, arXiv:2111.02862. The server has a knowledge coefficient matrix c, at first 1/K everywhere.
    It and the models minimize `sum_k D_k/D (L_k + lam KL(sum_j c_kj z_j || z_k)) + rho sum_kj (c_kj - 1/K)^2`
    in turns, z being the soft predictions of public data and D_k the sizes of the private data. In a round,
    clients predict; the server makes one step, `c_k <- c_k - lr (lam D_k/D d KL/dc_k + 2 rho (c_k - 1/K))`,
    see `coefficient_gradient`; client k learns `sum_j c_kj z_j`, and then its own data.

    Order and one exchange per round are those of the authors' code. We differ from it as follows. There, the
    step is on the mean squared error of soft predictions, its length is tuned by the size of the gradient,
    and each row then goes through a softmax. Here, it is on the KL of the paper's objective (whose equation
    numbers could not be checked), and the row is projected to the nearest distribution, as otherwise a
    mixture need not be one. T = 10 there. If only some clients take part, the step is on their part of c,
    which keeps its share of each row. The distillation has the factor T^2 and the client's own optimizer. lr
    and T are our choice. Travels: see `PublicExchange`; each client gets its own targets.

    Args:
        lam: Weight of the distillation. At 0 this is local training.
        rho: Weight of the pull of c to 1/K; large values make it FedMD with probabilities. Default: .7, as in
            the authors' code.
        lr: Step size of c, at most 1 / rho, or c would not settle.
        temperature: T of the soft predictions.
        samples: Public samples in a round; None for all of them.
        epochs: Passes over them.
        batch_size: Samples in a step.
        layer: Layer that gives the logits; `""` is the module's output.
        warmup: Rounds of private training before the first exchange.
        input_key: Entry of a public batch that the forward is given, or several; see
            `lkd.federated.knowledge.common.batch_inputs.call_of`.

    Raises:
        ValueError: For numbers out of range.

    Example:
        >>> KTpFL(rho=0.1).rho
        0.1
    """

    stacks = True

    def __init__(
        self,
        lam: float = 1.0,
        rho: float = 0.7,
        lr: float = 0.5,
        temperature: float = 1.0,
        samples: int | None = None,
        epochs: int = 1,
        batch_size: int = 256,
        layer: str = "",
        warmup: int = 1,
        input_key: Keys | None = None,
    ) -> None:
        super().__init__(samples, epochs, batch_size, layer, warmup, input_key)
        expect(lam=lam, rho=rho, lr=lr, ge=0)
        expect(temperature=temperature, gt=0)
        if lr * rho > 1:
            raise ValueError(
                f"lr={lr} must be at most 1 / rho = {1 / rho:.3g}, or the coefficients never settle."
            )
        self.lam, self.rho, self.lr, self.temperature = lam, rho, lr, temperature

    def setup(self, x: Tensors) -> None:
        """Starts without coefficients."""
        super().setup(x)
        self.state = {}

    def agree(self, server: "ServerRound", logits: Tensor, clients: list[int]) -> dict[int, Tensor]:
        """Learns the coefficients, and mixes the predictions with them."""
        said = (logits / self.temperature).softmax(-1)
        population = server.population
        whole = self.state.get("coefficients", {}).get("c")
        whole = (
            torch.full((population, population), 1 / population).double() if whole is None else whole.cpu()
        )
        here = torch.tensor(clients)
        shares = torch.tensor([float(server.cohort[i].num_samples) for i in clients]).double()
        part = whole[here][:, here]
        mass = part.sum(1, keepdim=True)
        # a row without a share for the present clients begins anew for them; `whole` keeps it as it is
        part = torch.where(mass > 0, part / mass.clamp_min(1e-12), torch.full_like(part, 1 / len(clients)))
        part = self.step(said, part, shares / shares.sum())
        whole = whole.clone()
        whole[here[:, None], here] = mass * part
        self.state = {"coefficients": {"c": whole}}
        return dict(zip(clients, mixtures(said, part), strict=True))

    def step(self, probabilities: Tensor, coefficients: Tensor, shares: Tensor) -> Tensor:
        """Makes a step of the coefficients.

        Args:
            probabilities: z, `(K, N, C)`.
            coefficients: c, `(K, K)`.
            shares: `D_k / D`, `(K,)`.
        """
        pull = 2 * self.rho * (coefficients - 1 / len(coefficients))
        gradient = self.lam * shares[:, None] * coefficient_gradient(probabilities, coefficients) + pull
        return project_to_simplex(coefficients - self.lr * gradient)

    def compare(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes `lam T^2` times the cross entropy with the mixture."""
        return self.lam * soft_cross_entropy(logits, targets, self.temperature)
