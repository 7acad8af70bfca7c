"""Former place of the partitions, which `lkd.datamodules` has: `from lkd.datamodules import Partition`."""

from lkd.datamodules.federated.partitions import IID, LogNormal, Natural, Partition, PowerLaw
from lkd.former_names import tell

__all__ = ["IID", "LogNormal", "Natural", "Partition", "PowerLaw"]

tell("lkd.datamodules.partitions", "lkd.datamodules")
