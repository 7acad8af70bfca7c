"""One file an algorithm, its paper in the docstring; all are offered by `lkd.federated`."""
