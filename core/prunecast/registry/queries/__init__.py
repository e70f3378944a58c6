"""Queries of a registry, one module a question. The order of rows is fixed: the same file gives the same answer."""
