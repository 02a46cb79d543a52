"""hybridvit compare: several runs on one page."""
