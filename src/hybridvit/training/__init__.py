"""Training: the loop, its state, optimiser, mixing, averaging."""
