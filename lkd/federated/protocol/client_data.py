"""What a federation needs to know of a client: its data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np

Part = Literal["train", "val", "test"]
NO_PUBLIC = (
    "this algorithm exchanges what clients say of public data, and there are none: FederatedDataModule(public=0.1) holds "
    "out a tenth of the training set; another LightningDataModule serves too."
)


@dataclass(frozen=True)
class ClientInfo:
    """All that the server knows of a client; its data stay where they are.

    Attributes:
        id: Its number, from 0 to the number of all clients less one.
        name: What people call it, such as `"C1"`.
        num_samples: Size `n_i` of its training data.
        num_batches: Training batches in one local epoch.
        share: `p_i = n_i / n`, over all registered clients.
        probability: `pi_i`, the chance that it is drawn into a cohort; 1 if all always take part.
        population: Number of all registered clients.
        parts: Which of `"train"`, `"val"` and `"test"` it has data of.
        present: How many training samples have each modality; empty where that is not known.
        public: Number of public samples that it has, too.

    Example:
        >>> info = ClientInfo(0, "C1", 8, 2, parts=("train", "val"))
        >>> info.has("test"), ClientInfo.of_dict(info.as_dict()) == info
        (False, True)
    """

    id: int
    name: str
    num_samples: int
    num_batches: int
    share: float = 1.0
    probability: float = 1.0
    population: int = 1
    parts: tuple[Part, ...] = ("train",)
    present: Mapping[str, int] = field(default_factory=dict)
    public: int = 0

    @classmethod
    def of(cls, client: "ClientData") -> "ClientInfo":
        """What is told of a client's data.

        Raises:
            ValueError: If it does not say all of it, as a client of a user's own may.
        """
        lacks = [
            n for n in ("name", "num_samples", "share", "probability", "population") if not hasattr(client, n)
        ]
        if lacks:
            raise ValueError(
                f"client {client.id} has no `{lacks[0]}`: clients of your own tell what lkd.federated.ClientData names."
            )
        return cls(
            id=int(client.id),
            name=str(client.name),
            num_samples=int(client.num_samples),
            num_batches=int(client.num_batches()),
            share=float(client.share),
            probability=float(client.probability),
            population=int(client.population),
            parts=tuple(part for part in get_args(Part) if client.has(part)),
            present=dict(getattr(client, "present", None) or {}),
            public=len(getattr(client, "public", None) or ()),
        )

    def has(self, part: Part) -> bool:
        """Whether it has data of a part."""
        return part in self.parts

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which JSON can say."""
        return {**asdict(self), "parts": list(self.parts), "present": dict(self.present)}

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> "ClientInfo":
        """The way back."""
        return cls(**{**values, "parts": tuple(values["parts"])})


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


def kind_of(client: int, architectures: int, client_models: Sequence[int] | None) -> int:
    """Which architecture a client has: what it is assigned, or else one after the other, in turns.

    Args:
        client: Its id.
        architectures: How many there are.
        client_models: Architecture of every client, by its id.

    Raises:
        ValueError: If `client_models` has no entry for it.

    Example:
        >>> kind_of(3, 2, None), kind_of(1, 2, [0, 0])
        (1, 0)
    """
    if client_models is None:
        return client % architectures
    if client >= len(client_models):
        raise ValueError(f"client_models has {len(client_models)} entries, none for client {client}.")
    return client_models[client]
