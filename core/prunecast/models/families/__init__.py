"""Families of models: their descriptions as data, the parts of a layer they name, and the sizes these have."""
