"""Prediction on pictures, folders and streams, by a checkpoint or an exported file."""
