"""Check that clients own modalities that their architectures take."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.protocol.client_data import ClientData, ClientInfo
from lkd.federated.server.architectures import Architectures


def check_owned(architectures: Architectures, clients: Iterable[ClientData | ClientInfo]) -> None:
    """Refuses, before any training, a client with samples of which its architecture takes no modality.

    Clients list their samples per modality in `present` (`lkd.datamodules.FederatedDataModule` with a
    `ModalityPlan`), networks list their modalities in `modalities` (`lkd.models.Multimodal`). If one of the
    two is missing, nothing is checked.

    Args:
        architectures: All architectures.
        clients: All clients.

    Raises:
        ValueError: If there is such a client.
    """
    seen = [_modalities(model) for model in architectures.models]
    for client in clients if any(seen) else ():
        told: dict[str, int] = getattr(client, "present", None) or {}
        kind = architectures.kind_of(client.id)
        if not told or not seen[kind] or sum(told.get(m, 0) for m in seen[kind]) >= client.num_samples:
            continue
        owned = [m for m, count in told.items() if count]
        which = "model" if kind == 0 else f"other_models[{kind - 1}]"
        raise ValueError(
            f"client {client.name} has samples with {', '.join(owned)}, but some or all with none of the modalities that its "
            f"architecture ({which}) sees, which are {', '.join(seen[kind])}: give ModalityPlan and Federation the same assign, and "
            "each architecture the encoders of its type."
        )


def warn_of_unowned(architectures: Architectures, clients: Iterable[ClientData | ClientInfo]) -> None:
    """Warns of modalities that the networks take and of which no client has a sample: nobody trains their encoders.

    Args:
        architectures: All architectures.
        clients: All clients; nothing is known where they do not list `present`.
    """
    seen = [_modalities(model) for model in architectures.models]
    trained, some = set[str](), False
    for client in clients if any(seen) else ():
        told: dict[str, int] = getattr(client, "present", None) or {}
        if not told:
            return
        some = True
        trained |= {m for m in seen[architectures.kind_of(client.id)] if told.get(m)}
    if some and (never := [m for m in dict.fromkeys(m for ours in seen for m in ours) if m not in trained]):
        rank_zero_warn(
            f"no client has samples with {', '.join(never)}, so nobody trains what the networks have for that, and all that they say of "
            f"samples with {never[0]}, such as val/..., depends on its start: leave it out of the encoders, or let a type of the "
            "ModalityPlan have it."
        )


def _modalities(model: Any) -> tuple[str, ...]:
    return next((tuple(m.modalities) for m in model.modules() if hasattr(m, "modalities")), ())
