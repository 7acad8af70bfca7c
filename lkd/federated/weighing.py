"""How much a client's reply counts in a mean, layer by layer."""

from collections.abc import Iterable
from typing import Any, Literal

from lkd.federated.client import Client

Weighting = Literal["samples", "uniform", "present"]


class Weighing:
    """Weights of replies.

    Args:
        how: `"samples"`: the client's number of training samples n_i. `"uniform"`: 1. `"present"`: n_i, and for a layer of one
            modality the number of those samples that have it; which layers these are, their names say
            (`network.encoders.watch_acc.0.weight` has the name of a modality between two dots).
        cohort: Who takes part.

    Raises:
        ValueError: For `"present"` with clients that do not tell.

    Example:
        >>> Weighing("samples", []).modality_of("network.encoders.watch_acc.weight")
        ''
    """

    def __init__(self, how: Weighting, cohort: Iterable[Client]) -> None:
        self.how = how
        self._modalities: frozenset[str] = frozenset()
        for client in cohort if how == "present" else ():
            told: Any = getattr(client, "present", None)
            if not told:
                raise ValueError(
                    f"weights='present' needs clients that tell how many samples have each modality, as those of "
                    f"FederatedDataModule(plan=ModalityPlan(...)) do; client {client.name} does not."
                )
            self._modalities |= told.keys()

    def __call__(self, client: Client) -> float:
        """Weight of a reply."""
        return 1.0 if self.how == "uniform" else float(client.num_samples)

    def modality_of(self, name: str) -> str:
        """The modality whose samples weigh a tensor, by the tensor's name; "" if all samples do."""
        return next((part for part in name.split(".") if part in self._modalities), "")

    def share(self, client: Client, modality: str) -> float:
        """The share of a client's samples that have a modality."""
        return client.present.get(modality, 0) / client.num_samples if modality else 1.0  # type: ignore[attr-defined]
