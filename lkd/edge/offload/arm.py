"""`Arm`: another way than the cascade to share the work, whose rows stand in the same report."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lightning.pytorch import LightningDataModule

from lkd.edge.offload.link import Link
from lkd.edge.offload.point import Point


@dataclass(frozen=True)
class Site:
    """What all arms of a report share, without which their rows could not be compared.

    Attributes:
        data: Whose validation data choose thresholds, and whose test data are measured.
        link: Between device and server.
        fps: Samples a second of the device; None if each comes when the one before is answered, so that none waits.
        workers: Samples that the server works on at once.
        server_speed: How many times faster the server is than this machine, on which all times are measured.
        threads: Of PyTorch, while times are measured.
        seed: Of what is drawn.
    """

    data: LightningDataModule
    link: Link
    fps: float | None = None
    workers: int = 1
    server_speed: float = 1.0
    threads: int = 1
    seed: int = 0


class Arm(ABC):
    """A way to share the work between device and server, trained already or by its own recipe."""

    @abstractmethod
    def prepare(self) -> None:
        """Looks for what it needs, and makes it by its recipe, before anything else takes long."""

    @abstractmethod
    def points(self, site: Site) -> Sequence[Point]:
        """Its rows, of the test data."""
