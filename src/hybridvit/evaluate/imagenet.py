"""ImageNet's further test sets: ReaL labels, V2, -A, -R and -C."""
