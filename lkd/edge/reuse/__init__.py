"""Reuse of earlier answers while a scene stands still, without torch or a network."""

from lkd.edge.reuse.result_cache import KeptAnswer, Look, ResultCache, answered_by

__all__ = ["KeptAnswer", "Look", "ResultCache", "answered_by"]
