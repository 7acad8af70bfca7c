"""Engines, which decide where and how clients work."""

from lkd.federated.engines.auto import Auto
from lkd.federated.engines.base import Capabilities, Engine
from lkd.federated.engines.loop import Loop
from lkd.federated.engines.nvflare import NVFlare
from lkd.federated.engines.processes import Processes
from lkd.federated.engines.stacked import Stacked

__all__ = ["Auto", "Capabilities", "Engine", "Loop", "NVFlare", "Processes", "Stacked"]
