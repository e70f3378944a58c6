"""Folders that prunecast writes into beside files of others: it changes its own files only, all of them or none."""
