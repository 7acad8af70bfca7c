"""Samples of several modalities: which client has which, what is missing, and how it is dealt out."""
