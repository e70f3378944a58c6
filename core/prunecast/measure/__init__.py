"""Measurement: from a spec to an elastic model, and from an architecture to numbers that the registry keeps."""
