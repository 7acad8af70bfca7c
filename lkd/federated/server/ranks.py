"""The processes of one job: the split of clients, and the exchange of tensors and objects."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer
from torch import Tensor

T = TypeVar("T")


class Ranks:
    """Processes of one job; clients are split by id, so that a client's state stays on its rank.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
        device: Device on which tensors are exchanged.

    Example:
        >>> Ranks(rank=1, world_size=2).owns(3), Ranks().gather_objects("a")
        (True, ['a'])
    """

    def __init__(self, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.world_size, self.device = rank, world_size, device

    @classmethod
    def of(cls, trainer: Trainer) -> "Ranks":
        """Describes the processes of a Trainer."""
        return cls(trainer.global_rank, trainer.world_size, trainer.strategy.root_device)

    def owns(self, client: int) -> bool:
        """Tells whether a client works in this process."""
        return client % self.world_size == self.rank

    def gather_tensors(self, tensor: Tensor) -> Sequence[Tensor]:
        """Gathers the tensors of all ranks, of one shape, in rank order."""
        if self.world_size == 1:
            return [tensor]
        received = [torch.empty_like(tensor) for _ in range(self.world_size)]
        torch.distributed.all_gather(received, tensor)
        return received

    def gather_objects(self, value: T) -> list[T]:
        """Gathers the objects of all ranks, in rank order; all ranks must belong to this job."""
        if self.world_size == 1:
            return [value]
        received: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(received, value)
        return received
