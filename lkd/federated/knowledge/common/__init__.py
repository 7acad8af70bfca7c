"""Helpers that several algorithms of `lkd.federated.knowledge` share."""
