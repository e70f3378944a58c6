"""Models: their sources and families, the elastic model, and the sensitivities of its loss."""
