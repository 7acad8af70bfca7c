"""How unlike two distributions over classes are: CE, KL, JS, triangular, SED and MSED, sample by sample.

Every function takes log-probabilities `(..., C)`, the student's p first and the teacher's q second, sums over
the classes and returns `(...)`. A probability of exactly zero, a logarithm of -inf, is allowed.
"""

import math

import torch
from torch import Tensor

LOG_ZERO = -1e30
"""Finite stand-in for the logarithm of zero: its exponential is exactly zero, and so are its gradients."""


def soft_cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes `-sum_c q log p`; infinite where p is exactly zero and q is not.

    Example:
        >>> soft_cross_entropy(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log())
        tensor(0.6931)
    """
    q = log_q.exp()
    return -torch.where(q == 0, 0.0, q * log_p).sum(-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes `KL(q ‖ p) = sum_c q log(q / p)`; infinite where p is exactly zero and q is not.

    Example:
        >>> kl_divergence(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log())
        tensor(0.6931)
    """
    q = log_q.exp()
    return torch.where(q == 0, 0.0, q * (log_q - log_p)).sum(-1)


def js_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes `JS = KL(p ‖ m) / 2 + KL(q ‖ m) / 2` with `m = (p + q) / 2`, between 0 and log 2.

    Example:
        >>> js_divergence(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log())
        tensor(0.6931)
    """
    return _generalized_js([log_p, log_q])


def triangular_discrimination(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes `TD = 1 - sum_c 2 p q / (p + q)`, between 0 and 1.

    It is computed in the equal form `sum_c (p - q) / 2 tanh((log p - log q) / 2)`, which divides by nothing
    and loses no digits where p and q are close.

    Example:
        >>> triangular_discrimination(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log())
        tensor(0.3333)
    """
    log_p, log_q = _finite(log_p), _finite(log_q)
    return ((log_p.exp() - log_q.exp()) * ((log_p - log_q) / 2).tanh()).sum(-1) / 2


def structural_entropic_distance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes `SED = C(m) / sqrt(C(p) C(q)) - 1` with `C(p) = exp(H(p))`, between 0 and 1.

    m is the mean of p and q, and H the entropy in nats. It is exactly `exp(JS) - 1`, and is computed as that.

    Example:
        >>> structural_entropic_distance(torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log())
        tensor(1.)
    """
    return js_divergence(log_p, log_q).expm1()


def multivariate_sed(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes `MSED = (C(m) / prod_i C(p_i)^(1/n) - 1) / (n - 1)` of n distributions, between 0 and 1.

    The n distributions are the student's and the K = n - 1 teachers', m is their mean. With one teacher it
    is `structural_entropic_distance`.

    Args:
        log_p: The student's log-probabilities `(..., C)`.
        log_q: The teachers' `(..., K, C)`.

    Returns:
        The measure `(...)`.

    Example:
        >>> teachers = torch.eye(3)[1:].log()
        >>> multivariate_sed(torch.eye(3)[0].log(), teachers)
        tensor(1.)
    """
    teachers = list(log_q.unbind(-2))
    return _generalized_js([log_p, *teachers]).expm1() / len(teachers)


def _generalized_js(logs: list[Tensor]) -> Tensor:
    """Returns `H(m) - mean_i H(p_i)`, as the mean of `KL(p_i ‖ m)`."""
    stacked = torch.stack([_finite(log) for log in logs])
    mean = stacked.logsumexp(0) - math.log(len(logs))
    return (stacked.exp() * (stacked - mean)).sum(-1).mean(0)


def _finite(log: Tensor) -> Tensor:
    return log.masked_fill(log == -math.inf, LOG_ZERO)
