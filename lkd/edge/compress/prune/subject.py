"""The parts of a module that are pruned: its networks, and how one is called."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lkd.distillation.own_call import own_call
from lkd.metrics.flops import FlopCount
from lkd.modules import Detector, MultimodalClient
from lkd.nested import on_tensors
from lkd.taps import Call

INNER = ("feats",)
"""Entries of a detector's raw outputs that are inner maps, whose channels may be removed."""


@dataclass(frozen=True)
class Subject:
    """Networks of one architecture, which are pruned alike.

    Attributes:
        networks: The networks by their names in the module; several are copies, such as one for each camera.
        call: Arguments of a network, one sample of the training data.
        fixed: Names of parts of a network whose channels stay.
    """

    networks: dict[str, nn.Module]
    call: Call
    fixed: tuple[str, ...] = ()

    @property
    def first(self) -> nn.Module:
        """One of the networks."""
        return next(iter(self.networks.values()))

    def outputs(self, network: nn.Module) -> list[Tensor]:
        """Returns the outputs of a network whose form has to stay: floating-point tensors.

        Args:
            network: One of the networks, or a copy of it.
        """
        found: Any = network(*self.call.args, **self.call.kwargs)
        if isinstance(found, dict):
            found = {key: value for key, value in found.items() if key not in INNER}
        return [one for one in tree_leaves(found) if isinstance(one, Tensor) and one.is_floating_point()]

    @torch.no_grad()
    def macs(self, network: nn.Module) -> int:
        """Counts the multiply-accumulates of the sample, by torch's own formulas."""
        with FlopCount() as count:
            self.outputs(network.eval())
        return count.total // 2


def subject_of(module: LightningModule, batch: Any) -> Subject:
    """Returns what is pruned of a module.

    Args:
        module: The module. Of a `Detector` it is the network, or each camera's; of a `MultimodalClient` the
            encoders; of another module all of it.
        batch: A batch of the training data.
    """
    if isinstance(module, Detector):
        owners = {id(network): name for name, network in module.named_modules()}
        networks = {owners[id(network)]: network for network in module.networks()}
        return Subject(networks, _one(Call((batch["images"],), {})))
    if isinstance(module, MultimodalClient):
        parts = (name for name, _ in module.network.named_children() if name != "encoders")
        drawn = torch.Generator().manual_seed(0)  # random, as a sample of the data may lack a modality
        inputs = {m: torch.randn(1, *shape, generator=drawn) for m, shape in module.network.shapes.items()}
        return Subject({"network": module.network}, Call((inputs,), {}), tuple(parts))
    return Subject({"": module}, _one(own_call(module, batch)))


def layers_below(network: nn.Module, names: tuple[str, ...]) -> Iterator[nn.Module]:
    """Yields all layers of parts of a network.

    Args:
        network: The network.
        names: Names of the parts.

    Raises:
        ValueError: If there is no such part.
    """
    for name in names:
        try:
            yield from network.get_submodule(name).modules()
        except AttributeError as error:
            near = ", ".join(child for child, _ in network.named_children())
            raise ValueError(
                f"ignore: {type(network).__name__} has no layer {name!r}; it begins with {near}."
            ) from error


def _one(call: Call) -> Call:
    """Returns the call with the first sample of each tensor."""
    first: Call = on_tensors(lambda tensor: tensor[:1] if tensor.ndim else tensor, call)
    return first
