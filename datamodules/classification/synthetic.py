"""Synthetic(alpha, beta): the heterogeneous softmax-regression task of FedProx and FedNova."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from lkd.checks import expect
from lkd.datamodules.classification.classification_datamodule import ClassificationDataModule

FEATURES, CLASSES = 60, 10


class Synthetic(ClassificationDataModule):
    """Batches (x, y): x float (B, 60), y int64 (B,) in 0..9; partition them by `Natural("client")`.

    Client i has int(LogNormal(4, 2)) + 50 samples and, with u_i ~ N(0, alpha) and B_i ~ N(0, beta),
    a model W_i (60, 10), b_i (10,) with entries ~ N(u_i, 1) and a center v_i (60,) with entries ~ N(B_i, 1):

        x ~ N(v_i, diag(j^-1.2)), j = 1..60        y = argmax(W_i' x + b_i)

    As in the code of Li et al., "Federated Optimization in Heterogeneous Networks" (FedProx), MLSys 2020,
    arXiv:1812.06127, Section 5.1, alpha and beta are standard deviations. The numbers drawn differ from
    theirs. Even Synthetic(0, 0) is heterogeneous, since every client has a W_i of its own; `iid` shares one
    and sets v = 0.

    Args:
        alpha: how much the clients' models differ. Default 1.
        beta: how much their inputs differ. Default 1.
        clients: number of clients. Default 30.
        iid: all clients alike; alpha and beta must then be 0.
        fractions: shares (train, val, test) of every client, rounded down except the last.
        batch_size: samples in a batch.
        seed: seed of the data and of the order. A client's data does not depend on the number of clients.
        **kwargs: see `ClassificationDataModule`.

    Raises:
        ValueError: for a negative number, no client, or iid with alpha or beta.

    Example:
        >>> data = Synthetic(1, 1, clients=3)
        >>> data.setup()
        >>> x, y = data.datasets["train"].tensors
        >>> x.shape[1], int(y.max()) < 10, sorted(set(data.datasets["train"].columns["client"].tolist()))
        (60, True, [0, 1, 2])
    """

    mean = std = None  # x is used as it is drawn

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        clients: int = 30,
        iid: bool = False,
        fractions: tuple[float, float, float] = (0.9, 0.0, 0.1),
        batch_size: int = 10,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(fractions=fractions, batch_size=batch_size, seed=seed, **kwargs)
        expect(alpha=alpha, beta=beta, seed=seed, ge=0)
        expect(clients=clients, ge=1)
        if iid and (alpha or beta):
            raise ValueError(
                f"iid=True means that clients are alike: alpha={alpha} and beta={beta} must be 0."
            )
        self.alpha, self.beta, self.clients, self.iid = alpha, beta, clients, iid

    def setup(self, stage: str | None = None) -> None:
        """Draws every client's data."""
        drawn = [self.draw(client) for client in range(self.clients)]
        first, second = self.fractions[0], self.fractions[0] + self.fractions[1]
        ends = [[0, int(first * len(y) + 1e-9), int(second * len(y) + 1e-9), len(y)] for _, y in drawn]
        for k, part in enumerate(("train", "val", "test")):
            rows = [slice(end[k], end[k + 1]) for end in ends]
            x = np.concatenate([x[row] for (x, _), row in zip(drawn, rows, strict=True)])
            y = np.concatenate([y[row] for (_, y), row in zip(drawn, rows, strict=True)])
            client = np.repeat(np.arange(self.clients), [row.stop - row.start for row in rows])
            dataset: Any = TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(y))
            dataset.columns = {"label": y, "client": client}
            self.datasets[part] = dataset

    def draw(self, client: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws all samples of one client: x (n, 60) float64 and y (n,) int64."""
        rng = np.random.default_rng([self.seed, client])
        size = int(rng.lognormal(4, 2)) + 50
        # u before B before W, b, v: with one seed, alpha and beta scale the same numbers
        model, center = self.alpha * rng.standard_normal(), self.beta * rng.standard_normal()
        # a seed of another length is another stream, the same for all clients
        weights = np.random.default_rng([self.seed]) if self.iid else rng
        w = model + weights.standard_normal((FEATURES, CLASSES))
        b = model + weights.standard_normal(CLASSES)
        v = 0.0 if self.iid else center + rng.standard_normal(FEATURES)
        x = v + rng.standard_normal((size, FEATURES)) * np.arange(1, FEATURES + 1) ** -0.6
        return x, (x @ w + b).argmax(1)
