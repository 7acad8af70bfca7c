"""Where clients work: each engine answers the same call, `exchange(verb, messages)`."""

from lkd.federated.engines.loop import LoopEngine

__all__ = ["LoopEngine"]
