"""Samples of several modalities: who has which, what is missing, and how that is dealt out."""
