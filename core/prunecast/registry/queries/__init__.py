"""Queries of a registry, one module for each. The order of rows is fixed: the same file gives the same answer."""
