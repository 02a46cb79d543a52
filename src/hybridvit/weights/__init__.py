"""Weights files: our own checkpoint, and everybody else's."""
