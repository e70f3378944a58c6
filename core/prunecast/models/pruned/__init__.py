"""Pruned models as classes of transformers: the modelling code of exports, and exports as models to prune again."""
