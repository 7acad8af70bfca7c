"""Answers given again in `predict SOURCE` while a scene stands still, and what that saves and costs."""
