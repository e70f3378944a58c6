"""Architectures of a pruned model: sizes of each layer, their cost, and the choices of a search. Needs numpy only."""
