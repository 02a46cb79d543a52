"""Models made fast: folded, exported, quantised, measured."""
