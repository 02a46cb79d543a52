"""hybridvit data: look at a data set before training on it."""
