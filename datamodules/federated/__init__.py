"""A data set dealt out to clients: partitions, cohorts, public data."""
