"""Upkeep of a registry: verification, and removal of runs and unreferenced rows."""
