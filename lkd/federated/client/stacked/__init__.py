"""Clients of one architecture as one tensor program: what stacks, how it trains, and what it replies."""
