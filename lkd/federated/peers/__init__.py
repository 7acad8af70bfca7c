"""Decentralized learning: peers on a communication graph, without a server that holds a model."""
