"""A client's data, and what a federation knows of them."""

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
    """Everything that the server knows of a client; the data stay with the client.

    Attributes:
        id: Number of the client, from 0 to the number of all clients less one.
        name: Name for people, such as `"C1"`.
        num_samples: Size `n_i` of its training data.
        num_batches: Training batches in one local epoch.
        share: `p_i = n_i / n`, over all registered clients.
        probability: `pi_i`, the chance that it is drawn into a cohort; 1 if all clients always take part.
        population: Number of all registered clients.
        parts: Those of `"train"`, `"val"` and `"test"` that it has data of.
        present: Numbers of training samples that have each modality; empty where that is not known.
        public: Number of public samples that it has.

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
        """Describes a client's data.

        Args:
            client: The client.

        Raises:
            ValueError: If it lacks an attribute, as a client of your own may.
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
        """Tells whether it has data of a part."""
        return part in self.parts

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes as plain values, which JSON can hold."""
        return {**asdict(self), "parts": list(self.parts), "present": dict(self.present)}

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> "ClientInfo":
        """Restores a description from the values of `as_dict`."""
        return cls(**{**values, "parts": tuple(values["parts"])})


class ClientData(Protocol):
    """Protocol of a client as a dataset; `lkd.datamodules.FederatedDataModule` makes such clients.

    A class of your own may implement it, too.

    Attributes:
        id: Number of the client, from 0 to the number of all clients less one.
        name: Name for people, such as `"C1"`.
        num_samples: Size `n_i` of its training data.
        share: `p_i = n_i / n`, over all registered clients.
        population: Number of all registered clients.
        probability: `pi_i`, the chance that it is drawn into a cohort; 1 if all clients always take part.
        public: The data that all clients have, for algorithms that exchange knowledge about them; or None.
    """

    id: int
    name: str
    num_samples: int
    share: float
    probability: float
    population: int
    public: "PublicSamples | None"

    def num_batches(self) -> int:
        """Returns the number of training batches in one local epoch."""

    def train_batches(self, seed: int) -> Iterable[Any]:
        """Yields one shuffled and augmented pass over the training data; all randomness comes from `seed`."""

    def train_places(self, seed: int) -> Sequence[np.ndarray]:
        """Gives the places in `ordered_batches("train")` of every sample of `train_batches(seed)`."""

    def ordered_batches(self, part: Part) -> Iterable[Any]:
        """Yields every sample of a part once, in order, in batches."""

    def has(self, part: Part) -> bool:
        """Tells whether the client has data of a part."""

    def pooled(self, others: Sequence["ClientData"]) -> "ClientData":
        """Returns one client with the data of all, for the centralized baseline."""


class PublicSamples(Protocol):
    """Protocol of the data that all clients have; a sample is named by its number."""

    def __len__(self) -> int:
        """Returns the number of samples."""

    def batches(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterable[Any]:
        """Yields the inputs of these samples, in this order, without labels: tensors `(B, ...)` or dicts."""

    def whole(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterable[Any]:
        """Yields these samples as the data set gives them; without this method, `batches` is used."""

    def labeled(self, rows: Sequence[int] | np.ndarray, batch_size: int) -> Iterable[Any]:
        """Yields these samples with labels, as the data set gives them; ValueError where there are none."""


def kind_of(client: int, architectures: int, client_models: Sequence[int] | None) -> int:
    """Returns the architecture of a client: as assigned, or else in turns.

    Args:
        client: Id of the client.
        architectures: Number of architectures.
        client_models: Architecture of every client, by its id; None for turns.

    Raises:
        ValueError: If `client_models` has no entry for the client.

    Example:
        >>> kind_of(3, 2, None), kind_of(1, 2, [0, 0])
        (1, 0)
    """
    if client_models is None:
        return client % architectures
    if client >= len(client_models):
        raise ValueError(f"client_models has {len(client_models)} entries, none for client {client}.")
    return client_models[client]
