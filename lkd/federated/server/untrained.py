"""Warnings of untrained parts of the server's model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lkd.federated.protocol.tensor_names import matches

if TYPE_CHECKING:
    from lkd.federated.federation import Federation

ADVICE = (
    "Read the clients' own metrics, of ClientReport (clients/...) and HeadReport (heads/...); their models are in "
    "federation.models(clients)."
)


def untrained(federation: "Federation", part: str) -> str | None:
    """Explains why metrics of the server's model are not, or not fully, those of a trained one.

    Args:
        federation: The federation.
        part: Data of the metrics: `"val"` or `"test"`.

    Returns:
        The reason, or None where all of the server's model is trained.
    """
    if not federation.trains_server_model:
        why = f"{type(federation.algorithm).__name__} trains no model at the server"
        if federation.algorithm.aggregates_weights:
            why = (
                f"no client has the first architecture (client_models={federation.client_models}), and others have no layers in common "
                "with it"
            )
        return f"{why}: {part}/... is of the weights that clients start from. {ADVICE}"
    if kept := _kept(federation):
        some = ", ".join(kept[:3]) + (", ..." if len(kept) > 3 else "")
        return (
            f"the server's model has the start in {some}, which train at the clients alone: what comes through there is "
            f"untrained in {part}/... . {ADVICE}"
        )
    return None


def _kept(federation: "Federation") -> Sequence[str]:
    """Lists parts of the server's model with weights that clients train but that never reach the server."""
    serves, shared = federation.algorithm.trains_server_model, federation.architectures[0].layout.weights
    if serves is True:
        return []
    trains = [name for name, parameter in federation.model.named_parameters() if parameter.requires_grad]
    kept = [name for name in trains if name not in shared and not matches(name, serves or [])]
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in kept))
