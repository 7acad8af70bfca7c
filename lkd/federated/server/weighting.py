"""Weighting: how much a client's reply counts in a mean, layer by layer."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal

from torch import nn

from lkd.federated.protocol.client_data import ClientInfo

Weighting = Literal["samples", "uniform", "present"]


class Weighing:
    """Weights of replies in a mean.

    Args:
        how: `"samples"`: the client's number of training samples n_i. `"uniform"`: 1. `"present"`: n_i, and
            for a layer of one modality the number of samples that have it. Such layers are entries of a
            `torch.nn.ModuleDict` (or `ParameterDict`) whose keys are all modalities, as the encoders of
            `lkd.models.Multimodal` are.
        cohort: The clients that take part.
        models: The clients' architectures.

    Raises:
        ValueError: For `"present"` with clients that do not list modalities, or with models without layers by
            modality.

    Example:
        >>> from types import SimpleNamespace
        >>> network = nn.ModuleDict({"encoders": nn.ModuleDict({"watch": nn.Linear(3, 2)}), "head": nn.Linear(2, 2)})
        >>> weighing = Weighing("present", [SimpleNamespace(present={"watch": 5})], [network])
        >>> weighing.modality_of("encoders.watch.weight"), weighing.modality_of("head.weight")
        ('watch', '')
    """

    def __init__(
        self, how: Weighting, cohort: Iterable[ClientInfo], models: Sequence[nn.Module] = ()
    ) -> None:
        self.how = how
        modalities: set[str] = set()
        for client in cohort if how == "present" else ():
            told: Any = getattr(client, "present", None)
            if not told:
                raise ValueError(
                    f"weighting='present' needs clients that tell how many samples have each modality, as those of "
                    f"FederatedDataModule(plan=ModalityPlan(...)) do; client {client.name} does not."
                )
            modalities |= told.keys()
        self._owner = {name: m for model in models if modalities for name, m in _layers(model, modalities)}
        if modalities and not self._owner:
            raise ValueError(
                f"weighting='present' needs a model with a ModuleDict by modality ({', '.join(sorted(modalities))}), as "
                f"lkd.models.Multimodal is; {type(models[0]).__name__ if models else 'there'} has none."
            )

    def __call__(self, client: ClientInfo) -> float:
        """Returns the weight of a client's reply."""
        return 1.0 if self.how == "uniform" else float(client.num_samples)

    def modality_of(self, name: str) -> str:
        """Returns the modality whose samples weight a tensor, by the tensor's name; "" if all samples do."""
        above = accumulate(name.split("."), lambda path, part: f"{path}.{part}")
        return next((self._owner[path] for path in above if path in self._owner), "")

    def share(self, client: ClientInfo, modality: str) -> float:
        """Returns the share of a client's samples that have a modality."""
        return client.present.get(modality, 0) / client.num_samples if modality else 1.0


def _layers(model: nn.Module, modalities: set[str]) -> Iterable[tuple[str, str]]:
    """Yields names of modules that belong to one modality, with the modality."""
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.ModuleDict | nn.ParameterDict)
            and len(module)
            and modalities.issuperset(module)
        ):
            yield from ((f"{name}.{m}".lstrip("."), m) for m in module)
