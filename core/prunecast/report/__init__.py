"""Report of a finished run: one HTML page and its pictures, made from the registry without loading a model."""
