"""One file per kind of container. What is taken from it is decided by data/layout.py, for all alike."""
