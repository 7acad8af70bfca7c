"""Federated distillation: clients of any architecture exchange knowledge in place of weights."""
