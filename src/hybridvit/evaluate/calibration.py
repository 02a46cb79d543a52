"""How far a model's confidence can be trusted."""
