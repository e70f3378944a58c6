"""Sharing of registries: records in files, merging, and data sets on the Hub."""
