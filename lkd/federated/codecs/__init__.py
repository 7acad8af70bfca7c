"""Forms in which clients' changes of the weights travel, in fewer bytes."""
