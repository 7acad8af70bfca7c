"""Pictures and vectors with one label each."""
