"""What sites are told to begin with: the federation as plain values, and what the server's own is like."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lkd.federated.engines.plan import Plan
from lkd.federated.protocol.description import Description
from lkd.federated.protocol.tensor_names import split_names
from lkd.federated.protocol.tensors import shapes


def fitting(trainer: Trainer) -> bool:
    """Tells whether a Trainer fits, and does not only measure."""
    return trainer.state.fn == TrainerFn.FITTING


def begin_command(trainer: Trainer, description: Description, plan: Plan, population: int) -> dict[str, Any]:
    """Returns the command that all sites have in common.

    Args:
        trainer: The federation's Trainer.
        description: The server's federation.
        plan: The same as plain values.
        population: Number of all clients.
    """
    fits = fitting(trainer)
    place = {
        "precision": str(trainer.precision),
        "max_epochs": trainer.max_epochs,
        "rounds": float(trainer.estimated_stepping_batches) if fits else 0.0,
        "fits": fits,
    }
    return {
        "do": "begin",
        "plan": {"model": plan["model"], "callbacks": plan["callbacks"]},
        "place": place,
        "population": population,
        "like": description.summary([_travel(m, description.personal_layers) for m in description.models]),
    }


def _travel(model: Any, personal: Sequence[str]) -> dict[str, list[Any]]:
    names = split_names(model, model, personal)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return shapes({name: tensors[name] for name in [*names.shared, *names.buffers]})
