"""Two models, or a model and recorded answers, held against each other."""
