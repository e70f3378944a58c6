"""Architectures of a model: what each layer keeps, what that costs, and how a search changes it. Needs numpy only."""
