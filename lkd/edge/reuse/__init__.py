"""Answers of earlier pictures for scenes that stand still: neither torch nor a network is needed."""

from lkd.edge.reuse.result_cache import Kept, Look, ResultCache, answered_by

__all__ = ["Kept", "Look", "ResultCache", "answered_by"]
