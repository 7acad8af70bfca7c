"""Ridge regression in closed form, with a penalty chosen by leave-one-out."""

import numpy as np

from lkd.edge.nms import Array

PENALTIES: Array = np.logspace(-2, 5, 29)


class Ridge:
    """Regression that minimizes `|y - b - Z w|^2 + penalty |w|^2` over the standardized columns Z of x.

    The residual of a row that is left out is `e_i / (1 - h_i)`, with the residual e of the fit on all rows
    and the diagonal h of the hat matrix (Hastie, Tibshirani, Friedman, "The Elements of Statistical
    Learning", 2nd edition, eq. 7.64). The columns are standardized once, with all rows.

    Args:
        x: Features `(M, F)`.
        y: Targets `(M,)`.
        penalties: Penalties to choose from.

    Raises:
        ValueError: For fewer than three rows.

    Example:
        >>> x = np.arange(6.0)[:, None]
        >>> Ridge(x, 2 * x[:, 0] + 1)(np.array([[10.0]])).round(1).tolist()
        [21.0]
    """

    def __init__(self, x: Array, y: Array, penalties: Array = PENALTIES) -> None:
        if len(x) < 3:
            raise ValueError(
                f"a learned gate needs three calibration samples or more, and there are {len(x)}."
            )
        self.mean, self.std = x.mean(0), x.std(0)
        self.std[self.std < 1e-9] = np.inf  # so that a constant column has no effect
        u, s, v = np.linalg.svd((x - self.mean) / self.std, full_matrices=False)
        self.bias = y.mean()
        parts = u.T @ (y - self.bias)
        errors = []
        for penalty in penalties:
            kept = s**2 / (s**2 + penalty)
            leverage = 1 / len(x) + (u**2 * kept).sum(1)
            residual = y - self.bias - u @ (kept * parts)
            errors.append(((residual / (1 - leverage).clip(1e-9)) ** 2).mean())
        self.penalty = float(penalties[int(np.argmin(errors))])
        self.weights = v.T @ (s / (s**2 + self.penalty) * parts)

    def __call__(self, x: Array) -> Array:
        """Estimates `(M,)` for rows `(M, F)`."""
        found: Array = (x - self.mean) / self.std @ self.weights + self.bias
        return found
