"""Reuse of earlier answers while a scene stands still, without torch or a network."""

from lkd.edge.reuse.result_cache import Kept, Look, ResultCache, answered_by

__all__ = ["Kept", "Look", "ResultCache", "answered_by"]
