"""Reuse of answers in `predict SOURCE` while a scene stands still, with what it saves and costs."""
