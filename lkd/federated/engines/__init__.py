"""Where clients work: each engine answers the same call, `exchange(verb, messages)`."""

from lkd.federated.engines.loop import OWN, LoopEngine

__all__ = ["OWN", "LoopEngine"]
