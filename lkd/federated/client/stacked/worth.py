"""Whether stacking pays: a rule by measurements, `benchmarks/engines.py`, on a CPU."""

from typing import TYPE_CHECKING

from lkd.federated.client.model_slot import ModelSlot
from lkd.federated.client.stacked.reasons import why_not

if TYPE_CHECKING:
    from lkd.federated.algorithms.base import Algorithm

FEWEST = 8
"""Clients from which a stack pays: with fewer, stacking and dealing cost what it saves."""
WEIGHTS = 40_000
"""Weights up to which it pays, in the mean over a model's weight tensors. A stack saves calls, of which there are
so many for each tensor; but larger tensors of all clients do not stay in the cache from step to step."""
OPERATIONS = 18e6
"""Floating-point operations of a step, forward and backward, up to which it pays, in the same mean. Beyond,
arithmetic costs more than calls, and convolutions with weights of each client are slower than with common ones."""


def why_not_worth(slot: ModelSlot, algorithm: "Algorithm") -> str | None:
    """Returns why the clients of an architecture should train one after the other; None if a stack may pay.

    It looks at the configuration alone, so that a resumed run comes to the same.

    Args:
        slot: The architecture's module, with its optimizer and loop.
        algorithm: The federation's algorithm.
    """
    trainer, device = slot.loop.trainer, slot.module.device
    if trainer.world_size > 1:
        return f"the clients are spread over {trainer.world_size} ranks"
    if device.type != "cpu":
        return f"what a stack saves was measured on CPUs, and not on {device.type}"
    each = size(slot) / _tensors(slot)
    if each > WEIGHTS:
        return f"{name(slot)} has {each:,.0f} weights a tensor, and up to {WEIGHTS:,} pay"
    return why_not(slot, algorithm)


def too_much(slot: ModelSlot, operations: float) -> str | None:
    """Returns why a client's step is too much work to be stacked; None if it is not.

    Args:
        slot: The architecture.
        operations: Floating-point operations of a step, forward and backward.
    """
    each = operations / _tensors(slot)
    if each <= OPERATIONS:
        return None
    return (
        f"a step of {name(slot)} takes {each / 1e6:,.0f} million operations for each weight tensor, and up to "
        f"{OPERATIONS / 1e6:.0f} million pay"
    )


def size(slot: ModelSlot) -> int:
    """Returns the number of an architecture's weights."""
    return sum(p.numel() for p in slot.module.parameters())


def _tensors(slot: ModelSlot) -> int:
    return max(1, sum(1 for _ in slot.module.parameters()))


def name(slot: ModelSlot) -> str:
    """Returns the name of an architecture for people: that of its network, if it has one."""
    return type(getattr(slot.module, "network", slot.module)).__name__
