"""Evaluation: reads, never trains."""
