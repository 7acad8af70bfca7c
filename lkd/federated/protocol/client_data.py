"""What a federation needs to know of a client: its data."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

Part = Literal["train", "val", "test"]


class ClientData(Protocol):
    """A client as a dataset: `lkd.datamodules.FederatedDataModule` makes these, and so may you.

    Attributes:
        id: Its number, from 0 to the number of all clients less one.
        name: What people call it, such as `"C1"`.
        num_samples: Size `n_i` of its training data.
        share: `p_i = n_i / n`, over all registered clients.
        population: Number of all registered clients.
        probability: `pi_i`, the chance that it is drawn into a cohort; 1 if all always take part.
        public: The data that all clients have, for algorithms that exchange what is said of them; or None.
    """

    id: int
    name: str
    num_samples: int
    share: float
    probability: float
    population: int
    public: "PublicSamples | None"

    def num_batches(self) -> int:
        """Training batches in one local epoch."""

    def train_batches(self, seed: int) -> Iterable[Any]:
        """One shuffled and augmented pass over the training data; all randomness comes from `seed`."""

    def train_places(self, seed: int) -> Sequence[np.ndarray]:
        """Of every batch of `train_batches(seed)`, the places of its samples in `ordered_batches("train")`."""

    def ordered_batches(self, part: Part) -> Iterable[Any]:
        """Every sample of a part once, in order."""

    def has(self, part: Part) -> bool:
        """Whether there is such a part."""

    def pooled(self, others: Sequence["ClientData"]) -> "ClientData":
        """One client with the data of all, for the centralized baseline."""


class PublicSamples(Protocol):
    """The data that all clients have; a sample goes by its number."""

    def __len__(self) -> int:
        """Number of samples."""

    def batches(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterable[Any]:
        """The inputs of these samples, in this order, without labels: a tensor `(B, ...)` or a dict."""

    def whole(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterable[Any]:
        """The same as the data set gives them, with labels or without; where it is left out, `batches` are asked."""

    def labeled(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterable[Any]:
        """The same with labels, as the data set gives them, for who asks for them; ValueError where there are none."""
