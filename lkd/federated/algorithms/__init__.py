"""Algorithms, one file each with its paper in the docstring; `lkd.federated` offers them all."""
