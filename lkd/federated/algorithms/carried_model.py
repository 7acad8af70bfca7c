"""A model with weights that a client carries while it trains, such as those that the server sent."""

from typing import Any

from lightning.pytorch import LightningModule
from torch import nn
from torch.func import functional_call

from lkd.copies import copied
from lkd.federated.client.context import CARRIED, scratch_of
from lkd.federated.protocol.tensors import Tensors


class CarriedModel(nn.Module):
    """Copy of a client's model, whose weights and buffers are those in `ClientContext.carried`.

    They are not loaded, so that the clients of a stack each have their own. Before a client works, they are
    those of the copy.

    Args:
        module: The module that trains.
        name: Stands before the names of the carried tensors.
    """

    trains: LightningModule

    def __init__(self, module: LightningModule, name: str) -> None:
        super().__init__()
        self.model, self.name = copied(module, "model"), name
        vars(self)["trains"] = module  # not as a layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model's forward with the carried tensors."""
        carried, start = scratch_of(self.trains).get(CARRIED, {}), f"{self.name}."
        given = {name.removeprefix(start): t for name, t in carried.items() if name.startswith(start)}
        return functional_call(self.model, given, args, kwargs)


def carry(carried: Tensors, name: str, tensors: Tensors) -> None:
    """Lets a client carry the tensors of its `CarriedModel` of this name."""
    carried.update({f"{name}.{key}": tensor for key, tensor in tensors.items()})
