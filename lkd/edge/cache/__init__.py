"""A teacher's answers, kept on disk: the store, how answers are written, and the verb `cache`."""

from lkd.edge.cache.store import Store

__all__ = ["Store"]
