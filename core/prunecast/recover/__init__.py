"""Recovery: the chosen architecture is trained after pruning."""
