"""Whom a distillation attaches to: the fitted module, or the clients' of a federation."""

from lightning.pytorch import LightningModule

from lkd.federated import Federation
from lkd.federated.client.elsewhere import Students


def is_of_clients(module: LightningModule) -> bool:
    """Returns whether a module is a federation, or stands in for one in a process where its clients work."""
    return isinstance(module, Federation | Students)


def taught(module: LightningModule) -> list[LightningModule]:
    """Returns the modules that a distillation attaches to: clients' in this process, or the module itself."""
    if isinstance(module, Federation) and not module.engine.capabilities.shares_memory:
        return []  # the clients work in other processes, and the callback is there too
    return module.students if isinstance(module, Federation | Students) else [module]
