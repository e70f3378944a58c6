"""Upkeep of a registry: verification, and removal of what is no longer needed."""
